//! What the suites of real clients share: a server in this process, the example programs, and child processes that end
//! with their test.
//!
//! Everything here blocks: the tests are plain functions, and the server has threads of its own.

#![allow(dead_code, unused_imports, reason = "no suite uses all of it")]

mod directory;
mod example;
pub(crate) mod news;
mod process;
mod redis;
#[path = "../../ws-hub-redis/tests/redis/redis_cluster.rs"]
mod redis_cluster;
mod server;

use std::time::Duration;

pub(crate) use directory::Directory;
pub(crate) use example::{Example, executable};
pub(crate) use process::{Process, signal};
pub(crate) use redis::Redis;
pub(crate) use redis_cluster::RedisCluster;
pub(crate) use server::Server;

/// How long anything may take: far more than it does on a busy machine, so that only what never comes is missed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

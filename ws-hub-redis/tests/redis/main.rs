//! A [`RedisBackplane`](ws_hub_redis::RedisBackplane) over a server that the tests start, seen from outside.

mod as_log;
#[cfg(feature = "cluster")]
mod cluster;
mod conformance;
mod connecting;
mod failures;
mod hubs;
mod leases;
mod logs;
#[cfg(feature = "cluster")]
mod moves;
#[cfg(feature = "cluster")]
mod redis_cluster;
mod replicas;
mod rooms;
#[cfg(feature = "sentinel")]
mod sentinel;
mod server;
mod storms;
mod support;
#[cfg(feature = "tls")]
mod tls;

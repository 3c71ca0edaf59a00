//! Joins the hubs of [`ws_hub`] on several nodes over Redis.

mod backplane;
mod builder;
mod codec;
mod config;
mod error;
mod inbox;
mod keys;
mod link;
mod presence;
mod reaper;
mod reply;
mod rooms;
mod script;
mod shared;
mod supervisor;
mod users;

pub use backplane::RedisBackplane;
pub use builder::RedisBackplaneBuilder;
pub use error::ConnectError;

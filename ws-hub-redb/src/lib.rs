//! The messages of [`ws_hub`]'s users in one file, without a server.
//!
//! [`RedbLog`] is a [`Log`](ws_hub::Log) on the disk of one node, by [redb](https://docs.rs/redb): what a hub says is
//! stored survives the end of the process, even by `kill -9`, and a loss of power.
//!
//! ```
//! use ws_hub::Hub;
//! use ws_hub_redb::RedbLog;
//!
//! # fn main() -> Result<(), ws_hub_redb::OpenError> {
//! # let directory = std::env::temp_dir().join(format!("ws-hub-redb-doc-lib-{}", std::process::id()));
//! # std::fs::create_dir_all(&directory).unwrap();
//! # let path = directory.join("messages.redb");
//! let log = RedbLog::<String>::open(path)?;
//! let hub = Hub::builder().log(log).build();
//! # drop(hub);
//! # std::fs::remove_dir_all(&directory).unwrap();
//! # Ok(())
//! # }
//! ```
//!
//! # The file
//!
//! - One process at a time: a second one gets [`OpenError::InUse`].
//! - Its room is used again, and it becomes smaller only when it is opened: if more than half of it is free.
//! - It holds the bytes of the users' ids and their messages in the clear. Its permissions are those that the process gives
//!   to new files.
//! - To copy it, drop the log first.

mod builder;
mod config;
mod error;
mod file;
mod record;
mod redb_log;
mod tables;
mod view;
mod writer;

pub use builder::RedbLogBuilder;
pub use error::OpenError;
pub use redb_log::RedbLog;

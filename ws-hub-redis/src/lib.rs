//! Joins the hubs of [`ws_hub`] on several nodes over one Redis server, so that they act as one.
//!
//! [`RedisBackplane`] is a [`Backplane`](ws_hub::Backplane): users have connections on any node, and messages to them come
//! from any node. Each user has one log, on the server. A message is appended to it, and pushed to the nodes where the user
//! is logged in, in one step that happens as a whole or not at all. A push that is lost is seen by its number, and the
//! message is read in the log. So nothing is lost when a node is killed, a connection breaks, or a user goes from one node
//! to another.
//!
//! ```no_run
//! use ws_hub::Hub;
//! use ws_hub_redis::RedisBackplane;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), ws_hub_redis::ConnectError> {
//! // on each node
//! let backplane = RedisBackplane::<String>::builder("redis://localhost:6379").connect().await?;
//! let hub = Hub::builder().backplane(backplane).build();
//! hub.send(&"anna".to_owned(), "wherever you are").await;
//! # Ok(())
//! # }
//! ```
//!
//! `docs/nodes.md`, in the repository, says what happens when something fails, how to deploy nodes behind a load balancer, what
//! to watch, and what it costs the server.
//!
//! # The server
//!
//! Redis 6.2 or later: one server, or, with the feature `sentinel`, a master that Sentinels watch; no cluster. It is tested
//! with Redis 7.0. Two settings count, and a warning says at the start if they are others:
//!
//! - `maxmemory-policy noeviction`: otherwise Redis removes messages and logins when memory is full. With it, messages are
//!   then [refused](ws_hub::DropReason::Log), and everything else goes on.
//! - `appendonly yes`. What a message that was accepted survives:
//!
//! | | a node is killed | the server is killed | the server's machine dies | a replica becomes the master |
//! |---|---|---|---|---|
//! | `appendonly no` | yes | no | no | but for what it did not have |
//! | `appendfsync everysec` | yes | yes | but for the last two seconds | but for what it did not have |
//! | `appendfsync always` | yes | yes | yes, with its disk | but for what it did not have |
//! | [`replicas`](RedisBackplaneBuilder::replicas), and `appendonly yes` | yes | yes | yes | yes, if it had it |
//!
//! When the server has lost its data, clients are closed with 4100, come back, and get what there is from then on. A client
//! that [resumes](ws_hub::Hub::attach_after) is told that messages are gone.
//!
//! The user of an access list needs `~chat:* &chat:* +@read +@write +@pubsub +@scripting +@connection +time`, with `chat` as
//! the [prefix](RedisBackplaneBuilder::prefix), and `+config|get` to be warned. `CLIENT INFO` and `CLIENT KILL`, which are among
//! these, are for a connection that is lost: a node has the server end it, so that nothing is done late that is still on its way.
//!
//! # Features
//!
//! | | |
//! |---|---|
//! | `tls` | servers over TLS, at `rediss://` addresses, with [rustls](https://docs.rs/rustls): see `RedisBackplaneBuilder::tls_config` |
//! | `sentinel` | a master that Sentinels watch: see `RedisBackplane::sentinel` |
//!
//! # Failovers
//!
//! While there is no master, it is as if the server were away: calls wait, and fail after some seconds. Sentinels are asked
//! for the master for each connection. When there is a new one, the hub asserts its logins there, and reads what its
//! connections may have missed. What the new master does not have is lost, such as the last messages that the old one
//! accepted: where a connection has got such a message, it is seen by its position, the connection is closed with 3100 or
//! 4100, and the client comes back to what there is. The numbers of lost messages are given again, and what a connection
//! from before the failover acknowledges is a number: so it is closed with 4100 when it acknowledges its first message from
//! after it, and nothing is taken for delivered that was not. With [`replicas`](RedisBackplaneBuilder::replicas) a message is
//! sent or stored when so many replicas have it.
//!
//! A master that is cut off from the Sentinels, and not from a node, accepts messages from that node until it hears of the
//! new one, and loses them. `min-replicas-to-write 1` bounds that to the ten seconds of `min-replicas-max-lag`; with
//! `replicas` as well, none of those messages is said to be sent or stored, unless so many replicas are cut off with it.
//!
//! # What is kept there
//!
//! All of it has a bound or ends by itself: messages after their [time to live](RedisBackplaneBuilder::time_to_live),
//! what is known of a user who is away some time after the last message, and the logins of a node that is gone some time
//! after its [lease](RedisBackplaneBuilder::lease). Users' ids are part of the names of keys, as their bytes are: see
//! [`Key`](ws_hub::Key). Messages are there in the clear.
//!
//! # Bounds
//!
//! | | |
//! |---|---|
//! | [`per_user`](RedisBackplaneBuilder::per_user) | 1,000 messages, 1 MiB |
//! | [`time_to_live`](RedisBackplaneBuilder::time_to_live) | 7 days |
//! | [`history`](RedisBackplaneBuilder::history) | 64 messages, 60 seconds |
//! | [`lease`](RedisBackplaneBuilder::lease) | 15 seconds |
//! | calls that wait for the server | 4,096, and 16 MiB; then calls wait for their turn |
//! | pushes that wait for the hub | 4,096, and 8 MiB; then the hub reads the logs |

mod address;
mod appender;
mod backplane;
mod batch;
mod builder;
#[cfg(feature = "cluster")]
mod cluster;
mod codec;
mod config;
mod ear;
mod endpoint;
mod error;
mod inbox;
mod join;
mod keys;
mod lease;
mod link;
mod partition;
mod presence;
mod pushes;
mod reaper;
mod reply;
mod rooms;
mod router;
mod routes;
mod script;
#[cfg(feature = "sentinel")]
mod sentinel;
mod shared;
mod site;
mod slot;
mod supervisor;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "cluster")]
mod topology;
mod users;

pub use backplane::RedisBackplane;
pub use builder::RedisBackplaneBuilder;
pub use error::ConnectError;

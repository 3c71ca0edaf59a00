//! Who is connected, and messages to them: the registry that applications build of a map from user to connection, done
//! once.
//!
//! A [`Hub`] knows its users' connections. It sends to a user by id, to rooms and to everyone; keeps messages for users who
//! are away; lets a new login replace the old one; lets a client that was cut off go on where it had stopped; and lets no slow
//! client hold up the others or fill the memory. It goes on top of the connections of [`ws_core`], which keep themselves alive
//! and close in order: there is no ping loop, no `select!`, and no channel to be drained here.
//!
//! Each user has one [`Log`]: a message is written to it first, and then delivered. A connection is a window on the log of its
//! user. If it ends, however it does, nothing is lost: the next one goes on where it had stopped.
//!
//! ```
//! use ws_core::{WebSocket, testing};
//! use ws_hub::{Delivery, Hub};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), ws_core::Error> {
//! let hub = Hub::<String>::new();
//! let anna = "anna".to_owned();
//!
//! assert_eq!(hub.send(&anna, "while you were away").await, Delivery::Stored { evicted: 0 });
//!
//! // on a server: `upgrade.on_upgrade(async move |socket| hub.attach(user, socket).await)`
//! let mut client = testing::connect({
//!     let (hub, anna) = (hub.clone(), anna.clone());
//!     async move |socket| hub.attach(anna, socket).await
//! });
//! assert_eq!(client.recv().await.unwrap()?.as_text(), Some("while you were away"));
//!
//! assert_eq!(hub.send(&anna, "hello").await, Delivery::Sent(1));
//! assert_eq!(client.recv().await.unwrap()?.as_text(), Some("hello"));
//! # Ok(())
//! # }
//! ```
//!
//! # Who is a user?
//!
//! The user's id is the application's: any type that is `Clone + Eq + Hash + Send + Sync`. It comes from the application's
//! authentication of the handshake, such as a session cookie or a signed token. It never comes from a parameter of the URL
//! alone, which anyone can write. This crate reads no id itself. A log outside of the process also needs its bytes: [`Key`].
//!
//! # Where to look
//!
//! - [`Hub`]: everything there is to do. [`HubBuilder`]: the settings and their defaults.
//! - [`Hub::attach`], [`Hub::attach_with`], [`Hub::attach_after`] and [`Member`]: connections.
//! - [`Delivery`]: what became of a message. [`Overflow`]: what happens when a client reads too slowly.
//! - [`Login`]: a second connection of the same user. [`Event`]: who comes and goes. [`Stats`]: metrics.
//! - [`Log`], [`MemoryLog`], [`Guarantee`]: the messages of users. [`Position`], [`framing`]: recovery after a reconnect.
//! - [`RoomHistory`], [`Member::join_after`]: recovery in rooms.
//! - [`Backplane`], [`InProcess`]: several hubs that act as one.
//! - [`close_code`]: the codes with which a hub closes a connection.
//!
//! A setting that is not valid panics when it is set: see [`ws_core`](ws_core#values-that-are-not-valid).
//!
//! # What is promised
//!
//! - A message that was [`Sent`](Delivery::Sent) or [`Stored`](Delivery::Stored) is in the log until it is delivered, or the
//!   bounds of the log are reached, which `evicted` says. With [`Guarantee::AtMostOnce`] nothing comes twice; it names its
//!   limits for logs that take waiting. With [`Guarantee::AtLeastOnce`] nothing is lost, and a message comes twice only if its
//!   connection broke before it was confirmed, and then not to a client that [resumes](Hub::attach_after).
//! - Messages for one user arrive in the order of their log, which is one for all senders, and without gaps. Only a message
//!   that a connection left behind when it ended may come out of order on another one, if a user has several at a time.
//!   Messages to rooms and to everyone arrive in the order in which one task sent them.
//! - A client that reads slowly costs the bound of its [`queue`](HubBuilder::queue), and delays nobody. One that reads is never
//!   taken for slow, however many messages are sent at once.
//! - The end of an old connection never removes a newer one.
//! - No lock is held while a message is written, a log or a backplane that has to wait is asked, or a handler runs. An
//!   [`Observer`](ws_core::Observer) is told of messages while the hub sends them: it may ask the hub, and must not wait for a
//!   message to be sent.
//!
//! # How connections end
//!
//! What a connection has not got waits in the log, for another connection of the user or for the next one.
//!
//! | code | when | reconnect? |
//! |---|---|---|
//! | what the drain says: 1001, 1012 | [`Hub::drain`] | yes |
//! | 1013 | [`max_connections`](HubBuilder::max_connections) is reached, or the log failed | yes |
//! | 4001 | a newer login [replaces](Login::ReplaceOld) it | no |
//! | 4002 | the [login policy](Login) does not let it in | no |
//! | 4003 | [`Hub::kick`] | no |
//! | 4100 | the queue [overflows](Overflow), or the log was full before it was read | yes |
//! | the application's | [`Hub::disconnect`] | by the code |
//! | 1000, 1011 | the handler returns, or fails | no, yes |
//!
//! The codes of the hub have names in [`close_code`], the others at [`CloseCode`](ws_core::CloseCode), where a table says
//! after which codes a client comes back.
//!
//! # Features
//!
//! - `json` (default): [`Member::recv_json`], and `ws_core`'s feature of that name.
//! - `testing`: the module `testing`, which checks implementations of [`Log`] and [`Backplane`].

mod attach;
mod audience;
mod backplane;
mod builder;
mod calls;
pub mod close_code;
mod config;
mod delivery;
mod directory;
mod error;
mod event;
mod faults;
mod feed;
pub mod framing;
mod hub;
mod in_process;
mod inbox;
#[cfg(all(test, shuttle))]
mod interleavings;
mod key;
mod log;
mod mailbox;
mod member;
mod memory;
mod outgoing;
mod position;
mod pump;
mod registry;
mod room;
mod room_log;
mod rooms;
mod session;
mod shared;
mod signals;
mod stats;
mod task;
#[cfg(feature = "testing")]
pub mod testing;
mod user;

pub use audience::Audience;
pub use backplane::{
    Ack, Acked, Backplane, Health, Held, LoggedIn, LoginError, LoginRequest, Logout, NodeId, Online, Packet,
    Sent, Signal, Standing, Unsent,
};
pub use builder::HubBuilder;
pub use config::{Confirm, Guarantee, Login, Overflow};
pub use delivery::{Delivery, DropReason, Reach};
pub use error::{DisconnectError, Error, JoinError, Refused};
pub use event::{Event, Events};
pub use faults::{Answer, Call, Faults, Push};
pub use hub::{Drained, Hub};
pub use in_process::InProcess;
pub use key::Key;
pub use log::{
    Acknowledge, After, Append, Appended, Continuity, Durability, Entry, Log, LogError, Page, Read,
};
pub use member::Member;
pub use memory::MemoryLog;
pub use outgoing::Outgoing;
pub use position::{InvalidPosition, MessageId, Position, Resumed};
pub use room::{Joined, RoomAppend, RoomEntry, RoomHistory, RoomRead, RoomSent};
pub use stats::Stats;

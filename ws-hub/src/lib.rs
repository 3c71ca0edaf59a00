//! Who is connected, and messages to them: the registry that applications build of a map from user to connection, done
//! once.
//!
//! A [`Hub`] knows its users' connections. It sends to a user by id, to rooms and to everyone; keeps messages for users who
//! are away; lets a new login replace the old one; and lets no slow client hold up the others or fill the memory. It goes
//! on top of the connections of [`ws_core`], which keep themselves alive and close in order: there is no ping loop, no
//! `select!`, and no channel to be drained here.
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
//! alone, which anyone can write. This crate reads no id itself.
//!
//! # Where to look
//!
//! - [`Hub`]: everything there is to do. [`HubBuilder`]: the settings and their defaults.
//! - [`Hub::attach`], [`Hub::attach_with`] and [`Member`]: connections.
//! - [`Delivery`]: what became of a message. [`Overflow`]: what happens when a client reads too slowly.
//! - [`Login`]: a second connection of the same user. [`Event`]: who comes and goes. [`Stats`]: metrics.
//! - [`OfflineStore`], [`MemoryStore`], [`Guarantee`]: messages for users who are away.
//! - [`Backplane`], [`InProcess`]: several hubs that act as one.
//! - [`close_code`]: the codes with which a hub closes a connection.
//!
//! A setting that is not valid panics when it is set: see [`ws_core`](ws_core#values-that-are-not-valid).
//!
//! # What is promised
//!
//! - Messages from one task to one user arrive in the order in which they were sent, stored ones first. A message that was
//!   [`Sent`](Delivery::Sent) and that its connection did not take before it ended is stored, and the user's next
//!   connection gets it. With [`Guarantee::AtMostOnce`] nothing comes twice.
//! - A client that reads slowly costs the bound of its [`queue`](HubBuilder::queue), and delays nobody.
//! - The end of an old connection never removes a newer one.
//! - No lock is held while a message is written, a store or a backplane is asked, or a handler runs. An
//!   [`Observer`](ws_core::Observer) is told of messages while the hub sends them: it may ask the hub, and put users into
//!   rooms, and must not wait for a message to be sent.
//!
//! # How connections end
//!
//! | code | when | what waits for the user | reconnect? |
//! |---|---|---|---|
//! | what the drain says: 1001, 1012 | [`Hub::drain`] | is stored | yes |
//! | 1013 | [`max_connections`](HubBuilder::max_connections) is reached, or the backplane failed | | yes |
//! | 4001 | a newer login [replaces](Login::ReplaceOld) it | goes to the newer one | no |
//! | 4002 | the [login policy](Login) does not let it in | | no |
//! | 4003 | [`Hub::kick`] | is stored | no |
//! | 4100 | the queue [overflows](Overflow) | is stored | yes |
//! | the application's | [`Hub::disconnect`] | is stored | by the code |
//! | 1000, 1011 | the handler returns, or fails | is sent, or stored when more comes before it is | no, yes |
//!
//! The codes of the hub have names in [`close_code`], the others at [`CloseCode`](ws_core::CloseCode), where a table says
//! after which codes a client comes back.
//!
//! # Features
//!
//! - `json` (default): [`Member::recv_json`], and `ws_core`'s feature of that name.

mod attach;
mod audience;
mod backplane;
mod builder;
pub mod close_code;
mod config;
mod delivery;
mod error;
mod event;
mod hub;
mod member;
mod queue;
mod registry;
mod shared;
mod stats;
mod store;
mod user;

pub use audience::Audience;
pub use backplane::{Backplane, BackplaneError, InProcess, LoginError, NodeId, Packet, Target};
pub use builder::HubBuilder;
pub use config::Login;
pub use delivery::{Delivery, DropReason};
pub use error::{Error, JoinError, Refused};
pub use event::{Event, Events};
pub use hub::{Drained, Hub};
pub use member::Member;
pub use queue::Overflow;
pub use stats::Stats;
pub use store::{Guarantee, MemoryStore, OfflineStore, Pushed, StoreError, Stored};

//! WebSocket middleware for tower.
//!
//! One layer on a router, and every upgrade below it is validated, checked for its origin, timed, kept alive, bounded
//! and drainable; the same handler runs on every framework. This crate names no framework: the adapter crates do
//! (`ws-axum`, `ws-warp`, `ws-hyper`), and re-export what is here.
//!
//! ```
//! use tower_layer::Layer;
//! use ws_core::{Error, WebSocket, WebSocketLayer, service};
//!
//! async fn echo(mut socket: WebSocket) -> Result<(), Error> {
//!     while let Some(message) = socket.recv().await {
//!         socket.send(message?).await?;
//!     }
//!     Ok(())
//! }
//!
//! let app = WebSocketLayer::new().layer(service(echo));
//! # fn is_service<S: tower_service::Service<http::Request<()>>>(_: S) {}
//! # is_service(app);
//! ```
//!
//! # Where to look
//!
//! - [`WebSocketLayer`]: the middleware and its knobs. [`OriginPolicy`]: who may connect.
//! - [`WebSocketUpgrade`]: an accepted handshake, and the request it came with. [`service()`]: a route made of a handler.
//! - [`WebSocket`], [`Sender`], [`Receiver`]: the connection. [`Message`], [`CloseCode`], [`Error`]: what goes over it.
//! - [`PreparedMessage`]: one message for many connections, compressed once.
//! - [`Connections`], [`Drain`]: all connections of a layer, and their end at a deploy. [`Observer`]: metrics.
//! - `client`, with the feature of that name: connections to other servers, also such that come back by themselves.
//! - `testing`, with the feature of that name: a connection in memory, for tests of handlers.
//!
//! # Defaults
//!
//! | knob | default | why |
//! |---|---|---|
//! | [`origin`](WebSocketLayer::origin) | same origin | browsers send cookies with a handshake from any page |
//! | [`handshake_timeout`](WebSocketLayer::handshake_timeout) | 10 s | a handshake is one round trip |
//! | [`ping_interval`](WebSocketLayer::ping_interval) | after 20 s of silence, ±10 % | proxies cut what is idle for 30–60 s |
//! | [`pong_timeout`](WebSocketLayer::pong_timeout) | 20 s | any inbound byte counts as life |
//! | [`close_timeout`](WebSocketLayer::close_timeout) | 5 s | |
//! | [`idle_timeout`](WebSocketLayer::idle_timeout) | off | quiet is not dead |
//! | [`message_timeout`](WebSocketLayer::message_timeout) | 60 s | a peer that drips a message for ever |
//! | [`send_timeout`](WebSocketLayer::send_timeout) | 30 s | a peer that stops reading |
//! | [`max_message_size`](WebSocketLayer::max_message_size), [`max_frame_size`](WebSocketLayer::max_frame_size) | 1 MiB | |
//! | [`max_fragments`](WebSocketLayer::max_fragments) | 4,096 | empty fragments cost the peer nothing |
//! | [`inbound_queue`](WebSocketLayer::inbound_queue) | 32 messages or 64 KiB | |
//! | [`outbound_buffer`](WebSocketLayer::outbound_buffer) | 64 KiB | `send` waits above it |
//! | [`max_connections`](WebSocketLayer::max_connections) | no limit | |
//! | `compression`, with the feature `deflate` | off | memory, and CRIME/BREACH |
//!
//! There are no sizes of read and write buffers to set: a connection that is idle holds none, a busy one borrows its
//! thread's.
//!
//! # Values that are not valid
//!
//! A setting is checked when it is set, not when a request comes. This is the same for all types of this crate, of the
//! adapters and of `ws-hub`:
//!
//! - **A value that is written in the program** is a mistake of the program if it is not valid. The method panics, and the
//!   message says what to write instead. The section *Panics* of the method says what is not valid.
//! - **A value that comes from outside**, such as the configuration or another user, is given to the method of the same
//!   name with `try_` in front. It returns the same message as an error. There is one for each setting that is a text or a
//!   code: [`try_protocols`](WebSocketLayer::try_protocols), [`OriginPolicy::try_allow`],
//!   [`OriginPolicy::try_allowed_hosts`], [`Drain::try_code`], and those of `client::Client` and `Compression`. [`Origin`]
//!   implements `FromStr`.
//! - **A number or a time** has no such method, because there is one value that is not valid, zero, if any. A program that
//!   reads one from outside checks that first.
//! - **A call on an open connection** never panics: `close` returns an error for a code that may not be sent, and so does
//!   connecting for a URL that is not valid.
//!
//! # Features
//!
//! - `json` (default): `Message::json`, `send_json`, `recv_json`.
//! - `deflate`: compressed messages (permessage-deflate, RFC 7692), for layers that are told to: see `Compression`.
//! - `client`: the module `client`, WebSocket clients. `rustls`: the same, and their TLS.
//! - `testing`: the module `testing`.
//! - `tungstenite`: conversions of messages and Close frames from and to those of `tungstenite` 0.30.

#[cfg(benchmarking)]
pub mod benchmarking;
#[cfg(feature = "client")]
pub mod client;
mod close;
#[cfg(feature = "deflate")]
mod compression;
mod config;
mod connection;
mod deadline;
mod error;
// cargo-fuzz sets it for all crates: those of others, too, that depend on this one without the feature
#[cfg(all(fuzzing, feature = "deflate"))]
pub mod fuzzing;
mod handler;
mod handshake;
mod layer;
mod message;
mod observer;
mod origin;
mod pool;
mod prepared;
mod protocol;
#[cfg(feature = "testing")]
pub mod testing;
mod tracker;
#[cfg(feature = "tungstenite")]
mod tungstenite;
mod upgrade;
mod utf8;

pub use close::{CloseCode, CloseFrame, Closed, InvalidClose, Side};
#[cfg(feature = "deflate")]
pub use compression::{Compression, InvalidLevel};
pub use connection::{Receiver, Sender, Sending, WebSocket};
pub use error::{Error, ProtocolError, Timeout, TrySendError};
pub use handler::{HandlerService, Outcome, service};
pub use handshake::{InvalidProtocol, Rejection};
pub use layer::{Body, ResponseBody, ResponseFuture, WebSocketLayer, WebSocketService};
pub use message::Message;
pub use observer::{ConnectionId, ConnectionInfo, Observer};
pub use origin::{InvalidOrigin, Origin, OriginPolicy};
pub use prepared::PreparedMessage;
pub use tracker::{Connections, Drain, Drained};
pub use upgrade::{FutureWebSocket, WebSocketUpgrade};
pub use utf8::{InvalidUtf8, Utf8Bytes};

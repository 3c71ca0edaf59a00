//! WebSocket middleware for tower.
//!
//! With one layer on a router, every upgrade below it is validated, checked for its origin, timed, kept alive, bounded and
//! drainable. The same handler runs on every framework. This crate does not depend on a framework. The adapter crates
//! `ws-axum`, `ws-warp` and `ws-hyper` do, and re-export what is here.
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
//! - [`WebSocketLayer`]: the middleware and its settings. [`OriginPolicy`]: which pages may connect.
//! - [`WebSocketUpgrade`]: an accepted handshake, and its request. [`service()`]: a route made from a handler.
//! - [`WebSocket`], [`Sender`], [`Receiver`]: the connection. [`Message`]: what it carries. [`CloseCode`], [`CloseFrame`],
//!   [`Closed`], [`Error`]: how it ends. [`PeerAddr`]: who is at the other end.
//! - [`PreparedMessage`]: one message for many connections, compressed once.
//! - [`Connections`], [`Drain`]: all connections of a layer, and how to close them at a deploy. [`Observer`]: metrics.
//! - `client`, with the feature of that name: connections to other servers, and connections that reconnect by themselves.
//! - `testing`, with the feature of that name: a connection in memory, for tests of handlers.
//!
//! # Defaults
//!
//! | setting | default | why |
//! |---|---|---|
//! | [`origin`](WebSocketLayer::origin) | same origin | browsers send cookies with a handshake from any page |
//! | [`handshake_timeout`](WebSocketLayer::handshake_timeout) | 10 s | a handshake is one round trip |
//! | [`ping_interval`](WebSocketLayer::ping_interval) | after 20 s of silence, ±10 % | proxies close connections that are idle for 30–60 s |
//! | [`pong_timeout`](WebSocketLayer::pong_timeout) | 20 s | any byte from the peer counts as an answer |
//! | [`close_timeout`](WebSocketLayer::close_timeout) | 5 s | |
//! | [`idle_timeout`](WebSocketLayer::idle_timeout) | off | a quiet connection may still be needed |
//! | [`message_timeout`](WebSocketLayer::message_timeout) | 60 s | a peer may send one message for ever, byte by byte |
//! | [`min_message_rate`](WebSocketLayer::min_message_rate) | 1 KiB/s | a message at this rate may take longer than the `message_timeout` |
//! | [`send_timeout`](WebSocketLayer::send_timeout) | 30 s | a peer may stop reading |
//! | [`max_message_size`](WebSocketLayer::max_message_size) | 1 MiB | |
//! | [`max_frame_size`](WebSocketLayer::max_frame_size) | as `max_message_size` | |
//! | [`max_fragments`](WebSocketLayer::max_fragments) | 4,096 | empty fragments cost the peer nothing |
//! | [`inbound_queue`](WebSocketLayer::inbound_queue) | 32 messages or 64 KiB | |
//! | [`outbound_buffer`](WebSocketLayer::outbound_buffer) | 64 KiB | `send` waits above it |
//! | [`max_connections`](WebSocketLayer::max_connections) | no limit | |
//! | `compression`, with the feature `deflate` | off | memory, and CRIME/BREACH |
//!
//! Those from `ping_interval` to `outbound_buffer` are methods of [`WebSocketUpgrade`] as well: a route that sets them has
//! values of its own, and the count and the drain of the layer.
//!
//! There are no sizes of read and write buffers to set. An idle connection has no buffers, and a busy one uses those of its
//! thread.
//!
//! # Values that are not valid
//!
//! A setting is checked when it is set, not when a request comes. This is the same for all types of this crate, of the
//! adapters and of `ws-hub`:
//!
//! - **A value that is written in the program** and is not valid is a mistake of the program. The method panics, and the
//!   message says what to write instead. The section *Panics* of each method says which values are not valid.
//! - **A value that comes from outside of the program**, such as from its configuration or a user, is for the method with
//!   `try_` in front of the name. It returns an error with the same message. There is one for each setting that is a text
//!   or has a range: [`try_protocols`](WebSocketLayer::try_protocols), [`OriginPolicy::try_allow`],
//!   [`OriginPolicy::try_allowed_hosts`], [`Drain::try_code`], `Compression::try_level`, and `try_header`, `try_origin`,
//!   `try_protocols`, `try_proxy` and `try_reconnecting` of `client::Client`. [`Origin`] implements `FromStr`.
//! - **A time, a size or a rate** has no such method: the only value that is not valid is zero. A program that reads one from
//!   outside compares it with zero first.
//! - **A call on a connection** does not panic for a bad value. `close` returns an error for a code that may not be sent,
//!   and `connect` returns one for a URL that is not valid.
//!
//! # Features
//!
//! - `json` (default): `Message::json`, `send_json`, `recv_json`.
//! - `deflate`: compressed messages (permessage-deflate, RFC 7692), off unless a layer turns them on: see `Compression`.
//! - `client`: the module `client`, WebSocket clients. `rustls`: the same, with TLS.
//! - `testing`: the module `testing`.
//! - `tungstenite`: conversions of [`Message`], [`Utf8Bytes`] and [`CloseFrame`] from and to the types of `tungstenite`
//!   0.30.

#[cfg(benchmarking)]
pub mod benchmarking;
mod body;
#[cfg(feature = "client")]
pub mod client;
mod close;
#[cfg(feature = "deflate")]
mod compression;
mod config;
mod connection;
mod deadline;
mod error;
// cargo-fuzz sets `fuzzing` for all crates, so it is also set when another crate's fuzzers use this one without the feature
#[cfg(all(fuzzing, feature = "deflate"))]
pub mod fuzzing;
mod handler;
mod handshake;
#[cfg(feature = "json")]
mod json;
mod layer;
mod message;
mod observer;
mod origin;
mod outcome;
mod peer;
mod pool;
mod prepared;
mod protocol;
mod rejection;
mod spare;
#[cfg(feature = "testing")]
pub mod testing;
mod tracker;
#[cfg(feature = "tungstenite")]
mod tungstenite;
mod upgrade;
mod utf8;

pub use body::{Body, ResponseBody};
pub use close::{CloseCode, CloseFrame, Closed, InvalidClose, Side};
#[cfg(feature = "deflate")]
pub use compression::{Compression, InvalidLevel};
pub use connection::{Receiver, Sender, Sending, WebSocket};
pub use error::{Error, ProtocolError, Timeout, TrySendError};
pub use handler::{HandlerService, service};
pub use handshake::InvalidProtocol;
pub use layer::{ResponseFuture, WebSocketLayer, WebSocketService};
pub use message::Message;
pub use observer::{ConnectionId, ConnectionInfo, Observer};
pub use origin::{HiddenTarget, InvalidOrigin, Origin, OriginPolicy};
pub use outcome::Outcome;
pub use peer::PeerAddr;
pub use prepared::PreparedMessage;
pub use rejection::Rejection;
pub use tracker::{Connections, Drain, Drained};
pub use upgrade::{FutureWebSocket, WebSocketUpgrade};
pub use utf8::{InvalidUtf8, Utf8Bytes};

// for the macros that the adapter crates use; no part of the public API
#[doc(hidden)]
pub use config::{ConnectionConfig as __ConnectionConfig, checked as __checked};
#[doc(hidden)]
pub use error::expect_valid as __expect_valid;
#[doc(hidden)]
pub use handshake::protocol_names as __protocol_names;

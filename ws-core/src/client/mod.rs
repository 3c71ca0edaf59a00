//! [`Client`]: WebSockets to other servers, and [`ReconnectingWebSocket`], which connects again when its connection ends.
//!
//! [`connect`] gives the same [`WebSocket`](crate::WebSocket) that a handler has on a server, and its task does the same:
//! keepalive, pongs, the closing handshake and the time limits work without the code that holds the socket, memory is
//! bounded, an idle connection holds no buffers. It differs from tokio-tungstenite's `connect_async` in these points:
//!
//! - One time limit covers DNS, TCP, the proxy, TLS and the handshake.
//! - Pings find a server that is gone, and a time limit finds a server that does not read.
//! - The answer is checked by all rules of RFC 6455 section 4.1, extensions included. A server may choose none of the
//!   subprotocols, unless [`require_protocol`](Client::require_protocol) is called.
//! - The head of the answer is bounded, in bytes and time.
//! - Messages that follow the answer immediately are never lost.
//! - Errors say whether a retry makes sense ([`ConnectError::should_retry`]), and contain the answer of the server.
//! - URLs with a password or a fragment, and headers that belong to the handshake, are refused. No redirect is followed.
//!
//! ```no_run
//! use std::time::Duration;
//! use ws_core::client::Client;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new()
//!     .header("authorization", "Bearer 6f1e")
//!     .protocols(["chat.v2", "chat.v1"])
//!     .connect_timeout(Duration::from_secs(5));
//!
//! let mut socket = client.connect("ws://localhost:3000/chat").await?;
//! socket.send("hello").await?;
//! while let Some(message) = socket.recv().await {
//!     println!("{:?}", message?);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`connect_with_response`](Client::connect_with_response) gives the server's answer with its headers, too.
//!
//! # The URL
//!
//! `ws://host:port/path?query`, or `wss`. The host is a name, or an IP address: `ws://[::1]:3000/`. A link-local IPv6 address
//! needs a zone, which names the network of this host that it is in: `ws://[fe80::1%25eth0]/` (RFC 6874; on Windows it is a
//! number). The `%` is written as `%25`. The zone has a meaning on this host only, so it is not in the header `Host`, and not
//! for a proxy.
//!
//! # TLS
//!
//! `wss` needs the feature `rustls`. By default the roots are those that the operating system trusts. `Client::tls_config`
//! takes another configuration of rustls, with roots of one's own or a client certificate: its examples show both. To use
//! another TLS library, connect over its stream: [`Client::connect_over`] with a URL of `ws`.
//!
//! # Proxies
//!
//! [`Client::proxy`] connects through an HTTP proxy, and [`Client::proxy_from_env`] through those that `HTTP_PROXY`,
//! `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` name. Without them the environment has no effect. [`ConnectError::proxy`] says
//! why a proxy did not lead to the server.
//!
//! ```no_run
//! use ws_core::client::Client;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new().proxy("http://user:password@proxy.example:3128");
//! let socket = client.connect("ws://server.example/chat").await?;
//! # Ok(())
//! # }
//! ```
//!
//! # HTTP/2
//!
//! The client speaks HTTP/1.1 only, also with a server that accepts WebSockets over HTTP/2 (RFC 8441): nearly all of them
//! accept HTTP/1.1 as well. Over HTTP/2, the WebSockets to one server could share a TCP connection, and would share its lost
//! packets and its flow control. Before each first handshake the client would wait for the server's
//! `SETTINGS_ENABLE_CONNECT_PROTOCOL`, and it would need HTTP/1.1 where that is missing.
//!
//! # Reconnecting
//!
//! [`Client::reconnecting`] makes a [`Reconnect`], and its `start` a [`ReconnectingWebSocket`], which opens a new connection
//! when the last one has ended.
//!
//! - It reconnects after a close if [`CloseCode::should_reconnect`](crate::CloseCode::should_reconnect) says so, and after a
//!   failed attempt if [`ConnectError::should_retry`] says so. [`Reconnect::reconnect_if`] replaces both.
//! - The waiting times are random and grow: [`Backoff`]. The server can ask for longer ones:
//!   [`Interruption::retry_after`]. A random time is added to these, too.
//! - Messages that are sent between two connections wait in a bounded queue. They are sent once, in order, after
//!   [`Reconnect::on_connect`] has restored the state of the session. If a connection breaks, the messages that it had taken
//!   may be lost: if that matters, let the other side acknowledge them.
//! - Messages that the server sends meanwhile are missed, unless it keeps them and is told where to go on:
//!   [`Reconnect::resume`].
//! - [`ReconnectingWebSocket::states`] shows what it is doing. [`Reconnect::on_response`] gets the server's answer to each
//!   handshake.
//!
//! ```no_run
//! use ws_core::client::Client;
//! use ws_core::{Error, WebSocket};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let mut socket = Client::new()
//!     .reconnecting("ws://localhost:3000/chat")
//!     .on_connect(async |mut socket: WebSocket| {
//!         socket.send("join lobby").await?;
//!         Ok::<_, Error>(socket)
//!     })
//!     .start();
//! while let Some(message) = socket.recv().await {
//!     println!("{message:?}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Defaults
//!
//! | setting | default | why |
//! |---|---|---|
//! | [`connect_timeout`](Client::connect_timeout) | 10 s | some round trips, and a resend or two |
//! | [`ping_interval`](Client::ping_interval) | after 20 s of silence, ±10 % | proxies close connections that are idle for 30–60 s |
//! | [`pong_timeout`](Client::pong_timeout) | 20 s | any byte from the server counts as an answer |
//! | [`close_timeout`](Client::close_timeout) | 5 s | |
//! | [`idle_timeout`](Client::idle_timeout) | off | a quiet connection may still be needed |
//! | [`message_timeout`](Client::message_timeout) | 60 s | a server may send one message for ever, byte by byte |
//! | [`min_message_rate`](Client::min_message_rate) | 1 KiB/s | a message at this rate may take longer than the `message_timeout` |
//! | [`send_timeout`](Client::send_timeout) | 30 s | a server may stop reading |
//! | [`max_message_size`](Client::max_message_size) | 1 MiB | |
//! | [`max_frame_size`](Client::max_frame_size) | as `max_message_size` | |
//! | [`max_fragments`](Client::max_fragments) | 4,096 | |
//! | [`inbound_queue`](Client::inbound_queue) | 32 messages or 64 KiB | |
//! | [`outbound_buffer`](Client::outbound_buffer) | 64 KiB | `send` waits above it |
//! | [`proxy`](Client::proxy), [`proxy_from_env`](Client::proxy_from_env) | none | the environment of a program is not always its user's |
//! | `compression`, with the feature `deflate` | off | memory, and CRIME/BREACH |
//! | the head of the answer, of the server and of a proxy | 16 KiB, 100 headers | fixed |
//! | the body of a refusal | 4 KiB, 1 s | fixed |
//!
//! The defaults of reconnecting are [at `Reconnect`](Reconnect).

mod builder;
mod config;
mod connect;
mod error;
mod handshake;
mod head;
mod proxy;
mod proxy_error;
mod reconnect;
mod target;
mod tcp;
#[cfg(feature = "rustls")]
mod tls;

pub use builder::Client;
pub use connect::connect;
pub use error::{ConnectError, InvalidHeader, Refusal};
pub use proxy_error::{InvalidProxy, ProxyError};
pub use reconnect::{
    Backoff, Interruption, Reconnect, ReconnectState, ReconnectingSender, ReconnectingWebSocket, SendError,
    States,
};

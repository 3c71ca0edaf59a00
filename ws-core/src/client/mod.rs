//! [`Client`]: WebSockets to other servers, and [`ReconnectingWebSocket`], which reconnects by itself.
//!
//! [`connect`] returns the same [`WebSocket`] that a handler has on a server, and it works in the same way: its task does
//! keepalive, pongs, the closing handshake and the time limits, memory is bounded, and an idle connection has no buffers. It
//! differs from tokio-tungstenite's `connect_async` in that
//!
//! - one time limit covers all of connecting: name, TCP, TLS and handshake;
//! - pings find a server that is gone, and a time limit finds one that does not read;
//! - the answer is checked as RFC 6455 section 4.1 requires, extensions too; a server that chooses none of the subprotocols is
//!   accepted, unless [`require_protocol`](Client::require_protocol) is called;
//! - the head of the answer is bounded, in bytes and time;
//! - messages that follow right behind the answer are not lost;
//! - an error says whether to try again ([`ConnectError::should_retry`]), and has the server's refusal;
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
//! # TLS
//!
//! `wss` needs the feature `rustls`. It trusts the roots of the operating system. For other roots or a client certificate,
//! give a configuration to `Client::tls_config`. For other TLS libraries, connect over their stream, with
//! [`Client::connect_over`] and a URL of `ws`.
//!
//! # Reconnecting
//!
//! [`Client::reconnecting`] describes a connection that is opened again when it ends. When it is started, it is a
//! [`ReconnectingWebSocket`].
//!
//! - Whether it reconnects depends on [`CloseCode::should_reconnect`](crate::CloseCode::should_reconnect) after the end of a
//!   connection, and on [`ConnectError::should_retry`] after an attempt that failed. [`Reconnect::reconnect_if`] replaces
//!   both.
//! - Waits are random and grow, and they are at least as long as the server asks for: [`Backoff`],
//!   [`Interruption::retry_after`].
//! - Messages that are sent between two connections wait in a bounded queue. They are sent once, in order, after
//!   [`Reconnect::on_connect`] has restored what the server knew. A message that a connection took before it broke may be
//!   lost without notice. If that matters, have the other side acknowledge messages.
//! - [`ReconnectingWebSocket::states`] tells what it does.
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
//! | [`send_timeout`](Client::send_timeout) | 30 s | a server may stop reading |
//! | [`max_message_size`](Client::max_message_size), [`max_frame_size`](Client::max_frame_size) | 1 MiB | |
//! | [`max_fragments`](Client::max_fragments) | 4,096 | |
//! | [`inbound_queue`](Client::inbound_queue) | 32 messages or 64 KiB | |
//! | [`outbound_buffer`](Client::outbound_buffer) | 64 KiB | `send` waits above it |
//! | `compression`, with the feature `deflate` | off | memory, and CRIME/BREACH |
//! | the head of the answer | 16 KiB, 100 headers | fixed |
//! | the body of a refusal | 4 KiB, 1 s | fixed |
//!
//! [`Reconnect`] lists the settings of a connection that reconnects.

mod error;
mod handshake;
mod reconnect;
mod target;
mod tcp;
#[cfg(feature = "rustls")]
mod tls;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderMap, HeaderValue, ORIGIN};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
#[cfg(feature = "rustls")]
use tokio_rustls::rustls::ClientConfig;

pub use error::{ConnectError, InvalidHeader, Refusal};
pub use reconnect::{
    Backoff, Interruption, Reconnect, ReconnectState, ReconnectingSender, ReconnectingWebSocket, SendError,
    States,
};

#[cfg(feature = "deflate")]
use crate::compression::Compression;
use crate::config::{ConnectionConfig, Negotiated, checked, connection_knobs};
use crate::connection::{Driver, Link, Shared, Transport, WebSocket};
use crate::error::expect_valid;
use crate::handshake::{InvalidProtocol, protocol_names};
use crate::observer::{ConnectionId, ConnectionInfo};
use crate::origin::{InvalidOrigin, Origin};
use crate::protocol::Role;
use target::Target;

/// Opens a connection, with the defaults of [`Client`].
///
/// # Errors
///
/// As [`Client::connect`].
///
/// # Panics
///
/// Outside of a tokio runtime.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let mut socket = ws_core::client::connect("ws://localhost:3000/echo").await?;
/// socket.send("hello").await?;
/// # Ok(())
/// # }
/// ```
pub async fn connect(url: impl AsRef<str>) -> Result<WebSocket, ConnectError> {
    Client::new().connect(url).await
}

/// Opens connections. It is made once, and a clone is cheap.
///
/// Every value is checked when it is set: a time of zero panics, and `None` switches a time limit off where that can be.
///
/// ```no_run
/// use std::time::Duration;
/// use ws_core::client::Client;
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::new().protocols(["chat"]).ping_interval(Duration::from_secs(10));
/// let (mut first, mut second) = (client.connect("ws://a.example/").await?, client.connect("ws://b.example/").await?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a client does nothing until it connects"]
pub struct Client {
    config: Arc<Config>,
}

/// What all connections of a client have in common.
#[derive(Clone)]
struct Config {
    /// Those of the user; none of them belongs to the handshake.
    headers: HeaderMap,
    /// What is offered, in the order of preference; each one is a token.
    protocols: Vec<Arc<str>>,
    require_protocol: bool,
    connect_timeout: Option<Duration>,
    #[cfg(feature = "deflate")]
    compression: Option<Compression>,
    #[cfg(feature = "rustls")]
    tls: Option<Arc<ClientConfig>>,
    connection: Arc<ConnectionConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            headers: HeaderMap::new(),
            protocols: Vec::new(),
            require_protocol: false,
            // as a server's handshake timeout
            connect_timeout: Some(Duration::from_secs(10)),
            #[cfg(feature = "deflate")]
            compression: None,
            #[cfg(feature = "rustls")]
            tls: None,
            connection: Arc::default(),
        }
    }
}

impl Client {
    /// The client with its defaults: see the [table](self#defaults).
    pub fn new() -> Self {
        Self { config: Arc::default() }
    }

    fn set(mut self, set: impl FnOnce(&mut Config)) -> Self {
        set(Arc::make_mut(&mut self.config));
        self
    }

    fn set_connection(self, set: impl FnOnce(&mut ConnectionConfig)) -> Self {
        self.set(|config| set(Arc::make_mut(&mut config.connection)))
    }

    /// Sends a header with the handshake, in place of an earlier one of this name. Default none.
    ///
    /// # Panics
    ///
    /// If the name or the value cannot stand in a header, or if the handshake sets the header: `Host`, which is that of
    /// the URL, `Origin`, for which there is [`origin`](Self::origin), `Upgrade`, `Connection`, `Sec-WebSocket-…`, and
    /// those that announce a body. [`try_header`](Self::try_header) returns an error instead.
    ///
    /// ```
    /// use ws_core::client::Client;
    ///
    /// let client = Client::new().header("x-api-version", "2");
    /// ```
    #[track_caller]
    pub fn header(self, name: impl AsRef<str>, value: impl AsRef<[u8]>) -> Self {
        expect_valid(self.try_header(name, value))
    }

    /// As [`header`](Self::header), for a name or a value that comes from outside of the program, such as a token.
    ///
    /// # Errors
    ///
    /// If the header cannot be sent.
    ///
    /// ```
    /// use ws_core::client::Client;
    ///
    /// # fn token() -> String { "6f1e".to_owned() }
    /// let client = Client::new().try_header("authorization", format!("Bearer {}", token()))?;
    ///
    /// assert!(client.clone().try_header("x-user", "Ada\r\nx-admin: yes").is_err());
    /// assert!(client.try_header("sec-websocket-key", "my own").is_err());
    /// # Ok::<(), ws_core::client::InvalidHeader>(())
    /// ```
    pub fn try_header(self, name: impl AsRef<str>, value: impl AsRef<[u8]>) -> Result<Self, InvalidHeader> {
        let (name, value) = InvalidHeader::check(name.as_ref(), value.as_ref())?;
        Ok(self.set(|config| drop(config.headers.insert(name, value))))
    }

    /// Says which web page asks, as a browser does (RFC 6454). Default none, which servers take for a program.
    ///
    /// # Panics
    ///
    /// If it is not an origin: `https://example.com`, `http://localhost:3000`. [`try_origin`](Self::try_origin) returns
    /// an error instead.
    ///
    /// ```
    /// use ws_core::client::Client;
    ///
    /// let client = Client::new().origin("https://example.com");
    /// ```
    #[track_caller]
    pub fn origin(self, origin: impl AsRef<str>) -> Self {
        expect_valid(self.try_origin(origin))
    }

    /// As [`origin`](Self::origin), for an origin that comes from outside of the program.
    ///
    /// # Errors
    ///
    /// If it is not an origin.
    ///
    /// ```
    /// use ws_core::client::Client;
    ///
    /// assert!(Client::new().try_origin("https://example.com").is_ok());
    /// assert!(Client::new().try_origin("example.com").is_err());
    /// ```
    pub fn try_origin(self, origin: impl AsRef<str>) -> Result<Self, InvalidOrigin> {
        let origin: Origin = origin.as_ref().parse()?;
        // what an origin is written with can stand in a header
        let value = HeaderValue::try_from(origin.to_string()).ok();
        Ok(self.set(|config| config.headers.extend(value.map(|value| (ORIGIN, value)))))
    }

    /// The subprotocols that are offered, in the order of preference (RFC 6455 section 1.9). Default none.
    ///
    /// Which one the server has chosen, if any, is [`WebSocket::protocol`].
    ///
    /// # Panics
    ///
    /// If a name is not a token, which has letters, digits and ``!#$%&'*+-.^_`|~`` only, or is there twice.
    /// [`try_protocols`](Self::try_protocols) returns an error instead.
    #[track_caller]
    pub fn protocols<I>(self, protocols: I) -> Self
    where
        I: IntoIterator<Item: AsRef<str>>,
    {
        expect_valid(self.try_protocols(protocols))
    }

    /// As [`protocols`](Self::protocols), for names that come from outside of the program.
    ///
    /// # Errors
    ///
    /// If a name is not a token, or is there twice.
    pub fn try_protocols<I>(self, protocols: I) -> Result<Self, InvalidProtocol>
    where
        I: IntoIterator<Item: AsRef<str>>,
    {
        let offered = protocol_names(protocols)?;
        let is_repeated = |&(at, name): &(usize, &Arc<str>)| offered[..at].contains(name);
        if let Some((_, name)) = offered.iter().enumerate().find(is_repeated) {
            return Err(InvalidProtocol::Twice(name.to_string()));
        }
        Ok(self.set(|config| config.protocols = offered))
    }

    /// Refuses a server that chooses none of the [`protocols`](Self::protocols). Default off.
    pub fn require_protocol(self) -> Self {
        self.set(|config| config.require_protocol = true)
    }

    /// How long it may take until a connection is open: the name, TCP, TLS and the handshake together. Default 10 s.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[track_caller]
    pub fn connect_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        let timeout = checked("connect_timeout", timeout);
        self.set(|config| config.connect_timeout = timeout)
    }

    connection_knobs!();

    /// Offers to compress messages (permessage-deflate, RFC 7692), each one by itself, and does if the server agrees.
    /// Default off: see [`Compression`] for what it costs, and for what must not be compressed.
    ///
    /// A server that agrees and would make its messages depend on each other (without `server_no_context_takeover`) is
    /// refused, as section 7.1.1.1 has it.
    #[cfg(feature = "deflate")]
    pub fn compression(self, compression: impl Into<Option<Compression>>) -> Self {
        let compression = compression.into();
        self.set(|config| config.compression = compression)
    }

    /// Speaks TLS as this says: roots, certificates, versions. Default the roots that the operating system trusts,
    /// TLS 1.2 and 1.3.
    ///
    /// Leave its `alpn_protocols` empty, or set them to `http/1.1` alone.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use tokio_rustls::rustls::{ClientConfig, RootCertStore};
    /// use ws_core::client::Client;
    ///
    /// # let authority = rcgen::generate_simple_self_signed(["localhost".to_owned()])?.cert.der().clone();
    /// let mut roots = RootCertStore::empty();
    /// roots.add(authority)?;
    /// let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    /// let client = Client::new().tls_config(Arc::new(config));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "rustls")]
    pub fn tls_config(self, config: Arc<ClientConfig>) -> Self {
        self.set(|own| own.tls = Some(config))
    }

    /// Opens a connection to the server that `url` names (`ws://host:port/path?query`), by TCP, or by TLS for `wss`. All
    /// addresses of the name are tried, in their order, each one 250 ms after the one before or when that has failed
    /// (RFC 8305).
    ///
    /// When it is ready, the task of the connection has been spawned; the connection closes when the socket, or its
    /// [`Receiver`](crate::Receiver) if it was split, is dropped.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`].
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, there is no connection.
    pub async fn connect(&self, url: impl AsRef<str>) -> Result<WebSocket, ConnectError> {
        self.connect_to(&Target::parse(url.as_ref())?).await
    }

    /// As [`connect`](Self::connect), over a stream that leads to the server: the tunnel of a proxy, a Unix socket, a
    /// pipe in memory. `url` gives what is sent in the request: `Host`, path and query.
    ///
    /// For `wss`, TLS is spoken over the stream. Where it is encrypted already, write `ws`.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    ///
    /// # Panics
    ///
    /// As [`connect`](Self::connect).
    ///
    /// # Cancel safety
    ///
    /// As [`connect`](Self::connect); the stream is dropped.
    ///
    /// ```no_run
    /// # #[cfg(unix)]
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// use tokio::net::UnixStream;
    /// use ws_core::client::Client;
    ///
    /// let stream = UnixStream::connect("/run/chat.sock").await?;
    /// let socket = Client::new().connect_over("ws://localhost/chat", stream).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect_over<S>(&self, url: impl AsRef<str>, stream: S) -> Result<WebSocket, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let target = Target::parse(url.as_ref())?;
        let stream: Transport = Transport::Other(Box::new(stream));
        self.in_time(self.open(&target, stream)).await
    }

    /// Describes a connection to `url` that is opened anew when it ends: see [`ReconnectingWebSocket`].
    ///
    /// # Panics
    ///
    /// If `url` is not the URL of a WebSocket. [`try_reconnecting`](Self::try_reconnecting) returns an error instead.
    #[track_caller]
    pub fn reconnecting(&self, url: impl AsRef<str>) -> Reconnect {
        expect_valid(self.try_reconnecting(url))
    }

    /// As [`reconnecting`](Self::reconnecting), for a URL that comes from outside of the program.
    ///
    /// # Errors
    ///
    /// [`ConnectError::InvalidUrl`].
    pub fn try_reconnecting(&self, url: impl AsRef<str>) -> Result<Reconnect, ConnectError> {
        Ok(Reconnect::new(self.clone(), Target::parse(url.as_ref())?))
    }

    async fn connect_to(&self, target: &Target) -> Result<WebSocket, ConnectError> {
        self.in_time(async {
            let stream = tcp::connect(&target.host, target.port).await;
            self.open(target, Transport::from_tcp(stream.map_err(ConnectError::Connect)?)).await
        })
        .await
    }

    /// Within the `connect_timeout`.
    async fn in_time<T>(
        &self,
        open: impl Future<Output = Result<T, ConnectError>>,
    ) -> Result<T, ConnectError> {
        match self.config.connect_timeout {
            Some(limit) => timeout(limit, open).await.unwrap_or(Err(ConnectError::Timeout)),
            None => open.await,
        }
    }

    /// Opens a connection over a stream that leads to the server.
    async fn open(&self, target: &Target, mut transport: Transport) -> Result<WebSocket, ConnectError> {
        let config = &self.config;
        let peer = transport.peer();
        #[cfg(feature = "rustls")]
        if target.secure {
            let stream = tls::connect(transport, &target.host, config.tls.clone()).await?;
            transport = Transport::Tls(Box::new(stream));
        }
        let (agreed, read) = handshake::exchange(&mut transport, target, config).await?;

        let id = ConnectionId::next();
        // not a child of the caller's span, which would stay open as long as the connection
        let span = tracing::info_span!(
            parent: None,
            "websocket",
            connection = u64::from(id),
            host = target.authority,
            path = target.path(),
            protocol = agreed.protocol.as_deref(),
            peer = peer.map(tracing::field::display),
        );
        span.follows_from(tracing::Span::current());
        let info = ConnectionInfo { id, peer, protocol: agreed.protocol };
        let shared = Shared::new(Role::Client, info, Arc::clone(&config.connection), agreed.negotiated);
        let link = Link::new(shared, Role::Client, transport, &read, None, span);
        let (driver, socket) = Driver::without_handler(link);
        tokio::spawn(driver);
        Ok(socket)
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // the values of headers may be secrets, and the iterator over the names prints them, too
        f.debug_struct("Client")
            .field("headers", &self.config.headers.keys().collect::<Vec<_>>())
            .field("protocols", &self.config.protocols)
            .field("require_protocol", &self.config.require_protocol)
            .field("connect_timeout", &self.config.connect_timeout)
            .field("connection", &self.config.connection)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "connect_timeout is zero")]
    fn a_time_of_zero_is_refused_when_it_is_set() {
        let _ = Client::new().connect_timeout(Duration::ZERO);
    }

    #[test]
    #[should_panic(expected = "\"a\" is there twice")]
    fn a_subprotocol_that_is_there_twice_is_refused_when_it_is_set() {
        let _ = Client::new().protocols(["a", "b", "a"]);
    }

    #[test]
    #[should_panic(expected = "the header `upgrade` cannot be set")]
    fn a_header_of_the_handshake_is_refused_when_it_is_set() {
        let _ = Client::new().header("upgrade", "h2c");
    }

    #[test]
    #[should_panic(expected = "it has no scheme; put one in front")]
    fn an_origin_that_is_none_is_refused_when_it_is_set() {
        let _ = Client::new().origin("example.com");
    }

    #[test]
    #[should_panic(expected = "its scheme is http: write ws")]
    fn a_url_that_is_none_of_a_websocket_is_refused_before_it_is_connected_to() {
        let _ = Client::new().reconnecting("http://example.com");
    }

    #[test]
    fn values_from_outside_are_errors() {
        let client = Client::new();
        assert!(matches!(client.clone().try_header("a b", ""), Err(InvalidHeader::Name(_))));
        assert!(client.clone().try_origin("example.com").is_err());
        let twice = client.clone().try_protocols(["a", "b", "a"]);
        assert_eq!(twice.unwrap_err(), InvalidProtocol::Twice("a".to_owned()));
        assert!(client.try_reconnecting("http://example.com").unwrap_err().is_invalid_url());
    }

    #[test]
    fn what_is_printed_of_a_client_has_no_secret() {
        let client = Client::new().header("authorization", "Bearer 6f1e");
        let printed = format!("{client:?}");
        assert!(printed.contains("authorization") && !printed.contains("6f1e"), "{printed}");
    }
}

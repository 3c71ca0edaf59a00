//! The way to an open connection: TCP, TLS, the handshake, the task.

use std::future::Future;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::builder::Client;
use super::error::ConnectError;
use super::target::Target;
#[cfg(feature = "rustls")]
use super::tls;
use super::{handshake, tcp};
use crate::connection::{Driver, Link, Shared, Transport, WebSocket};
use crate::observer::{ConnectionId, ConnectionInfo};
use crate::protocol::Role;

/// Opens a connection with the defaults of [`Client`].
///
/// # Errors
///
/// See [`ConnectError`].
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

impl Client {
    /// Opens a connection to the server of `url` (`ws://host:port/path?query`), over TCP, or over TLS for `wss`. All
    /// addresses of the host are tried in order, each one 250 ms after the one before, or when that has failed (RFC 8305).
    ///
    /// The future is ready when the task of the connection has been spawned. The connection closes when the socket is
    /// dropped, or its [`Receiver`](crate::Receiver) if it was split.
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

    /// Opens a connection over a stream to the server, for example the tunnel of a proxy, a Unix socket or a pipe in
    /// memory. `url` gives `Host`, path and query of the request.
    ///
    /// For `wss` it uses TLS over the stream. If the stream is encrypted already, write `ws`.
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
    /// If the future is dropped before it is ready, there is no connection, and the stream is dropped.
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

    pub(super) async fn connect_to(&self, target: &Target) -> Result<WebSocket, ConnectError> {
        self.in_time(async {
            let stream = tcp::connect(&target.host, target.port).await;
            self.open(target, Transport::from_tcp(stream.map_err(ConnectError::Connect)?)).await
        })
        .await
    }

    /// The output of `open`, unless the `connect_timeout` is over before.
    pub(super) async fn in_time<T>(
        &self,
        open: impl Future<Output = Result<T, ConnectError>>,
    ) -> Result<T, ConnectError> {
        match self.config.connect_timeout {
            Some(limit) => timeout(limit, open).await.unwrap_or(Err(ConnectError::Timeout)),
            None => open.await,
        }
    }

    /// Opens a connection over a stream to the server, however long it takes.
    pub(super) async fn open(
        &self,
        target: &Target,
        mut transport: Transport,
    ) -> Result<WebSocket, ConnectError> {
        let config = &self.config;
        let peer = transport.peer();
        #[cfg(feature = "rustls")]
        if target.secure {
            let stream = tls::connect(transport, &target.host, config.tls.clone()).await?;
            transport = Transport::Tls(Box::new(stream));
        }
        let (agreed, read) = handshake::exchange(&mut transport, target, config).await?;

        let id = ConnectionId::next();
        // as a child it would keep the span of the caller open as long as the connection
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
        let shared =
            Shared::new(Role::Client, info, Arc::clone(&config.connection), agreed.negotiated, &read);
        let link = Link::new(shared, transport, None, span);
        let (driver, socket) = Driver::without_handler(link);
        tokio::spawn(driver);
        Ok(socket)
    }
}

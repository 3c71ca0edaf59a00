//! The way to an open connection: TCP, TLS, the handshake, the task.

use std::future::Future;
use std::sync::Arc;

use http::Response;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::builder::Client;
use super::error::ConnectError;
use super::handshake::{self, Accepted};
use super::proxy::Proxy;
use super::target::Target;
use super::tcp;
#[cfg(feature = "rustls")]
use super::tls;
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
    /// addresses of the host are tried in order, each one 250 ms after the one before, or when that has failed (RFC 8305). If
    /// there is a [`proxy`](Self::proxy), it connects to the server.
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
        Ok(self.connect_with_response(url).await?.0)
    }

    /// As [`connect`](Self::connect), with the server's answer: the status 101 and the headers, such as a cookie.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    ///
    /// # Panics
    ///
    /// As [`connect`](Self::connect): outside of a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// As [`connect`](Self::connect): if the future is dropped before it is ready, there is no connection.
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// use ws_core::client::Client;
    ///
    /// let (socket, response) = Client::new().connect_with_response("ws://localhost:3000/chat").await?;
    /// println!("served by {:?}", response.headers().get("server"));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect_with_response(
        &self,
        url: impl AsRef<str>,
    ) -> Result<(WebSocket, Response<()>), ConnectError> {
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
        Ok(self.connect_over_with_response(url, stream).await?.0)
    }

    /// As [`connect_over`](Self::connect_over), with the server's answer.
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
    /// As [`connect_over`](Self::connect_over): if the future is dropped before it is ready, there is no connection.
    pub async fn connect_over_with_response<S>(
        &self,
        url: impl AsRef<str>,
        stream: S,
    ) -> Result<(WebSocket, Response<()>), ConnectError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let target = Target::parse(url.as_ref())?;
        let stream = Transport::Other(Box::new(stream));
        self.in_time(self.open(&target, stream)).await
    }

    pub(super) async fn connect_to(
        &self,
        target: &Target,
    ) -> Result<(WebSocket, Response<()>), ConnectError> {
        self.in_time(async {
            let transport = match self.config.proxies.find(target)? {
                None => dial(target).await?,
                Some(proxy) => self.tunnel(proxy, target).await?,
            };
            self.open(target, transport).await
        })
        .await
    }

    /// Connects to the server through the proxy.
    async fn tunnel(&self, proxy: &Proxy, target: &Target) -> Result<Transport, ConnectError> {
        let to_proxy = async { self.secure(&proxy.target, dial(&proxy.target).await?).await };
        let mut transport = to_proxy.await.map_err(|error| proxy.blame(error))?;
        proxy.tunnel(&mut transport, target).await?;
        Ok(transport)
    }

    /// Starts TLS over the transport, if the target has it.
    #[cfg(feature = "rustls")]
    async fn secure(&self, target: &Target, transport: Transport) -> Result<Transport, ConnectError> {
        if !target.secure {
            return Ok(transport);
        }
        let stream = tls::connect(transport, &target.host, self.config.tls.clone()).await?;
        Ok(Transport::Tls(Box::new(stream)))
    }

    #[cfg(not(feature = "rustls"))]
    #[expect(clippy::unused_async, reason = "as with TLS")]
    async fn secure(&self, _: &Target, transport: Transport) -> Result<Transport, ConnectError> {
        Ok(transport)
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
        transport: Transport,
    ) -> Result<(WebSocket, Response<()>), ConnectError> {
        let config = &self.config;
        let peer = transport.peer();
        let mut transport = self.secure(target, transport).await?;
        let Accepted { agreed, response, read } = handshake::exchange(&mut transport, target, config)
            .await
            .map_err(|error| error.over_tls(target.secure))?;

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
        Ok((socket, response))
    }
}

/// Connects to the host, by TCP.
async fn dial(target: &Target) -> Result<Transport, ConnectError> {
    let stream = tcp::connect(&target.resolvable_host(), target.port).await;
    Ok(Transport::from_tcp(stream.map_err(ConnectError::Connect)?))
}

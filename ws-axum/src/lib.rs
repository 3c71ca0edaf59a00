//! WebSockets on axum: one line on the router, and every upgrade on it is validated, checked for its origin, timed, kept
//! alive, bounded and drainable.
//!
//! ```no_run
//! use axum::{Router, routing::any};
//! use ws_axum::{Error, WebSocket, WebSocketLayer, WebSocketUpgrade};
//!
//! #[tokio::main]
//! async fn main() -> std::io::Result<()> {
//!     let app = Router::new()
//!         .route("/echo", any(|upgrade: WebSocketUpgrade| async { upgrade.on_upgrade(echo) }))
//!         .layer(WebSocketLayer::new()); // the one line
//!
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//!     axum::serve(listener, app).await
//! }
//!
//! async fn echo(mut socket: WebSocket) -> Result<(), Error> {
//!     while let Some(message) = socket.recv().await {
//!         socket.send(message?).await?;
//!     }
//!     Ok(())
//! }
//! ```
//!
//! The route is [`any`](https://docs.rs/axum/0.8/axum/routing/method_routing/fn.any.html), not `get`: a browser that
//! speaks HTTP/2 sends CONNECT.
//!
//! [`WebSocketUpgrade`] is axum's own here, because it is an extractor. The layer, the socket and all other types are those
//! of [`ws_core`], re-exported.
//!
//! # The request beside the socket
//!
//! [`WebSocketUpgrade`] is an extractor like others. State, headers, and the user that an earlier middleware found, are
//! further arguments of the handler. The closure for the socket takes what it needs. The connection does not keep the
//! request.
//!
//! ```
//! use axum::extract::{Path, State};
//! use axum::response::Response;
//! use ws_axum::WebSocketUpgrade;
//!
//! #[derive(Clone)]
//! struct Greeting(&'static str);
//!
//! async fn greet(
//!     upgrade: WebSocketUpgrade,
//!     Path(name): Path<String>,
//!     State(Greeting(greeting)): State<Greeting>,
//! ) -> Response {
//!     upgrade.on_upgrade(async move |mut socket| socket.send(format!("{greeting}, {name}")).await)
//! }
//! # let _: axum::Router<Greeting> = axum::Router::new().route("/{name}", axum::routing::any(greet));
//! ```
//!
//! Over TLS or HTTP/2, `WebSocket::peer_addr` tells the client's address if a middleware has put it into the request as a
//! [`PeerAddr`].
//!
//! A route that needs nothing but the socket is made from the socket's handler alone:
//!
//! ```
//! # use axum::Router;
//! # use ws_axum::{WebSocket, WebSocketLayer};
//! # async fn echo(_: WebSocket) {}
//! let app: Router = Router::new()
//!     .route_service("/echo", ws_axum::service(echo))
//!     .layer(WebSocketLayer::new());
//! ```
//!
//! # One route with other limits
//!
//! The settings of a connection are methods of the layer, for all routes, and of [`WebSocketUpgrade`], for one:
//!
//! ```
//! # use axum::response::Response;
//! # use ws_axum::{WebSocket, WebSocketUpgrade};
//! # async fn save(_: WebSocket) {}
//! async fn upload(upgrade: WebSocketUpgrade) -> Response {
//!     upgrade.max_message_size(64 << 20).on_upgrade(save)
//! }
//! # let _: axum::Router = axum::Router::new().route("/", axum::routing::any(upload));
//! ```
//!
//! # Shutting down
//!
//! The graceful shutdown of axum does not know WebSockets. Let it begin with a drain:
//!
//! ```no_run
//! # use axum::Router;
//! # use ws_axum::{Drain, WebSocketLayer};
//! # async fn serve(listener: tokio::net::TcpListener) -> std::io::Result<()> {
//! let layer = WebSocketLayer::new();
//! let connections = layer.connections();
//! let app = Router::new().layer(layer);
//! axum::serve(listener, app)
//!     .with_graceful_shutdown(async move {
//!         let _ = tokio::signal::ctrl_c().await;
//!         connections.drain(Drain::new()).await;
//!     })
//!     .await
//! # }
//! ```
//!
//! # Coming from `axum::extract::ws`
//!
//! | `axum::extract::ws` | `ws_axum` |
//! |---|---|
//! | `WebSocketUpgrade` | [`WebSocketUpgrade`], under a [`WebSocketLayer`] |
//! | `ws.protocols([..])` | [`WebSocketLayer::protocols`] for all routes, [`WebSocketUpgrade::protocols`] for one; the server's order decides, not the client's |
//! | `ws.max_message_size(n)`, `max_frame_size(n)` | the same, or on the layer for all routes; 1 MiB in place of 64 MiB and 16 MiB, and a frame may be as large as a message |
//! | `ws.read_buffer_size(n)`, `write_buffer_size(n)`, `max_write_buffer_size(n)` | not needed: a connection has buffers only while it uses them; [`WebSocketLayer::outbound_buffer`] says how much may wait to be sent |
//! | `ws.on_failed_upgrade(f)` | [`WebSocketUpgrade::on_failed_upgrade`] |
//! | `ws.on_upgrade(f)`, `f` returns `()` | the same, and `f` may return a `Result` |
//! | `Message::{Text, Binary, Ping, Pong, Close}` | [`Message::Text`] and [`Message::Binary`]; the connection handles the rest |
//! | `socket.recv()`, `send(message)` | the same; `send` takes `&str`, `String`, `Vec<u8>`, … as well |
//! | a task that sends `Message::Ping` | on by default, with a deadline for the answer: [`WebSocketLayer::ping_interval`] |
//! | `socket.send(Message::Close(Some(CloseFrame { code, reason })))` | `socket.close_with(CloseFrame { code, reason })` or `socket.close(code, reason)`, which wait for the peer's answer |
//! | `StreamExt::split`, with a channel and a task, to send from several tasks | [`WebSocket::split`]: a [`Sender`] is `Clone` |
//! | a check of `Origin` that you write | on by default: [`WebSocketLayer::origin`] |
//! | connections that a shutdown ignores | [`Connections::drain`] |
//!
//! # Features
//!
//! `json` (default), `deflate` and `testing`, as in [`ws_core`](ws_core#features).

use std::fmt;

use axum_core::extract::FromRequestParts;
use axum_core::response::{IntoResponse, Response};
use http::Version;
use http::request::Parts;
#[cfg(feature = "testing")]
pub use ws_core::testing;
pub use ws_core::{
    Body, CloseCode, CloseFrame, Closed, ConnectionId, ConnectionInfo, Connections, Drain, Drained, Error,
    FutureWebSocket, HandlerService, InvalidClose, InvalidOrigin, InvalidProtocol, InvalidUtf8, Message,
    Observer, Origin, OriginPolicy, Outcome, PeerAddr, PreparedMessage, ProtocolError, Receiver, Rejection,
    ResponseBody, ResponseFuture, Sender, Sending, Side, Timeout, TrySendError, Utf8Bytes, WebSocket,
    WebSocketLayer, WebSocketService, service,
};
#[cfg(feature = "deflate")]
pub use ws_core::{Compression, InvalidLevel};

/// An accepted handshake, as an extractor: [`on_upgrade`](Self::on_upgrade) makes it a connection, dropping it does not.
///
/// Its methods such as [`max_message_size`](Self::max_message_size) change the layer's settings for this connection alone.
///
/// It needs a [`WebSocketLayer`] around the router. Without one it is rejected with 500. A request that is no upgrade is
/// rejected with 426 (upgrade required).
///
/// ```
/// use axum::response::Response;
/// use ws_axum::WebSocketUpgrade;
///
/// async fn hello(upgrade: WebSocketUpgrade) -> Response {
///     upgrade.on_upgrade(async |mut socket| socket.send("hello").await)
/// }
/// # let _: axum::Router = axum::Router::new().route("/", axum::routing::any(hello));
/// ```
#[must_use = "the WebSocket opens when `on_upgrade` is called and its response returned"]
pub struct WebSocketUpgrade(ws_core::WebSocketUpgrade);

impl WebSocketUpgrade {
    /// The head of the request. The connection does not keep it.
    #[must_use]
    pub fn head(&self) -> &Parts {
        self.0.head()
    }

    ws_core::__upgrade_methods! {
        /// What earlier middleware put into the request, for example the authenticated user.
    }

    #[expect(clippy::unnecessary_wraps, reason = "another adapter's may have none")]
    fn accepted(&self) -> Option<&ws_core::WebSocketUpgrade> {
        Some(&self.0)
    }

    fn map(self, change: impl FnOnce(ws_core::WebSocketUpgrade) -> ws_core::WebSocketUpgrade) -> Self {
        Self(change(self.0))
    }

    /// Makes the response, 101 (switching protocols) or, over HTTP/2, 200, and spawns the task of the connection, which
    /// runs `handler` when the response has been sent.
    ///
    /// If the route returns another response, or none in time, there is no connection, and `handler` is dropped without
    /// being called. [`WebSocket`] and [`Outcome`] say what it means when `handler` returns.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn on_upgrade<F, Fut>(self, handler: F) -> Response
    where
        F: FnOnce(WebSocket) -> Fut + Send + 'static,
        Fut: Future<Output: Outcome> + Send + 'static,
    {
        self.0.on_upgrade(handler).map(axum_core::body::Body::new)
    }

    /// Makes the response, and a future of the socket, for code that has no handler to call.
    ///
    /// Poll the future, usually on a task of its own, while the response is sent. When it is ready, the task of the
    /// connection has been spawned. The connection closes when the socket is dropped, or its [`Receiver`] if it was split.
    ///
    /// ```
    /// use axum::response::Response;
    /// use ws_axum::WebSocketUpgrade;
    ///
    /// async fn hello(upgrade: WebSocketUpgrade) -> Response {
    ///     let (response, socket) = upgrade.into_parts();
    ///     tokio::spawn(async move {
    ///         let mut socket = socket.await?;
    ///         socket.send("hello").await
    ///     });
    ///     response
    /// }
    /// # let _: axum::Router = axum::Router::new().route("/", axum::routing::any(hello));
    /// ```
    #[must_use = "the response opens the WebSocket, and the future is the socket"]
    pub fn into_parts(self) -> (Response, FutureWebSocket) {
        let (response, socket) = self.0.into_parts();
        (response.map(axum_core::body::Body::new), socket)
    }
}

impl<S: Sync> FromRequestParts<S> for WebSocketUpgrade {
    type Rejection = WebSocketUpgradeRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        ws_core::WebSocketUpgrade::from_parts(parts)
            .map(Self)
            .map_err(|inner| WebSocketUpgradeRejection { inner, version: parts.version })
    }
}

impl fmt::Debug for WebSocketUpgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why there is no [`WebSocketUpgrade`]: the request is no upgrade, or there is no [`WebSocketLayer`].
///
/// ```
/// use axum::response::{IntoResponse, Response};
/// use ws_axum::{Rejection, WebSocketUpgrade, WebSocketUpgradeRejection};
///
/// // a page for requests that are no upgrades
/// async fn page_or_socket(upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>) -> Response {
///     match upgrade {
///         Ok(upgrade) => upgrade.on_upgrade(async |socket| drop(socket)),
///         Err(rejection) if *rejection.inner() == Rejection::NotAnUpgrade => "use a WebSocket".into_response(),
///         Err(rejection) => rejection.into_response(),
///     }
/// }
/// # let _: axum::Router = axum::Router::new().route("/", axum::routing::any(page_or_socket));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSocketUpgradeRejection {
    inner: Rejection,
    version: Version,
}

impl WebSocketUpgradeRejection {
    /// The reason.
    #[must_use]
    pub fn inner(&self) -> &Rejection {
        &self.inner
    }
}

impl fmt::Display for WebSocketUpgradeRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl std::error::Error for WebSocketUpgradeRejection {}

impl IntoResponse for WebSocketUpgradeRejection {
    fn into_response(self) -> Response {
        self.inner.into_response(self.version).map(axum_core::body::Body::new)
    }
}

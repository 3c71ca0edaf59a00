//! WebSockets on axum: one line on the router, and every upgrade on it is validated, checked for its origin, timed,
//! kept alive, bounded and drainable.
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
//! The layer, the socket and everything else are [`ws_core`]'s, and are re-exported here.
//!
//! # The request beside the socket
//!
//! [`WebSocketUpgrade`] is an extractor like others: state, headers, the user that an earlier middleware found, all
//! come in as they do for any handler. The socket's closure takes what it needs; the request is not kept.
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
//! A route that needs nothing else is made of the handler alone:
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
//! # Shutting down
//!
//! axum's graceful shutdown does not know a WebSocket. Let it begin with a drain:
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
//! | there | here |
//! |---|---|
//! | `WebSocketUpgrade` | [`WebSocketUpgrade`], under a [`WebSocketLayer`] |
//! | `ws.protocols([..])` | [`WebSocketLayer::protocols`] for all routes, [`WebSocketUpgrade::protocols`] for one; the server's order decides, not the client's |
//! | `ws.max_message_size(n)`, `max_frame_size(n)` | on the layer; 1 MiB in place of 64 MiB and 16 MiB |
//! | `ws.read_buffer_size(n)`, `write_buffer_size(n)`, `max_write_buffer_size(n)` | no meaning: buffers are borrowed while they are needed; how much may wait is [`WebSocketLayer::outbound_buffer`] |
//! | `ws.on_failed_upgrade(f)` | [`WebSocketUpgrade::on_failed_upgrade`] |
//! | `ws.on_upgrade(f)`, `f` returns `()` | the same, and `f` may return a `Result` |
//! | `Message::{Text, Binary, Ping, Pong, Close}` | [`Message::Text`] and [`Message::Binary`]: the rest is taken care of |
//! | `socket.recv()`, `send(message)` | the same; `send` takes `&str`, `String`, `Vec<u8>`, … as well |
//! | a task that sends `Message::Ping` | on by default, with a deadline for the answer: [`WebSocketLayer::ping_interval`] |
//! | `socket.send(Message::Close(Some(CloseFrame { code, reason })))` | [`WebSocket::close`], which waits for the peer's answer |
//! | `StreamExt::split`, a channel and a task to send from many places | [`WebSocket::split`]: a [`Sender`] is `Clone` |
//! | a check of `Origin` by hand | on by default: [`WebSocketLayer::origin`] |
//! | connections that a shutdown forgets | [`Connections::drain`] |
//!
//! # Features
//!
//! `json` (default), `deflate` and `testing`, as in [`ws_core`].

use std::fmt;

use axum_core::extract::FromRequestParts;
use axum_core::response::{IntoResponse, Response};
use http::Version;
use http::request::Parts;
pub use ws_core::*;

/// An accepted handshake, as an extractor: [`on_upgrade`](Self::on_upgrade) makes it a connection.
///
/// It needs a [`WebSocketLayer`] around the router; without one it is rejected with 500. A request that is no upgrade is
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
    /// The subprotocol that was chosen, if any.
    #[must_use]
    pub fn protocol(&self) -> Option<&str> {
        self.0.protocol()
    }

    /// The head of the request.
    #[must_use]
    pub fn head(&self) -> &Parts {
        self.0.head()
    }

    /// Chooses the subprotocol anew, for this route, see [`ws_core::WebSocketUpgrade::protocols`].
    pub fn protocols<I>(self, protocols: I) -> Self
    where
        I: IntoIterator<Item: AsRef<str>>,
    {
        Self(self.0.protocols(protocols))
    }

    /// Calls `callback` if the connection does not come about after all, see
    /// [`ws_core::WebSocketUpgrade::on_failed_upgrade`].
    pub fn on_failed_upgrade(self, callback: impl FnOnce(Error) + Send + 'static) -> Self {
        Self(self.0.on_failed_upgrade(callback))
    }

    /// Makes the response, and serves the connection with `handler` when the response is out, see
    /// [`ws_core::WebSocketUpgrade::on_upgrade`].
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
/// // a page for those who come without an upgrade
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
    /// What was wrong.
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

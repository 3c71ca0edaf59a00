//! WebSockets on warp: a filter, and every upgrade that passes it is validated, checked for its origin, timed, kept
//! alive, bounded and drainable.
//!
//! ```no_run
//! use warp::Filter;
//! use ws_warp::{Error, WebSocket, WebSocketLayer, WebSocketUpgrade, websocket};
//!
//! #[tokio::main]
//! async fn main() {
//!     let layer = WebSocketLayer::new();
//!     let echo = warp::path("echo")
//!         .and(websocket(layer)) // the one line
//!         .map(|upgrade: WebSocketUpgrade| upgrade.on_upgrade(echo));
//!
//!     warp::serve(echo).run(([127, 0, 0, 1], 3000)).await;
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
//! It does not need warp's own feature `websocket`. [`WebSocketUpgrade`] is warp's own here, because a filter extracts it.
//! The layer, the socket and all other types are those of [`ws_core`], re-exported. Give clones of one layer to all routes,
//! so that they share its limit of connections and its drain. A route with other limits sets them on its clone,
//! `websocket(layer.clone().max_message_size(64 << 20))`, or on the [`WebSocketUpgrade`].
//!
//! # The request beside the socket
//!
//! The filter composes with any other. What they extract goes to the closure for the socket:
//!
//! ```
//! use warp::Filter;
//! use ws_warp::{WebSocketLayer, WebSocketUpgrade, websocket};
//!
//! let greet = warp::path!("greet" / String)
//!     .and(warp::header::optional("accept-language"))
//!     .and(websocket(WebSocketLayer::new()))
//!     .map(|name: String, language: Option<String>, upgrade: WebSocketUpgrade| {
//!         let greeting = if language.is_some_and(|it| it.starts_with("de")) { "hallo" } else { "hello" };
//!         upgrade.on_upgrade(async move |mut socket| socket.send(format!("{greeting}, {name}")).await)
//!     });
//! # drop(greet);
//! ```
//!
//! # Shutting down
//!
//! The graceful shutdown of warp does not know WebSockets. Let it begin with a drain:
//!
//! ```no_run
//! # use warp::Filter;
//! # use ws_warp::{Drain, WebSocketLayer, WebSocketUpgrade, websocket};
//! # async fn serve() {
//! let layer = WebSocketLayer::new();
//! let connections = layer.connections();
//! let routes = websocket(layer).map(|upgrade: WebSocketUpgrade| upgrade.on_upgrade(async |_| ()));
//! warp::serve(routes)
//!     .bind(([127, 0, 0, 1], 3000))
//!     .await
//!     .graceful(async move {
//!         let _ = tokio::signal::ctrl_c().await;
//!         connections.drain(Drain::new()).await;
//!     })
//!     .run()
//!     .await;
//! # }
//! ```
//!
//! The compiler cannot always prove that the future of warp's `run` is `Send` when another future awaits it. To spawn it,
//! box it first, in a function that is not async.
//!
//! # What differs on warp
//!
//! - The route runs for a handshake that is refused, too. A filter can only reject, and a rejection needs a `recover` that
//!   you write. So the filter lets the handshake pass, and [`WebSocketUpgrade::on_upgrade`] replies with the refusal
//!   instead of the upgrade. Status, headers and text are those of the other frameworks.
//!   [`WebSocketUpgrade::rejection`] tells the route beforehand.
//! - The handshake timeout does not cancel a route that does not answer. An answer that comes too late is 408.
//! - A filter does not see the reply of its route. After any reply but the upgrade, an HTTP/1.1 connection stays open, as
//!   warp keeps it. A route that makes the reply of an upgrade has to return it: if it returns another one in its place, the
//!   connection may open when the peer is already gone.
//! - A filter does not see the HTTP version. An upgrade that warp's server does not support counts as HTTP/1.0, and is
//!   refused with 505.
//! - A filter does not see a host in the target of a request (`GET http://example.com/chat HTTP/1.1`) if `Host` names another
//!   one. Then the handshake is refused with 400. On the other frameworks the target counts. No browser sends such a request.
//! - A filter does not see all extensions of a request, so [`WebSocketUpgrade::extensions`] has none of other middleware.
//!   Extract them with `warp::ext`.
//! - warp's own server does not offer WebSockets over HTTP/2 (RFC 8441). `warp::service` on another server does, such as
//!   `ws_hyper::serve`.
//!
//! # Features
//!
//! `json` (default), `deflate` and `testing`, as in [`ws_core`](ws_core#features).

use std::fmt;

use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use warp::filters::path::FullPath;
use warp::host::Authority;
use warp::reply::{Reply, Response};
use warp::{Filter, reject};
use ws_core::HiddenTarget;
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

/// A filter that takes upgrades, checks them by the rules of `layer`, and extracts a [`WebSocketUpgrade`].
///
/// A request that is no upgrade is rejected as not found, so that other routes can match it.
///
/// ```
/// use warp::Filter;
/// use ws_warp::{WebSocketLayer, WebSocketUpgrade, websocket};
///
/// let hello = warp::path("hello")
///     .and(websocket(WebSocketLayer::new()))
///     .map(|upgrade: WebSocketUpgrade| upgrade.on_upgrade(async |mut socket| socket.send("hello").await));
/// # drop(hello);
/// ```
#[must_use]
pub fn websocket(
    layer: WebSocketLayer,
) -> impl Filter<Extract = (WebSocketUpgrade,), Error = reject::Rejection> + Clone {
    warp::method()
        .and(uri())
        .and(target())
        .and(warp::header::headers_cloned())
        .and(warp::ext::optional::<Protocol>())
        .and(warp::ext::optional::<OnUpgrade>())
        .and(warp::ext::optional::<PeerAddr>())
        .and_then(move |method, uri, target, headers, protocol, on_upgrade, peer| {
            let upgrade = upgrade(&layer, head(method, uri, target, headers, protocol, on_upgrade, peer));
            async { upgrade.ok_or_else(reject::not_found) }
        })
}

/// The path and the query.
fn uri() -> impl Filter<Extract = (Uri,), Error = reject::Rejection> + Clone {
    let query = warp::query::raw().map(Some).or_else(|_| async { Ok::<_, reject::Rejection>((None,)) });
    warp::path::full().and(query).map(|path: FullPath, query: Option<String>| {
        let path = path.as_str();
        let uri = query.map_or_else(|| path.parse(), |query| format!("{path}?{query}").parse());
        // both were parts of a URI, so this is one
        uri.unwrap_or_default()
    })
}

/// What filters see of the host in the target: over HTTP/2 it is `:authority`.
#[derive(Clone, Debug)]
enum Target {
    /// The target or `Host` names this one, or both do.
    Host(Authority),
    NoHost,
    /// Both name a host, and not the same one; or `Host` is not valid, which the layer sees by itself.
    Hidden,
}

fn target() -> impl Filter<Extract = (Target,), Error = reject::Rejection> + Clone {
    let target = |authority: Option<Authority>| authority.map_or(Target::NoHost, Target::Host);
    let host = warp::host::optional().map(target);
    host.or_else(|_| async { Ok::<_, reject::Rejection>((Target::Hidden,)) })
}

/// The head of the request, as far as filters can see it.
fn head(
    method: Method,
    uri: Uri,
    target: Target,
    headers: HeaderMap,
    protocol: Option<Protocol>,
    on_upgrade: Option<OnUpgrade>,
    peer: Option<PeerAddr>,
) -> Parts {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = method;
    parts.uri = uri;
    parts.headers = headers;
    parts.version = match (&protocol, &on_upgrade) {
        (Some(_), _) => Version::HTTP_2,
        (None, Some(_)) => Version::HTTP_11,
        (None, None) => Version::HTTP_10,
    };
    match target {
        // a `Uri` with a host has a scheme, which a filter does not see
        Target::Host(authority) if protocol.is_some() => {
            if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
                parts.headers.entry(HOST).or_insert(host);
            }
        }
        Target::Host(_) | Target::NoHost => {}
        Target::Hidden => drop(parts.extensions.insert(HiddenTarget)),
    }
    if let Some(protocol) = protocol {
        parts.extensions.insert(protocol);
    }
    if let Some(on_upgrade) = on_upgrade {
        parts.extensions.insert(on_upgrade);
    }
    if let Some(peer) = peer {
        parts.extensions.insert(peer);
    }
    parts
}

fn upgrade(layer: &WebSocketLayer, mut head: Parts) -> Option<WebSocketUpgrade> {
    match layer.upgrade(&mut head) {
        Err(Rejection::NotAnUpgrade) => None,
        result => Some(WebSocketUpgrade { result, head }),
    }
}

/// A handshake that passed the filter [`websocket`]: [`on_upgrade`](Self::on_upgrade) makes it a connection, or replies
/// that it is refused.
///
/// Its methods such as [`max_message_size`](Self::max_message_size) change the layer's settings for this connection alone.
///
/// ```
/// use warp::{Filter, Reply};
/// use ws_warp::{WebSocketLayer, WebSocketUpgrade, websocket};
///
/// fn hello(upgrade: WebSocketUpgrade) -> impl Reply {
///     upgrade.on_upgrade(async |mut socket| socket.send("hello").await)
/// }
///
/// let route = websocket(WebSocketLayer::new()).map(hello);
/// # drop(route);
/// ```
#[must_use = "the WebSocket opens when `on_upgrade` is called and its reply returned"]
pub struct WebSocketUpgrade {
    result: Result<ws_core::WebSocketUpgrade, Rejection>,
    head: Parts,
}

impl WebSocketUpgrade {
    /// Why the handshake is refused, if it is. [`on_upgrade`](Self::on_upgrade) then replies with it.
    #[must_use]
    pub fn rejection(&self) -> Option<&Rejection> {
        self.result.as_ref().err()
    }

    /// The head of the request, as far as a filter sees it: without the extensions of other middleware, and with a version
    /// that says HTTP/1.1 or HTTP/2 only.
    #[must_use]
    pub fn head(&self) -> &Parts {
        &self.head
    }

    ws_core::__upgrade_methods! {
        /// The extensions of the request, as far as a filter sees them: those of other middleware are not there. Extract them
        /// with `warp::ext`.
    }

    fn accepted(&self) -> Option<&ws_core::WebSocketUpgrade> {
        self.result.as_ref().ok()
    }

    fn map(self, change: impl FnOnce(ws_core::WebSocketUpgrade) -> ws_core::WebSocketUpgrade) -> Self {
        Self { result: self.result.map(change), ..self }
    }

    /// Makes the reply, 101 (switching protocols) or, over HTTP/2, 200, and spawns the task of the connection, which runs
    /// `handler` when the reply has been sent. If the handshake is refused, the reply says why.
    ///
    /// If there is no connection, `handler` is dropped without being called. [`WebSocket`] and [`Outcome`] say what it means
    /// when `handler` returns.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn on_upgrade<F, Fut>(self, handler: F) -> UpgradeReply
    where
        F: FnOnce(WebSocket) -> Fut + Send + 'static,
        Fut: Future<Output: Outcome> + Send + 'static,
    {
        let response = match self.into_accepted() {
            Ok(upgrade) => upgrade.on_upgrade(handler),
            Err(refusal) => refusal,
        };
        UpgradeReply { response }
    }

    /// Makes the reply, and a future of the socket, for code that has no handler to call. If the handshake is refused, the
    /// reply says why, and there is no future.
    ///
    /// Poll the future, usually on a task of its own, while the reply is sent. When it is ready, the task of the connection
    /// has been spawned. The connection closes when the socket is dropped, or its [`Receiver`] if it was split.
    ///
    /// ```
    /// use warp::{Filter, Reply};
    /// use ws_warp::{WebSocketLayer, WebSocketUpgrade, websocket};
    ///
    /// fn hello(upgrade: WebSocketUpgrade) -> impl Reply {
    ///     let (reply, socket) = upgrade.into_parts();
    ///     if let Some(socket) = socket {
    ///         tokio::spawn(async move {
    ///             let mut socket = socket.await?;
    ///             socket.send("hello").await
    ///         });
    ///     }
    ///     reply
    /// }
    ///
    /// let route = websocket(WebSocketLayer::new()).map(hello);
    /// # drop(route);
    /// ```
    #[must_use = "the reply opens the WebSocket, and the future is the socket"]
    pub fn into_parts(self) -> (UpgradeReply, Option<FutureWebSocket>) {
        let (response, socket) = match self.into_accepted() {
            Ok(upgrade) => {
                let (response, socket) = upgrade.into_parts();
                (response, Some(socket))
            }
            Err(refusal) => (refusal, None),
        };
        (UpgradeReply { response }, socket)
    }

    /// The handshake, or the response that refuses it.
    #[expect(clippy::result_large_err, reason = "it is used at once")]
    fn into_accepted(self) -> Result<ws_core::WebSocketUpgrade, http::Response<Body>> {
        let rejection = match self.result {
            Ok(upgrade) if !upgrade.is_late() => return Ok(upgrade),
            Ok(_) => Rejection::Timeout,
            Err(rejection) => rejection,
        };
        Err(rejection.into_response(self.head.version))
    }
}

impl fmt::Debug for WebSocketUpgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WebSocketUpgrade").field(&self.result).finish()
    }
}

/// The reply to a handshake, made by [`WebSocketUpgrade::on_upgrade`].
///
/// ```
/// fn is_a_reply<R: warp::Reply>() {}
///
/// is_a_reply::<ws_warp::UpgradeReply>();
/// ```
#[derive(Debug)]
pub struct UpgradeReply {
    response: http::Response<Body>,
}

impl Reply for UpgradeReply {
    fn into_response(self) -> Response {
        let (parts, body) = self.response.into_parts();
        Response::from_parts(parts, body.into_bytes().into())
    }
}

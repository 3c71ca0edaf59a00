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
//! It needs nothing of warp's own feature `websocket`. The layer, the socket and everything else are [`ws_core`]'s, and
//! are re-exported here. Give clones of one layer to all routes, so that they share its limit and its drain.
//!
//! # The request beside the socket
//!
//! The filter composes with any other; what they extract goes to the socket's closure:
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
//! warp's graceful shutdown does not know a WebSocket. Let it begin with a drain:
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
//! The compiler cannot always prove that the future of warp's `run` is `Send` when it is awaited inside of another: to
//! spawn it, box it first, in a function that is not async.
//!
//! # What differs on warp
//!
//! - A handshake that is refused does not keep the rest of the route from running: a filter can only reject, and a
//!   rejection needs a `recover` of yours. So the filter lets it pass, and [`WebSocketUpgrade::on_upgrade`] replies with
//!   the refusal in place of the upgrade, with the same status, headers and text as on the other frameworks.
//! - The handshake timeout does not cut off a route that does not answer; an answer that comes too late is 408.
//! - A filter does not see the HTTP version. An upgrade that warp's server does not support counts as HTTP/1.0, and is
//!   refused with 505.
//! - warp's own server does not offer WebSockets over HTTP/2 (RFC 8441). `warp::service` on another server does, such as
//!   `ws_hyper::serve`.
//!
//! # Features
//!
//! `json` (default), `deflate` and `testing`, as in [`ws_core`].

use std::fmt;

use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Version};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use warp::filters::path::FullPath;
use warp::host::Authority;
use warp::reply::{Reply, Response};
use warp::{Filter, reject};
pub use ws_core::*;

/// A filter that takes upgrades, checks them by the rules of `layer`, and extracts a [`WebSocketUpgrade`].
///
/// A request that is no upgrade is rejected as not found, so that other routes can match it.
///
/// The example is [at the crate](crate).
#[must_use]
pub fn websocket(
    layer: WebSocketLayer,
) -> impl Filter<Extract = (WebSocketUpgrade,), Error = reject::Rejection> + Clone {
    warp::method()
        .and(warp::path::full())
        .and(headers())
        .and(warp::ext::optional::<Protocol>())
        .and(warp::ext::optional::<OnUpgrade>())
        .and_then(move |method, path, headers, protocol, on_upgrade| {
            let upgrade = upgrade(&layer, head(method, &path, headers, protocol, on_upgrade));
            async { upgrade.ok_or_else(reject::not_found) }
        })
}

/// The headers, with a `Host` for a request that has none: over HTTP/2 it has `:authority` in its place.
fn headers() -> impl Filter<Extract = (HeaderMap,), Error = reject::Rejection> + Clone {
    // a `Host` that this does not take is there, and the layer says what is wrong with it
    let authority = warp::host::optional().or_else(|_| async { Ok::<_, reject::Rejection>((None,)) });
    warp::header::headers_cloned().and(authority).map(
        |mut headers: HeaderMap, authority: Option<Authority>| {
            if let Some(host) = authority.and_then(|it| HeaderValue::from_str(it.as_str()).ok()) {
                headers.entry(HOST).or_insert(host);
            }
            headers
        },
    )
}

/// The head of the request, as far as filters can see it.
fn head(
    method: Method,
    path: &FullPath,
    headers: HeaderMap,
    protocol: Option<Protocol>,
    on_upgrade: Option<OnUpgrade>,
) -> Parts {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = method;
    // it was the path of a URI already, so it is one
    parts.uri = path.as_str().parse().unwrap_or_default();
    parts.headers = headers;
    parts.version = match (&protocol, &on_upgrade) {
        (Some(_), _) => Version::HTTP_2,
        (None, Some(_)) => Version::HTTP_11,
        (None, None) => Version::HTTP_10,
    };
    if let Some(protocol) = protocol {
        parts.extensions.insert(protocol);
    }
    if let Some(on_upgrade) = on_upgrade {
        parts.extensions.insert(on_upgrade);
    }
    parts
}

fn upgrade(layer: &WebSocketLayer, mut head: Parts) -> Option<WebSocketUpgrade> {
    match layer.upgrade(&mut head) {
        Err(Rejection::NotAnUpgrade) => None,
        result => Some(WebSocketUpgrade { result, version: head.version }),
    }
}

/// A handshake that passed the filter [`websocket`]: [`on_upgrade`](Self::on_upgrade) makes it a connection, or replies
/// that it was refused.
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
    version: Version,
}

impl WebSocketUpgrade {
    /// Why the handshake is refused, if it is: `on_upgrade` will reply so.
    #[must_use]
    pub fn rejection(&self) -> Option<&Rejection> {
        self.result.as_ref().err()
    }

    /// The subprotocol that was chosen, if any.
    #[must_use]
    pub fn protocol(&self) -> Option<&str> {
        self.result.as_ref().ok()?.protocol()
    }

    /// Chooses the subprotocol anew, for this route, see [`ws_core::WebSocketUpgrade::protocols`].
    pub fn protocols<I>(self, protocols: I) -> Self
    where
        I: IntoIterator<Item: AsRef<str>>,
    {
        Self { result: self.result.map(|upgrade| upgrade.protocols(protocols)), ..self }
    }

    /// Calls `callback` if the connection does not come about after all, see
    /// [`ws_core::WebSocketUpgrade::on_failed_upgrade`]. It is not called for a handshake that is refused.
    pub fn on_failed_upgrade(self, callback: impl FnOnce(Error) + Send + 'static) -> Self {
        Self { result: self.result.map(|upgrade| upgrade.on_failed_upgrade(callback)), ..self }
    }

    /// Makes the reply, and serves the connection with `handler` when the reply is out, see
    /// [`ws_core::WebSocketUpgrade::on_upgrade`]. If the handshake is refused, the reply says so.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn on_upgrade<F, Fut>(self, handler: F) -> UpgradeReply
    where
        F: FnOnce(WebSocket) -> Fut + Send + 'static,
        Fut: Future<Output: Outcome> + Send + 'static,
    {
        let response = match self.result {
            Ok(upgrade) if upgrade.is_late() => Rejection::Timeout.into_response(self.version),
            Ok(upgrade) => upgrade.on_upgrade(handler),
            Err(rejection) => rejection.into_response(self.version),
        };
        UpgradeReply { response }
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

//! WebSockets on hyper: every upgrade is validated, checked for its origin, timed, kept alive, bounded and drainable, over
//! HTTP/1.1 and HTTP/2.
//!
//! There are three ways to use it. The first one does the most for you.
//!
//! [`serve`] is a whole server: it accepts connections, speaks both versions of HTTP, ends those that are slow, silent or
//! idle, speaks TLS with an acceptor that you give it, tells the client's address, and drains WebSockets when it shuts down.
//! [Its defaults](#defaults) are below.
//!
//! ```no_run
//! use tower_layer::Layer;
//! use ws_hyper::{Error, WebSocket, WebSocketLayer, service};
//!
//! #[tokio::main]
//! async fn main() -> std::io::Result<()> {
//!     let app = WebSocketLayer::new().layer(service(echo)); // the one line
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//!     ws_hyper::serve(listener, app).await
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
//! For a loop of your own around `hyper::server::conn`, a [`WebSocketService`] around a `hyper::service::Service` is a
//! `hyper::service::Service`, too. Serve HTTP/1.1 connections with upgrades, and HTTP/2 ones with
//! `enable_connect_protocol`:
//!
//! ```
//! use std::convert::Infallible;
//! use hyper::body::Incoming;
//! use hyper::service::service_fn;
//! use hyper_util::rt::TokioIo;
//! use tower_layer::Layer;
//! use ws_hyper::{Body, WebSocketLayer, WebSocketUpgrade};
//!
//! async fn connection(stream: tokio::net::TcpStream, layer: WebSocketLayer) -> hyper::Result<()> {
//!     let app = layer.layer(service_fn(async |request: http::Request<Incoming>| {
//!         let (mut parts, _) = request.into_parts();
//!         Ok::<http::Response<Body>, Infallible>(match WebSocketUpgrade::from_parts(&mut parts) {
//!             Ok(upgrade) => upgrade.on_upgrade(async |mut socket| socket.send("hello").await),
//!             Err(rejection) => rejection.into_response(parts.version),
//!         })
//!     }));
//!     hyper::server::conn::http1::Builder::new()
//!         .serve_connection(TokioIo::new(stream), app)
//!         .with_upgrades()
//!         .await
//! }
//! ```
//!
//! [`upgrade()`] is for code that has a request, and no service around it.
//!
//! # Defaults
//!
//! Of the WebSockets: see [`ws_core`](ws_core#defaults). Of the server:
//!
//! | setting | default | why |
//! |---|---|---|
//! | [`header_read_timeout`](Serve::header_read_timeout) | 10 s | for TLS and for the head of a request |
//! | [`idle_timeout`](Serve::idle_timeout) | 75 s | no request and no WebSocket; over HTTP/1.1 the shorter of both |
//! | [`http2_keep_alive_interval`](Serve::http2_keep_alive_interval) | PING after 20 s of silence | finds who has vanished, or stops within a frame |
//! | [`http2_keep_alive_timeout`](Serve::http2_keep_alive_timeout) | 20 s | |
//! | [`http2_max_concurrent_streams`](Serve::http2_max_concurrent_streams) | 200 | requests and WebSockets on one connection |
//! | [`http2_stream_window`](Serve::http2_stream_window) | 64 KiB | the connection has the window of all streams, so that none takes the share of another |
//!
//! The layer, the socket and all other types are those of [`ws_core`], re-exported here.
//!
//! # Features
//!
//! `json` (default), `deflate` and `testing`, as in [`ws_core`](ws_core#features).

mod serve;

use http::Request;
pub use serve::{Serve, serve};
#[cfg(feature = "testing")]
pub use ws_core::testing;
pub use ws_core::{
    Body, CloseCode, CloseFrame, Closed, ConnectionId, ConnectionInfo, Connections, Drain, Drained, Error,
    FutureWebSocket, HandlerService, InvalidClose, InvalidOrigin, InvalidProtocol, InvalidUtf8, Message,
    Observer, Origin, OriginPolicy, Outcome, PeerAddr, PreparedMessage, ProtocolError, Receiver, Rejection,
    ResponseBody, ResponseFuture, Sender, Sending, Side, Timeout, TrySendError, Utf8Bytes, WebSocket,
    WebSocketLayer, WebSocketService, WebSocketUpgrade, service,
};
#[cfg(feature = "deflate")]
pub use ws_core::{Compression, InvalidLevel};

/// Checks a request by the rules of `layer`, for code without a stack of services.
///
/// The request keeps its head, without the extension by which hyper upgrades the connection. See
/// [`WebSocketLayer::upgrade`].
///
/// # Errors
///
/// Why the handshake is refused; [`Rejection::NotAnUpgrade`] if the request is no upgrade.
///
/// ```
/// use hyper::body::Incoming;
/// use ws_hyper::{Body, WebSocketLayer};
///
/// fn serve(mut request: http::Request<Incoming>, layer: &WebSocketLayer) -> http::Response<Body> {
///     match ws_hyper::upgrade(&mut request, layer) {
///         Ok(upgrade) => upgrade.on_upgrade(async |mut socket| socket.send("hello").await),
///         Err(rejection) => rejection.into_response(request.version()),
///     }
/// }
/// ```
pub fn upgrade<B>(request: &mut Request<B>, layer: &WebSocketLayer) -> Result<WebSocketUpgrade, Rejection> {
    // a `Request` does not lend its head in one piece
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = request.method().clone();
    parts.uri = request.uri().clone();
    parts.version = request.version();
    parts.headers = std::mem::take(request.headers_mut());
    parts.extensions = std::mem::take(request.extensions_mut());
    let result = layer.upgrade(&mut parts);
    *request.headers_mut() = parts.headers;
    *request.extensions_mut() = parts.extensions;
    result
}

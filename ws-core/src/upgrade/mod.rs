//! [`WebSocketUpgrade`]: an accepted handshake. A handler turns it into a response and a connection.
//!
//! Differs from hyper's `OnUpgrade` in that the handshake is already checked, the response is made here, and the
//! connection is driven, timed and counted.

mod methods;
mod rendezvous;
mod task;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderValue, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;
use tracing::Span;

use crate::body::Body;
use crate::config::ConnectionConfig;
use crate::connection::WebSocket;
use crate::error::Error;
use crate::handshake::{self, Handshake};
use crate::observer::{ConnectionId, ConnectionInfo};
use crate::outcome::Outcome;
use crate::peer::PeerAddr;
use crate::rejection::Rejection;
pub(crate) use rendezvous::{Accepted, Rendezvous, Terms};
use rendezvous::{Claim, Taken};
pub use task::FutureWebSocket;
use task::{Claimed, ConnectionParts, FailedCallback, Task, Upgrading};

/// An accepted handshake: [`on_upgrade`](Self::on_upgrade) makes a connection of it. Dropping it frees its slot.
///
/// It has the layer's settings of a connection. Its methods of the same names change them for this connection alone, as
/// `upgrade.max_message_size(16 << 20).on_upgrade(handler)`. The connection is counted and drained with the others of the
/// layer.
///
/// [`WebSocketLayer`](crate::WebSocketLayer) puts it into the request. The adapter crates have extractors and filters
/// for it. Without one, [`from_parts`](Self::from_parts) takes it out.
///
/// It is of use as long as its request is under way. When the request has another response, or is given up, the slot is
/// free, whoever still has the `WebSocketUpgrade`. Then [`on_upgrade`](Self::on_upgrade) and
/// [`into_parts`](Self::into_parts) open nothing, and report [`Error::Upgrade`], or [`Error::Timeout`] after the handshake
/// timeout.
///
/// ```
/// use http::{Request, Response};
/// use ws_core::{Body, WebSocketUpgrade};
///
/// #[derive(Clone)]
/// struct User(String); // put there by an authenticating middleware
///
/// fn serve(request: Request<()>) -> Response<Body> {
///     let (mut parts, ()) = request.into_parts();
///     match WebSocketUpgrade::from_parts(&mut parts) {
///         Ok(upgrade) => {
///             let user = upgrade.extensions().get::<User>().cloned();
///             upgrade.on_upgrade(async move |mut socket| {
///                 let name = user.map_or("stranger".to_owned(), |user| user.0);
///                 socket.send(format!("hello, {name}")).await
///             })
///         }
///         Err(rejection) => rejection.into_response(parts.version),
///     }
/// }
/// ```
#[must_use = "the WebSocket opens when `on_upgrade` is called and its response returned"]
pub struct WebSocketUpgrade {
    taken: Taken,
    terms: Terms,
    head: Parts,
    on_failed: Option<FailedCallback>,
}

impl WebSocketUpgrade {
    /// Takes the accepted handshake out of the extensions of a request. The rest of the head stays, and
    /// [`head`](Self::head) has a copy of it.
    ///
    /// # Errors
    ///
    /// - [`Rejection::NotAnUpgrade`] if the request is no upgrade.
    /// - [`Rejection::MissingLayer`] if no [`WebSocketLayer`](crate::WebSocketLayer) has seen the request, or if the
    ///   handshake was already taken out.
    /// - [`Rejection::NotUpgradable`] if the HTTP server does not upgrade connections.
    pub fn from_parts(parts: &mut Parts) -> Result<Self, Rejection> {
        let Some(rendezvous) = parts.extensions.remove::<Rendezvous>() else {
            let is_upgrade = handshake::is_upgrade(parts);
            return Err(if is_upgrade { Rejection::MissingLayer } else { Rejection::NotAnUpgrade });
        };
        let on_upgrade = parts.extensions.remove::<OnUpgrade>().ok_or(Rejection::NotUpgradable)?;
        let (taken, terms) = rendezvous.take(on_upgrade).ok_or(Rejection::MissingLayer)?;
        Ok(Self { taken, terms, head: parts.clone(), on_failed: None })
    }

    /// A handshake whose response no layer will see.
    pub(crate) fn without_layer(accepted: Accepted, parts: &mut Parts) -> Result<Self, Rejection> {
        let on_upgrade = parts.extensions.remove::<OnUpgrade>().ok_or(Rejection::NotUpgradable)?;
        let (taken, terms) = Taken::without_layer(accepted, on_upgrade);
        Ok(Self { taken, terms, head: parts.clone(), on_failed: None })
    }

    /// The head of the request. The connection does not keep it: take what the handler needs.
    #[must_use]
    pub fn head(&self) -> &Parts {
        &self.head
    }

    crate::__upgrade_methods! {
        /// What earlier middleware put into the request, for example the authenticated user.
    }

    /// Makes the response: 101 (switching protocols), or 200 over HTTP/2. Spawns the task of the connection, which runs
    /// `handler` after the response is sent.
    ///
    /// If the service returns another response, or none in time, there is no connection, and `handler` is dropped without
    /// being called. [`WebSocket`] and [`Outcome`] say what the return of a handler means.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn on_upgrade<F, Fut>(self, handler: F) -> Response<Body>
    where
        F: FnOnce(WebSocket) -> Fut + Send + 'static,
        Fut: Future<Output: Outcome> + Send + 'static,
    {
        let (response, upgrading, on_failed) = self.split();
        tokio::spawn(Task::new(upgrading, handler, on_failed));
        response
    }

    /// Makes the response, spawns the task of the connection, and returns a future of the socket: for code without a
    /// handler.
    ///
    /// The future is ready after the response is sent. Any task on any runtime may await it. The connection does not
    /// depend on it: until the socket is taken, the handshake timeout and pings apply, messages wait within the bounds of the
    /// [inbound queue](crate::WebSocketLayer::inbound_queue), and a drain closes the connection.
    ///
    /// The connection closes when the socket is dropped, or its [`Receiver`] if it was split.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    ///
    /// [`Receiver`]: crate::Receiver
    ///
    /// ```
    /// use http::Response;
    /// use ws_core::{Body, WebSocketUpgrade};
    ///
    /// fn serve(upgrade: WebSocketUpgrade) -> Response<Body> {
    ///     let (response, socket) = upgrade.into_parts();
    ///     tokio::spawn(async move {
    ///         let mut socket = socket.await?;
    ///         socket.send("hello").await
    ///     });
    ///     response
    /// }
    /// ```
    #[must_use = "the response opens the WebSocket, and the future is the socket"]
    pub fn into_parts(self) -> (Response<Body>, FutureWebSocket) {
        let (response, upgrading, on_failed) = self.split();
        (response, FutureWebSocket::spawn(upgrading, on_failed))
    }

    /// The response, and the wait for the connection that it opens.
    fn split(self) -> (Response<Body>, Upgrading, Option<FailedCallback>) {
        let Self { taken, terms: Terms { handshake, deadline, config }, head, on_failed } = self;
        let id = ConnectionId::next();
        let mut response = response(&handshake);
        if handshake.accept.is_none() && taken.has_layer() {
            // by which the layer knows the response, and which it removes
            response.headers_mut().insert(header::SEC_WEBSOCKET_ACCEPT, u64::from(id).into());
        }
        let claimed = taken.start(&response).map(|(rendezvous, Claim { slot, on_upgrade })| Claimed {
            unanswered: Some(rendezvous),
            on_upgrade,
            registration: slot.register(),
        });
        let Handshake { protocol, negotiated, .. } = handshake;

        // as a child it would keep the span of the request open as long as the connection
        let span = tracing::info_span!(
            parent: None,
            "websocket",
            connection = u64::from(id),
            path = head.uri.path(),
            protocol = protocol.as_deref(),
            peer = tracing::field::Empty,
        );
        span.follows_from(Span::current());
        let peer = head.extensions.get().map(|PeerAddr(peer)| *peer);
        let info = ConnectionInfo { id, peer, protocol };
        let upgrading = Upgrading::new(claimed, deadline, ConnectionParts { info, config, negotiated, span });
        (response, upgrading, on_failed)
    }
}

/// For the macro `__upgrade_methods`, here and in the adapter crates.
#[doc(hidden)]
impl WebSocketUpgrade {
    #[expect(clippy::unnecessary_wraps, reason = "an adapter's may have none")]
    fn accepted(&self) -> Option<&Self> {
        Some(self)
    }

    fn map(self, change: impl FnOnce(Self) -> Self) -> Self {
        change(self)
    }

    #[must_use]
    pub fn __protocol(&self) -> Option<&str> {
        self.terms.handshake.protocol.as_deref()
    }

    #[must_use]
    pub fn __is_late(&self) -> bool {
        self.terms.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    pub fn __set_protocols(mut self, known: &[Arc<str>]) -> Self {
        self.terms.handshake.protocol = handshake::choose_protocol(&self.head.headers, known);
        self
    }

    pub fn __set_on_failed(mut self, callback: impl FnOnce(Error) + Send + 'static) -> Self {
        self.on_failed = Some(Box::new(callback));
        self
    }

    pub fn __set_connection(mut self, set: impl FnOnce(&mut ConnectionConfig)) -> Self {
        set(Arc::make_mut(&mut self.terms.config));
        self
    }
}

fn response(handshake: &Handshake) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    if handshake.switches {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    if let Some(accept) = &handshake.accept {
        response.headers_mut().insert(header::SEC_WEBSOCKET_ACCEPT, accept.clone());
    }
    if let Some(protocol) = &handshake.protocol
        && let Ok(value) = HeaderValue::from_str(protocol)
    {
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, value);
    }
    #[cfg(feature = "deflate")]
    if let Some(deflate) = &handshake.negotiated.deflate {
        response.headers_mut().insert(header::SEC_WEBSOCKET_EXTENSIONS, handshake::deflate::answer(deflate));
    }
    response
}

impl fmt::Debug for WebSocketUpgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketUpgrade")
            .field("uri", &self.head.uri)
            .field("protocol", &self.protocol())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "deflate"))]
mod tests {
    use super::*;
    use crate::compression::Compression;
    use crate::config::{Deflate, Negotiated};

    #[test]
    fn the_response_has_the_extension_that_was_negotiated() {
        let answer = |deflate| {
            let accept = HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
            let negotiated = Negotiated { deflate };
            let handshake = Handshake { switches: true, accept: Some(accept), protocol: None, negotiated };
            response(&handshake).headers().get(header::SEC_WEBSOCKET_EXTENSIONS).cloned()
        };
        assert_eq!(answer(None), None);
        let deflate = Deflate { compression: Compression::new(), window_bits: Some(10) };
        assert_eq!(
            answer(Some(deflate)).unwrap(),
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=10"
        );
    }
}

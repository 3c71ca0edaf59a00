//! [`WebSocketUpgrade`]: an accepted handshake. A handler turns it into a response and a connection.
//!
//! Differs from hyper's `OnUpgrade` in that the handshake is already checked, the response is made here, and the
//! connection is driven, timed and counted.

mod rendezvous;
mod task;

use std::fmt;
use std::future::Future;

use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderValue, Response, StatusCode, Uri, header};
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;
use tracing::Span;

use crate::body::Body;
use crate::connection::WebSocket;
use crate::error::{Error, expect_valid};
use crate::handshake::{self, Handshake, InvalidProtocol};
use crate::observer::{ConnectionId, ConnectionInfo};
use crate::outcome::Outcome;
use crate::peer::PeerAddr;
use crate::rejection::Rejection;
pub(crate) use rendezvous::{Accepted, Rendezvous};
pub use task::FutureWebSocket;
use task::{ConnectionParts, FailedCallback, Task, Upgrading};

/// An accepted handshake: [`on_upgrade`](Self::on_upgrade) makes a connection of it. Dropping it frees its slot.
///
/// [`WebSocketLayer`](crate::WebSocketLayer) puts it into the request. The adapter crates have extractors and filters
/// for it. Without one, [`from_parts`](Self::from_parts) takes it out.
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
    accepted: Accepted,
    rendezvous: Option<Rendezvous>,
    on_upgrade: OnUpgrade,
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
        let accepted = rendezvous.take().ok_or(Rejection::MissingLayer)?;
        Self::new(accepted, Some(rendezvous), parts)
    }

    /// `rendezvous` is `None` if no layer will see the response.
    pub(crate) fn new(
        accepted: Accepted,
        rendezvous: Option<Rendezvous>,
        parts: &mut Parts,
    ) -> Result<Self, Rejection> {
        let on_upgrade = parts.extensions.remove::<OnUpgrade>().ok_or(Rejection::NotUpgradable)?;
        Ok(Self { accepted, rendezvous, on_upgrade, head: parts.clone(), on_failed: None })
    }

    /// The head of the request. The connection does not keep it: take what the handler needs.
    #[must_use]
    pub fn head(&self) -> &Parts {
        &self.head
    }

    /// The URI of the request.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.head.uri
    }

    /// The headers of the request.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// What earlier middleware put into the request, for example the authenticated user.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        &self.head.extensions
    }

    /// The chosen subprotocol, if any.
    #[must_use]
    pub fn protocol(&self) -> Option<&str> {
        self.accepted.handshake.protocol.as_deref()
    }

    /// Whether the handshake timeout is over, so that no connection can open any more. Behind a layer there is no need to
    /// ask: it answers 408 by itself.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.accepted.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Chooses the subprotocol for this route, instead of the layer's
    /// [`protocols`](crate::WebSocketLayer::protocols): the first of `protocols` that the client offers, or none.
    /// `protocols` are in the order of the server's preference.
    ///
    /// # Panics
    ///
    /// If a name is not a token: letters, digits and ``!#$%&'*+-.^_`|~`` only. [`try_protocols`](Self::try_protocols)
    /// returns an error instead.
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
    /// If a name is not a token.
    pub fn try_protocols<I>(mut self, protocols: I) -> Result<Self, InvalidProtocol>
    where
        I: IntoIterator<Item: AsRef<str>>,
    {
        let known = handshake::protocol_names(protocols)?;
        self.accepted.handshake.protocol = handshake::choose_protocol(&self.head.headers, &known);
        Ok(self)
    }

    /// Calls `callback` if the connection does not open: the peer disconnected before the response was sent, the handshake
    /// timeout is over, or the response did not reach the layer.
    pub fn on_failed_upgrade(mut self, callback: impl FnOnce(Error) + Send + 'static) -> Self {
        self.on_failed = Some(Box::new(callback));
        self
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
        let Self { accepted, rendezvous, on_upgrade, head, on_failed } = self;
        let Accepted { handshake, slot, deadline, config } = accepted;
        let mut response = response(&handshake);
        if let Some(rendezvous) = &rendezvous {
            response.extensions_mut().insert(rendezvous.clone());
        }
        let Handshake { protocol, negotiated, .. } = handshake;

        let id = ConnectionId::next();
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
        let parts = ConnectionParts { info, config, negotiated, span, registration: slot.register() };
        let upgrading = Upgrading::new(rendezvous, on_upgrade, deadline, parts);
        (response, upgrading, on_failed)
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

//! [`WebSocketUpgrade`]: an accepted handshake, in the hands of a handler.
//!
//! Differs from hyper's `OnUpgrade` in that the handshake is already checked, the response is made here, and the
//! connection that comes of it is driven, timed and counted.

use std::fmt;
use std::future::Future;
use std::marker::PhantomPinned;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderValue, Response, StatusCode, Uri, header};
use hyper::upgrade::OnUpgrade;
use pin_project::pin_project;
use tokio::time::Instant;
use tracing::Span;

use crate::config::{ConnectionConfig, Negotiated};
use crate::connection::{Driver, Link, Shared, Transport, WebSocket};
use crate::deadline::Deadline;
use crate::error::{Error, Timeout, expect_valid};
use crate::handler::Outcome;
use crate::handshake::{self, Handshake, InvalidProtocol, Rejection};
use crate::layer::Body;
use crate::observer::{ConnectionId, ConnectionInfo};
use crate::protocol::Role;
use crate::tracker::{Registration, Slot};

/// A handshake that was accepted: [`on_upgrade`](Self::on_upgrade) makes it a connection, dropping it does not.
///
/// [`WebSocketLayer`](crate::WebSocketLayer) puts it into the request. The adapter crates have extractors and filters
/// for it; where there is none, [`from_parts`](Self::from_parts) takes it out.
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
    pending: Option<Pending>,
    on_upgrade: OnUpgrade,
    head: Parts,
    on_failed: Option<FailedCallback>,
}

type FailedCallback = Box<dyn FnOnce(Error) + Send>;

/// A handshake that the layer has accepted.
pub(crate) struct Accepted {
    pub(crate) handshake: Handshake,
    pub(crate) slot: Slot,
    pub(crate) deadline: Option<Instant>,
    pub(crate) config: Arc<ConnectionConfig>,
}

/// An accepted handshake on its way through the extensions of the request, and then, as a mark, through those of the
/// response that [`WebSocketUpgrade::on_upgrade`] makes.
#[derive(Clone)]
pub(crate) struct Pending {
    progress: Arc<Mutex<Progress>>,
}

/// How far it has come.
enum Progress {
    /// Nobody has taken it.
    Accepted(Accepted),
    /// A handler has, and the layer has not seen the response yet, for which the connection's task waits.
    Taken(Option<Waker>),
    /// The layer has seen the response.
    Answered,
    /// The layer will not see the response.
    Lost,
}

impl Pending {
    pub(crate) fn new(accepted: Accepted) -> Self {
        Self { progress: Arc::new(Mutex::new(Progress::Accepted(accepted))) }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        // a panic while it was held left it whole: each use is one assignment
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Accepted> {
        let mut progress = self.lock();
        match std::mem::replace(&mut *progress, Progress::Taken(None)) {
            Progress::Accepted(accepted) => Some(accepted),
            other => {
                *progress = other;
                None
            }
        }
    }

    /// Lets the connection go on that was begun by this handshake, if this is its response.
    pub(crate) fn answered<B>(&self, response: &Response<B>) {
        let is_opening = matches!(response.status(), StatusCode::SWITCHING_PROTOCOLS | StatusCode::OK);
        let mark = response.extensions().get::<Self>();
        if is_opening && mark.is_some_and(|mark| Arc::ptr_eq(&mark.progress, &self.progress)) {
            self.end(Progress::Answered);
        }
    }

    /// The response did not come, or was another one: drops the handshake if nobody has taken it, and ends the connection
    /// that was begun by it.
    pub(crate) fn lost(&self) {
        self.end(Progress::Lost);
    }

    /// The first end counts.
    fn end(&self, end: Progress) {
        let mut progress = self.lock();
        if matches!(*progress, Progress::Answered | Progress::Lost) {
            return;
        }
        let before = std::mem::replace(&mut *progress, end);
        drop(progress);
        if let Progress::Taken(Some(waker)) = before {
            waker.wake();
        }
    }

    /// Waits until the layer has seen the response. `false` if it will not.
    fn poll_answered(&self, cx: &mut Context<'_>) -> Poll<bool> {
        match &mut *self.lock() {
            Progress::Accepted(_) | Progress::Lost => Poll::Ready(false),
            Progress::Answered => Poll::Ready(true),
            Progress::Taken(waker) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl WebSocketUpgrade {
    /// Takes the accepted handshake out of a request; the head stays, and a copy of it is at [`head`](Self::head).
    ///
    /// # Errors
    ///
    /// [`Rejection::NotAnUpgrade`] if the request is none. [`Rejection::MissingLayer`] if it is one, but no
    /// [`WebSocketLayer`](crate::WebSocketLayer) has seen it, or the handshake was already taken out.
    pub fn from_parts(parts: &mut Parts) -> Result<Self, Rejection> {
        let Some(pending) = parts.extensions.remove::<Pending>() else {
            let is_upgrade = handshake::is_upgrade(parts);
            return Err(if is_upgrade { Rejection::MissingLayer } else { Rejection::NotAnUpgrade });
        };
        let accepted = pending.take().ok_or(Rejection::MissingLayer)?;
        Self::new(accepted, Some(pending), parts)
    }

    /// An accepted handshake of a request that can be upgraded.
    pub(crate) fn new(
        accepted: Accepted,
        pending: Option<Pending>,
        parts: &mut Parts,
    ) -> Result<Self, Rejection> {
        let on_upgrade = parts.extensions.remove::<OnUpgrade>().ok_or(Rejection::NotUpgradable)?;
        Ok(Self { accepted, pending, on_upgrade, head: parts.clone(), on_failed: None })
    }

    /// The head of the request, for the handler to take from it what it needs. The connection does not keep it.
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

    /// What earlier middleware put into the request, such as the user that it authenticated.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        &self.head.extensions
    }

    /// The subprotocol that was chosen, if any.
    #[must_use]
    pub fn protocol(&self) -> Option<&str> {
        self.accepted.handshake.protocol.as_deref()
    }

    /// Whether the handshake timeout is over: a connection can no longer come of it. The layer answers 408 then on its
    /// own; this is for code that answers itself.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.accepted.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Chooses the subprotocol again, for this route: the first of `protocols`, in the order of the server's preference,
    /// that the client offers; none if there is none. In place of the layer's
    /// [`protocols`](crate::WebSocketLayer::protocols).
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

    /// Calls `callback` if the connection does not come about after all: the peer went before the response was out,
    /// the handshake timeout is over, or the response did not reach the layer.
    pub fn on_failed_upgrade(mut self, callback: impl FnOnce(Error) + Send + 'static) -> Self {
        self.on_failed = Some(Box::new(callback));
        self
    }

    /// Makes the response, 101 (switching protocols) or, over HTTP/2, 200, and spawns the task of the connection, which
    /// runs `handler` when the response is out.
    ///
    /// If another response is returned in place of this one, or none in time, there will be no connection, and
    /// `handler` is dropped without being called. What its return means is told at [`WebSocket`] and [`Outcome`].
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
        tokio::spawn(Task::Upgrading(upgrading, Some((handler, on_failed))));
        response
    }

    /// Makes the response, and a future of the socket: for code that has no handler to call back.
    ///
    /// The future is to be polled, on a task of its own as a rule, while the response is on its way. When it is ready,
    /// the task of the connection has been spawned; the connection closes when the socket, or its [`Receiver`] if it was
    /// split, is dropped.
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
        (response, FutureWebSocket { upgrading, on_failed, pinned: PhantomPinned })
    }

    /// The response, and what becomes of the connection when it is out.
    fn split(self) -> (Response<Body>, Upgrading, Option<FailedCallback>) {
        let Self { accepted, pending, on_upgrade, head, on_failed } = self;
        let Accepted { handshake, slot, deadline, config } = accepted;
        let mut response = response(&handshake);
        if let Some(pending) = &pending {
            response.extensions_mut().insert(pending.clone());
        }
        let Handshake { protocol, negotiated, .. } = handshake;

        let id = ConnectionId::next();
        // not a child of the request's span, which would stay open as long as the connection
        let span = tracing::info_span!(
            parent: None,
            "websocket",
            connection = u64::from(id),
            path = head.uri.path(),
            protocol = protocol.as_deref(),
            peer = tracing::field::Empty,
        );
        span.follows_from(Span::current());
        let info = ConnectionInfo { id, peer: None, protocol };
        let upgrading = Upgrading {
            unanswered: pending,
            on_upgrade,
            deadline: Deadline::new(deadline),
            parts: Some(ConnectionParts { info, config, negotiated, span, registration: slot.register() }),
        };
        (response, upgrading, on_failed)
    }
}

fn response(handshake: &Handshake) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    if let Some(accept) = &handshake.accept {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept.clone());
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

/// A connection's task: waits for the upgraded stream, then drives the connection.
#[pin_project(project = TaskProjection)]
#[expect(clippy::large_enum_variant, reason = "the larger one is the one that lasts")]
enum Task<F, Fut> {
    Upgrading(Upgrading, Option<(F, Option<FailedCallback>)>),
    Running(#[pin] Driver<F, Fut>),
}

/// The wait for the upgraded stream: not generic, so it is compiled once.
struct Upgrading {
    /// What the layer has yet to see the response of. `None` where no layer will see it.
    unanswered: Option<Pending>,
    on_upgrade: OnUpgrade,
    deadline: Deadline,
    parts: Option<ConnectionParts>,
}

/// What the connection will be made of.
struct ConnectionParts {
    info: ConnectionInfo,
    config: Arc<ConnectionConfig>,
    negotiated: Negotiated,
    span: Span,
    registration: Registration,
}

impl<F, Fut> Future for Task<F, Fut>
where
    F: FnOnce(WebSocket) -> Fut,
    Fut: Future<Output: Outcome>,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.as_mut().project() {
                TaskProjection::Running(driver) => return driver.poll(cx),
                TaskProjection::Upgrading(upgrading, user) => {
                    let result = ready!(upgrading.poll(cx));
                    match (result, user.take()) {
                        (Ok(link), Some((handler, _))) => {
                            self.set(Self::Running(Driver::new(link, handler)));
                        }
                        (Err(error), Some((_, Some(callback)))) => {
                            callback(error);
                            return Poll::Ready(());
                        }
                        _ => return Poll::Ready(()),
                    }
                }
            }
        }
    }
}

/// The socket of a connection whose response is on its way, made by [`WebSocketUpgrade::into_parts`].
///
/// It fails with [`Error::Upgrade`] or [`Error::Timeout`] if the connection does not come about; with [`Error::Closed`]
/// where a callback of [`on_failed_upgrade`](WebSocketUpgrade::on_failed_upgrade) was told that error, or where a drain
/// came to its deadline. Dropping it gives the connection up. The example is at [`into_parts`](WebSocketUpgrade::into_parts).
#[pin_project]
#[must_use = "the connection is given up when the future of its socket is dropped"]
pub struct FutureWebSocket {
    upgrading: Upgrading,
    on_failed: Option<FailedCallback>,
    /// Nobody is promised that it may be moved.
    #[pin]
    pinned: PhantomPinned,
}

impl Future for FutureWebSocket {
    type Output = Result<WebSocket, Error>;

    /// # Panics
    ///
    /// Outside of a tokio runtime.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        Poll::Ready(match ready!(this.upgrading.poll(cx)) {
            Ok(link) => {
                let (driver, socket) = Driver::without_handler(link);
                tokio::spawn(driver);
                Ok(socket)
            }
            Err(error) => match this.on_failed.take() {
                Some(callback) => {
                    callback(error);
                    Err(Error::Closed)
                }
                None => Err(error),
            },
        })
    }
}

impl fmt::Debug for FutureWebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FutureWebSocket").finish_non_exhaustive()
    }
}

impl Upgrading {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Link, Error>> {
        let result = ready!(self.poll_upgraded(cx));
        let Some(parts) = self.parts.take() else { return Poll::Ready(Err(Error::Closed)) };
        Poll::Ready(match result {
            Ok((transport, read)) => Ok(parts.connect(transport, &read)),
            Err(error) => {
                parts.failed(&error);
                Err(error)
            }
        })
    }

    /// The upgraded stream, and what was already read from it, in time.
    fn poll_upgraded(&mut self, cx: &mut Context<'_>) -> Poll<Result<(Transport, Bytes), Error>> {
        if self.parts.as_ref().is_some_and(|parts| parts.registration.poll_aborted(cx.waker()).is_ready()) {
            return Poll::Ready(Err(Error::Closed));
        }
        // what comes late has not come
        if self.deadline.is_past() {
            return Poll::Ready(Err(Timeout::Handshake.into()));
        }
        if let Poll::Ready(result) = self.poll_stream(cx) {
            return Poll::Ready(result);
        }
        self.deadline.poll(cx).map(|()| Err(Timeout::Handshake.into()))
    }

    /// As `poll_upgraded`, however long it takes.
    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<Result<(Transport, Bytes), Error>> {
        if let Some(pending) = &self.unanswered {
            let answered = ready!(pending.poll_answered(cx));
            self.unanswered = None;
            if !answered {
                let reason = "the response did not reach the layer";
                return Poll::Ready(Err(Error::Upgrade { reason, source: None }));
            }
        }
        Poll::Ready(match ready!(Pin::new(&mut self.on_upgrade).poll(cx)) {
            Ok(upgraded) => Ok(Transport::from_upgraded(upgraded)),
            Err(error) => {
                // hyper promises an upgrade with each request, and only now says that nobody will keep the promise
                let reason = if error.is_user() {
                    tracing::error!(
                        "the HTTP server does not upgrade connections; serve them with upgrades: hyper's \
                         `.with_upgrades()`, or `serve_connection_with_upgrades` of hyper-util",
                    );
                    "the HTTP server does not upgrade connections"
                } else {
                    "the connection ended before the response was out"
                };
                Err(Error::Upgrade { reason, source: Some(error.into()) })
            }
        })
    }
}

impl ConnectionParts {
    fn connect(mut self, transport: Transport, read: &[u8]) -> Link {
        self.info.peer = transport.peer();
        if let Some(peer) = self.info.peer {
            self.span.record("peer", tracing::field::display(peer));
        }
        let shared = Shared::new(Role::Server, self.info, self.config, self.negotiated);
        Link::new(shared, Role::Server, transport, read, Some(self.registration), self.span)
    }

    fn failed(self, error: &Error) {
        self.span.in_scope(|| tracing::debug!(error = error as &dyn std::error::Error, "upgrade failed"));
        self.config.observe(|observer| observer.on_failed_upgrade(error));
    }
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
    use crate::config::Deflate;

    #[test]
    fn the_response_has_the_extension_that_was_negotiated() {
        let answer = |deflate| {
            let accept = HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
            let handshake =
                Handshake { accept: Some(accept), protocol: None, negotiated: Negotiated { deflate } };
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

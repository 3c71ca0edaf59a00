//! The task of a connection that a handshake opens: [`Task`] with a handler, [`deliver`] without one, for
//! [`FutureWebSocket`].
//!
//! Both wait until the response is out and hyper gives the stream up, within the handshake timeout. Then `Task` drives the
//! connection itself, and `deliver` spawns a task that does.

use std::fmt;
use std::future::{Future, poll_fn};
use std::marker::PhantomPinned;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use pin_project::pin_project;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::Span;

use super::rendezvous::Rendezvous;
use crate::config::{ConnectionConfig, Negotiated};
use crate::connection::{Driver, Link, Shared, Transport, WebSocket};
use crate::deadline::Deadline;
use crate::error::{Error, Timeout};
use crate::observer::ConnectionInfo;
use crate::outcome::Outcome;
use crate::protocol::Role;
use crate::tracker::Registration;

/// What is called if the connection does not open.
pub(super) type FailedCallback = Box<dyn FnOnce(Error) + Send>;

/// The task of a connection: waits for the upgraded stream, then drives the connection.
#[pin_project]
pub(super) struct Task<F, Fut>(#[pin] State<F, Fut>);

#[pin_project(project = StateProjection)]
enum State<F, Fut> {
    /// With the handler, and the callback for a failure.
    Upgrading(Upgrading, Option<(F, Option<FailedCallback>)>),
    Running(#[pin] Driver<F, Fut>),
}

impl<F, Fut> Task<F, Fut> {
    pub(super) fn new(upgrading: Upgrading, handler: F, on_failed: Option<FailedCallback>) -> Self {
        Self(State::Upgrading(upgrading, Some((handler, on_failed))))
    }
}

impl<F, Fut> Future for Task<F, Fut>
where
    F: FnOnce(WebSocket) -> Fut,
    Fut: Future<Output: Outcome>,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.project().0;
        loop {
            match state.as_mut().project() {
                StateProjection::Running(driver) => return driver.poll(cx),
                StateProjection::Upgrading(upgrading, user) => {
                    let result = ready!(upgrading.poll(cx));
                    match (result, user.take()) {
                        (Ok(link), Some((handler, _))) => {
                            state.set(State::Running(Driver::new(link, handler)));
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

/// The task of a connection without a handler: waits for the upgraded stream, and gives `receiver` the socket. Ends early
/// if the future of the socket is dropped.
async fn deliver(
    mut upgrading: Upgrading,
    mut receiver: oneshot::Sender<Result<WebSocket, Error>>,
    on_failed: Option<FailedCallback>,
) {
    let upgraded = poll_fn(|cx| match receiver.poll_closed(cx) {
        Poll::Ready(()) => Poll::Ready(None),
        Poll::Pending => upgrading.poll(cx).map(Some),
    });
    let result = match upgraded.await {
        None => return,
        Some(Ok(link)) => {
            let (driver, socket) = Driver::without_handler(link);
            tokio::spawn(driver);
            Ok(socket)
        }
        Some(Err(error)) => match on_failed {
            Some(callback) => {
                callback(error);
                Err(Error::Closed)
            }
            None => Err(error),
        },
    };
    // if the future is dropped by now, this drops the socket, which closes the connection
    drop(receiver.send(result));
}

/// The socket of a connection whose response is on its way, made by
/// [`WebSocketUpgrade::into_parts`](crate::WebSocketUpgrade::into_parts), where the example is.
///
/// # Errors
///
/// - [`Error::Upgrade`] or [`Error::Timeout`] if the connection does not open. The first of them also if the runtime is shut
///   down that `into_parts` was called on.
/// - [`Error::Closed`] if it does not open and a callback of
///   [`on_failed_upgrade`](crate::WebSocketUpgrade::on_failed_upgrade) got that error, or if the deadline of a drain is over.
///
/// # Cancel safety
///
/// If the future is dropped before the response is sent, there is no connection. If it is dropped later, the connection
/// closes.
#[pin_project]
#[must_use = "the connection is given up if the future of its socket is dropped"]
pub struct FutureWebSocket {
    socket: oneshot::Receiver<Result<WebSocket, Error>>,
    /// Keeps it `!Unpin`, so that a later version may need to be pinned.
    #[pin]
    pinned: PhantomPinned,
}

impl FutureWebSocket {
    /// Spawns the task of the connection.
    pub(super) fn spawn(upgrading: Upgrading, on_failed: Option<FailedCallback>) -> Self {
        let (sender, socket) = oneshot::channel();
        tokio::spawn(deliver(upgrading, sender, on_failed));
        Self { socket, pinned: PhantomPinned }
    }
}

impl Future for FutureWebSocket {
    type Output = Result<WebSocket, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(Pin::new(self.project().socket).poll(cx));
        Poll::Ready(result.unwrap_or_else(|gone| {
            let reason = "the task of the connection was dropped, most often with its runtime";
            Err(Error::Upgrade { reason, source: Some(gone.into()) })
        }))
    }
}

impl fmt::Debug for FutureWebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FutureWebSocket").finish_non_exhaustive()
    }
}

/// The wait for the upgraded stream. It is not generic, so it is compiled once.
pub(super) struct Upgrading {
    /// `None` once it is ready, and from the start if the handshake was given up.
    claimed: Option<Claimed>,
    deadline: Deadline,
    /// `None` once it is ready.
    parts: Option<ConnectionParts>,
}

/// What the connection takes up, and what it waits for.
pub(super) struct Claimed {
    /// `None` once the layer has seen the response.
    pub(super) unanswered: Option<Rendezvous>,
    pub(super) on_upgrade: OnUpgrade,
    pub(super) registration: Registration,
}

/// What the connection is made of, besides its stream.
pub(super) struct ConnectionParts {
    pub(super) info: ConnectionInfo,
    pub(super) config: Arc<ConnectionConfig>,
    pub(super) negotiated: Negotiated,
    pub(super) span: Span,
}

impl Upgrading {
    pub(super) fn new(claimed: Option<Claimed>, deadline: Option<Instant>, parts: ConnectionParts) -> Self {
        Self { claimed, deadline: Deadline::new(deadline), parts: Some(parts) }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Link, Error>> {
        let result = ready!(self.poll_upgraded(cx));
        let claimed = self.claimed.take();
        let Some(parts) = self.parts.take() else { return Poll::Ready(Err(Error::Closed)) };
        Poll::Ready(match (result, claimed) {
            (Ok((transport, read)), Some(Claimed { registration, .. })) => {
                Ok(parts.connect(transport, registration, &read))
            }
            (Ok(_), None) => Err(Error::Closed),
            (Err(error), _) => {
                parts.failed(&error);
                Err(error)
            }
        })
    }

    /// Waits for the upgraded stream and the bytes that hyper has read from it, until the deadline.
    fn poll_upgraded(&mut self, cx: &mut Context<'_>) -> Poll<Result<(Transport, Bytes), Error>> {
        if self
            .claimed
            .as_ref()
            .is_some_and(|claimed| claimed.registration.poll_aborted(cx.waker()).is_ready())
        {
            return Poll::Ready(Err(Error::Closed));
        }
        // also if the stream is there: after the deadline the handshake has failed
        if self.deadline.is_past() {
            return Poll::Ready(Err(Timeout::Handshake.into()));
        }
        let stream =
            self.claimed.as_mut().map_or(Poll::Ready(Err(lost())), |claimed| claimed.poll_stream(cx));
        if stream.is_ready() {
            return stream;
        }
        self.deadline.poll(cx).map(|()| Err(Timeout::Handshake.into()))
    }
}

impl Claimed {
    /// Waits for the upgraded stream, without the deadline.
    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<Result<(Transport, Bytes), Error>> {
        if let Some(rendezvous) = &self.unanswered {
            if !ready!(rendezvous.poll_answered(cx)) {
                return Poll::Ready(Err(lost()));
            }
            self.unanswered = None;
        }
        Poll::Ready(match ready!(Pin::new(&mut self.on_upgrade).poll(cx)) {
            Ok(upgraded) => Ok(Transport::from_upgraded(upgraded)),
            Err(error) => {
                // hyper puts an `OnUpgrade` into every request; only now it says that the server does not support upgrades
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

/// The error of a handshake that was given up.
fn lost() -> Error {
    Error::Upgrade { reason: "the response did not reach the layer", source: None }
}

impl ConnectionParts {
    fn connect(mut self, transport: Transport, registration: Registration, read: &[u8]) -> Link {
        self.info.peer = self.info.peer.or_else(|| transport.peer());
        if let Some(peer) = self.info.peer {
            self.span.record("peer", tracing::field::display(peer));
        }
        let shared = Shared::new(Role::Server, self.info, self.config, self.negotiated, read);
        Link::new(shared, transport, Some(registration), self.span)
    }

    fn failed(self, error: &Error) {
        self.span.in_scope(|| tracing::debug!(error = error as &dyn std::error::Error, "upgrade failed"));
        self.config.observe(|observer| observer.on_failed_upgrade(error));
    }
}

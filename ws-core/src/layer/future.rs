//! [`ResponseFuture`]: the answer to a request, in time.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Response, Version};
use pin_project::pin_project;
use tokio::time::Instant;

use super::WebSocketLayer;
use crate::body::{Body, ResponseBody};
use crate::deadline::Deadline;
use crate::rejection::Rejection;
use crate::upgrade::Rendezvous;

/// The future of a [`WebSocketService`](crate::WebSocketService).
///
/// For a request that is no upgrade it is the inner service's future, and nothing else; no memory is taken for it.
///
/// ```
/// fn is_send<F: Send>() {}
///
/// is_send::<ws_core::ResponseFuture<std::future::Ready<()>>>();
/// ```
#[pin_project]
#[must_use = "futures do nothing unless they are polled"]
pub struct ResponseFuture<F>(#[pin] State<F>);

#[pin_project(project = StateProjection)]
enum State<F> {
    Pass(#[pin] F),
    Upgrade(#[pin] F, Ticket),
    /// The response, until it is taken.
    Own(Option<Response<Body>>),
}

/// What a handshake under way needs until it is answered. Dropping it drops the handshake, with its slot, if the
/// handler has not taken it, and the connection that the handler has begun, if its response was not seen.
pub(super) struct Ticket {
    pending: Rendezvous,
    deadline: Deadline,
    layer: WebSocketLayer,
    version: Version,
}

impl Ticket {
    pub(super) fn new(
        pending: Rendezvous,
        deadline: Option<Instant>,
        layer: WebSocketLayer,
        version: Version,
    ) -> Self {
        Self { pending, deadline: Deadline::new(deadline), layer, version }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.pending.lost();
    }
}

impl<F> ResponseFuture<F> {
    pub(super) fn pass(inner: F) -> Self {
        Self(State::Pass(inner))
    }

    pub(super) fn upgrade(inner: F, ticket: Ticket) -> Self {
        Self(State::Upgrade(inner, ticket))
    }

    pub(super) fn refused(rejection: Rejection, version: Version) -> Self {
        Self(State::Own(Some(rejection.into_response(version))))
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().0;
        match state.as_mut().project() {
            StateProjection::Pass(inner) => {
                inner.poll(cx).map_ok(|response| response.map(ResponseBody::inner))
            }
            StateProjection::Upgrade(inner, ticket) => {
                if let Poll::Ready(result) = inner.poll(cx) {
                    if let Ok(response) = &result {
                        ticket.pending.answered(response);
                    }
                    // the slot of a handshake that was not taken is free now, not when this future is dropped
                    state.set(State::Own(None));
                    return Poll::Ready(result.map(|response| response.map(ResponseBody::inner)));
                }
                if ticket.deadline.poll(cx).is_pending() {
                    return Poll::Pending;
                }
                ticket.layer.refused(&Rejection::Timeout);
                let response = Rejection::Timeout.into_response(ticket.version);
                // drops the inner future
                state.set(State::Own(None));
                Poll::Ready(Ok(response.map(ResponseBody::own)))
            }
            StateProjection::Own(response) => {
                // the only way here with no response is a poll after the end
                let response = response.take().expect("`ResponseFuture` polled after it was ready");
                Poll::Ready(Ok(response.map(ResponseBody::own)))
            }
        }
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

//! The driver: the task of a connection. It does the I/O, polls the handler when that was woken, and has the timer.
//!
//! What the connection is stands in [`proto`](super::proto). The driver goes round until nothing moves, or the turn has
//! lasted long enough for the others: read what has come, let the handler take it, write all that it said in one call. So
//! nothing that is sent waits for anything but the handler's own yield, and what is sent together leaves together.

use std::any::Any;
use std::future::{Future, Ready};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_task::{ArcWake, waker_ref};
use pin_project::pin_project;
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

use super::link::{Link, Next, Turn};
use super::proto::Connection;
use super::shared::Shared;
use super::socket::WebSocket;
use crate::outcome::Outcome;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Rounds in one poll, after which the other tasks of the thread have their turn.
const ROUNDS: usize = 16;

/// A connection's task. It is ready when the connection is over and the handler has returned.
#[pin_project]
pub(crate) struct Driver<F, Fut> {
    #[pin]
    handler: Handler<F, Fut>,
    #[pin]
    alarm: Alarm,
    link: Link,
}

/// The user's part.
#[pin_project(project = HandlerProjection, project_replace = HandlerReplaced)]
enum Handler<F, Fut> {
    NotStarted(F),
    Running(#[pin] Fut),
    Done,
}

impl Driver<fn(WebSocket) -> Ready<()>, Ready<()>> {
    /// A connection whose socket is used elsewhere.
    pub(crate) fn without_handler(link: Link) -> (Self, WebSocket) {
        let socket = WebSocket::new(Arc::clone(&link.shared));
        link.shared.with(Connection::handler_done);
        (Self { handler: Handler::Done, alarm: Alarm::default(), link }, socket)
    }
}

impl<F, Fut> Driver<F, Fut>
where
    F: FnOnce(WebSocket) -> Fut,
    Fut: Future<Output: Outcome>,
{
    pub(crate) fn new(link: Link, handler: F) -> Self {
        // for its first turn
        ArcWake::wake_by_ref(&link.shared);
        Self { handler: Handler::NotStarted(handler), alarm: Alarm::default(), link }
    }
}

impl<F, Fut> Future for Driver<F, Fut>
where
    F: FnOnce(WebSocket) -> Fut,
    Fut: Future<Output: Outcome>,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let mut turn = Turn::new(this.link, cx);
        let shared = turn.shared;
        if turn.begin() {
            this.alarm.as_mut().disarm();
        }
        if turn.follow_signal() {
            turn.unlocked(|| this.handler.set(Handler::Done));
            return Poll::Ready(());
        }
        let mut is_due = this.alarm.as_mut().take_fired();
        for _ in 0..ROUNDS {
            // first what has come, then whether it came in time: the task itself may be late
            turn.read();
            if mem::take(&mut is_due) {
                turn.keep_time();
            }
            turn.poll_handler(|| this.handler.as_mut().poll(shared));
            turn.write();
            turn.act();
            match turn.next() {
                Next::Round => {}
                Next::Yield => break,
                Next::Sleep(Some(at)) if this.alarm.as_mut().arm(Instant::from_std(at), turn.cx) => {
                    turn.state.waiters.is_driver_awake = true;
                    is_due = this.alarm.as_mut().take_fired();
                }
                Next::Sleep(_) if turn.transport.is_none() && matches!(*this.handler, Handler::Done) => {
                    return Poll::Ready(());
                }
                Next::Sleep(_) => return Poll::Pending,
            }
        }
        // a peer that floods does not let the task sleep, and its time is over all the same
        if let Some(at) = turn.state.connection.poll_timeout() {
            this.alarm.arm(Instant::from_std(at), turn.cx);
        }
        turn.cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<F, Fut> Handler<F, Fut>
where
    F: FnOnce(WebSocket) -> Fut,
    Fut: Future<Output: Outcome>,
{
    /// The handler's turn. A panic in it is caught, and ends the connection only.
    fn poll(mut self: Pin<&mut Self>, shared: &Arc<Shared>) {
        if let HandlerProjection::NotStarted(_) = self.as_mut().project()
            && let HandlerReplaced::NotStarted(handler) = self.as_mut().project_replace(Self::Done)
        {
            match catch_unwind(AssertUnwindSafe(|| handler(WebSocket::new(Arc::clone(shared))))) {
                Ok(future) => self.set(Self::Running(future)),
                Err(panic) => ended(shared, Err(panic)),
            }
        }
        let HandlerProjection::Running(future) = self.as_mut().project() else { return };
        let waker = waker_ref(shared);
        let mut cx = Context::from_waker(&waker);
        let outcome = match catch_unwind(AssertUnwindSafe(|| future.poll(&mut cx).map(Outcome::into_result)))
        {
            Ok(Poll::Pending) => return,
            Ok(Poll::Ready(outcome)) => Ok(outcome),
            Err(panic) => Err(panic),
        };
        // what it held of the socket goes first, so that the end finds no receiver
        let dropped = catch_unwind(AssertUnwindSafe(|| self.set(Self::Done)));
        ended(shared, outcome.and_then(|outcome| dropped.map(|()| outcome)));
    }
}

/// A timer that is set only when something waits for it, and set anew only when it fires or is needed earlier: traffic does
/// not touch it.
#[pin_project]
#[derive(Debug, Default)]
struct Alarm {
    /// `None` when it has fired, and when the task's waker is not the one that it knows.
    #[pin]
    sleep: Option<Sleep>,
}

impl Alarm {
    /// Whether it has fired since the last call.
    fn take_fired(self: Pin<&mut Self>) -> bool {
        let fired = self.sleep.as_ref().is_some_and(Sleep::is_elapsed);
        if fired {
            self.disarm();
        }
        fired
    }

    /// It is to be set anew.
    fn disarm(self: Pin<&mut Self>) {
        self.project().sleep.set(None);
    }

    /// Makes sure that the task is woken at `at` or before. Returns whether that has passed already.
    fn arm(self: Pin<&mut Self>, at: Instant, cx: &mut Context<'_>) -> bool {
        if self.sleep.as_ref().is_some_and(|sleep| sleep.deadline() <= at) {
            return false;
        }
        let mut sleep = self.project().sleep;
        sleep.set(Some(sleep_until(at)));
        // a task that has spent its budget would be told to come back, and the timer not be set
        sleep.as_pin_mut().is_some_and(|sleep| pin!(unconstrained(sleep)).poll(cx).is_ready())
    }
}

/// The handler has returned, or panicked.
fn ended(shared: &Shared, outcome: Result<Result<(), BoxError>, Box<dyn Any + Send>>) {
    match outcome {
        Ok(Ok(())) => return shared.with(Connection::handler_done),
        Ok(Err(error)) => {
            let error: &(dyn std::error::Error + 'static) = error.as_ref();
            if shared.with(|connection| connection.is_open()) {
                tracing::error!(error, "handler failed");
            } else {
                // most often what it was told of the end, handed on
                tracing::debug!(error, "handler failed after the end of the connection");
            }
        }
        Err(panic) => {
            let message = panic
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
                .unwrap_or("a value that is not a string");
            tracing::error!(message, "handler panicked");
        }
    }
    shared.with(Connection::handler_failed);
}

#[cfg(all(test, target_pointer_width = "64"))]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::config::{ConnectionConfig, Negotiated};
    use crate::observer::{ConnectionId, ConnectionInfo};
    use crate::protocol::Role;

    #[test]
    fn a_handler_that_receives_needs_no_memory_for_its_waker() {
        let info = ConnectionInfo { id: ConnectionId::next(), peer: None, protocol: None };
        let shared =
            Shared::new(Role::Server, info, ConnectionConfig::default().into(), Negotiated::default(), &[]);
        assert!(shared.poll_recv(&mut Context::from_waker(&waker_ref(&shared))).is_pending());
        assert!(shared.lock().waiters.is_handler_receiving());
        assert!(shared.poll_recv(&mut Context::from_waker(Waker::noop())).is_pending());
        assert!(!shared.lock().waiters.is_handler_receiving());
    }

    #[test]
    fn what_an_idle_connection_holds_is_small() {
        type Idle = Driver<fn(WebSocket) -> Ready<()>, Ready<()>>;
        // of this the handler takes 16 bytes
        assert!(size_of::<Idle>() <= 192, "{}", size_of::<Idle>());
        assert!(size_of::<Shared>() <= 360, "{}", size_of::<Shared>());
    }
}

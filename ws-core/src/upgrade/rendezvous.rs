//! [`Rendezvous`]: takes an accepted handshake from the layer to the handler, and tells the layer which response answers it.
//!
//! The layer puts a `Rendezvous` into the extensions of the request. The handler takes the handshake out of it, and puts
//! the same `Rendezvous` into the extensions of its response. The connection opens when the layer has found it there:
//! middleware in between may have replaced the response.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use http::{Response, StatusCode};
use tokio::time::Instant;

use crate::config::ConnectionConfig;
use crate::handshake::Handshake;
use crate::tracker::Slot;

/// A handshake that the layer has accepted.
pub(crate) struct Accepted {
    pub(crate) handshake: Handshake,
    pub(crate) slot: Slot,
    pub(crate) deadline: Option<Instant>,
    pub(crate) config: Arc<ConnectionConfig>,
}

/// The meeting point of the layer, the handler and the task of the connection. Clones share one handshake.
#[derive(Clone)]
pub(crate) struct Rendezvous {
    progress: Arc<Mutex<Progress>>,
}

enum Progress {
    /// The handler has not taken the handshake.
    Accepted(Accepted),
    /// The handler has taken it. The task of the connection waits until the layer sees the response.
    Taken(Option<Waker>),
    /// The layer has seen the response.
    Answered,
    /// The layer will not see the response.
    Lost,
}

impl Rendezvous {
    pub(crate) fn new(accepted: Accepted) -> Self {
        Self { progress: Arc::new(Mutex::new(Progress::Accepted(accepted))) }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        // a panic cannot leave it half changed: every change is one assignment
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The handshake, for the first caller.
    pub(super) fn take(&self) -> Option<Accepted> {
        let mut progress = self.lock();
        match std::mem::replace(&mut *progress, Progress::Taken(None)) {
            Progress::Accepted(accepted) => Some(accepted),
            other => {
                *progress = other;
                None
            }
        }
    }

    /// Opens the connection if `response` is the one that the handler made for this handshake.
    pub(crate) fn answered<B>(&self, response: &Response<B>) {
        let is_opening = matches!(response.status(), StatusCode::SWITCHING_PROTOCOLS | StatusCode::OK);
        let mark = response.extensions().get::<Self>();
        if is_opening && mark.is_some_and(|mark| Arc::ptr_eq(&mark.progress, &self.progress)) {
            self.end(Progress::Answered);
        }
    }

    /// Gives the handshake up, unless it was answered: the layer got no response or another one. Ends the connection if
    /// the handler has taken the handshake.
    pub(crate) fn lost(&self) {
        self.end(Progress::Lost);
    }

    /// Only the first call has an effect.
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

    /// Waits until the layer has seen the response: `true`, or will not see it: `false`.
    pub(super) fn poll_answered(&self, cx: &mut Context<'_>) -> Poll<bool> {
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

//! [`Rendezvous`]: takes an accepted handshake from the layer to the handler, and tells the layer which response answers it.
//!
//! The layer puts a `Rendezvous` into the extensions of the request, and the handler takes the handshake out of it. What the
//! handshake takes up, its slot and the connection, stays in the `Rendezvous`, so that both are free as soon as the layer
//! gives the handshake up, whoever still holds the handshake.
//!
//! The connection opens when the layer sees the response that was made for it. Middleware in between may have replaced that
//! response, or have copied it without its extensions, so the layer knows it by its status and its `Sec-WebSocket-Accept`.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use http::header::SEC_WEBSOCKET_ACCEPT;
use http::{HeaderValue, Response, StatusCode, Version};
use hyper::upgrade::OnUpgrade;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::config::ConnectionConfig;
use crate::deadline::Deadline;
use crate::handshake::{self, Handshake};
use crate::tracker::{Connections, Slot};

/// A handshake that the layer has accepted.
pub(crate) struct Accepted {
    pub(crate) slot: Slot,
    pub(crate) terms: Terms,
}

/// What a connection is to be like.
pub(crate) struct Terms {
    pub(crate) handshake: Handshake,
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
    /// The handler has taken it, and has not made the response.
    Taken(Claim),
    /// The response is made. The task of the connection waits until the layer sees it.
    Made(Mark, Option<Waker>),
    /// The layer has seen the response.
    Answered,
    /// The layer will not see the response.
    Lost,
}

/// What a handshake takes up.
pub(super) struct Claim {
    pub(super) slot: Slot,
    pub(super) on_upgrade: OnUpgrade,
}

/// By what the layer knows a response.
#[derive(PartialEq, Eq)]
struct Mark {
    status: StatusCode,
    accept: Option<HeaderValue>,
}

impl Mark {
    fn of<B>(response: &Response<B>) -> Self {
        Self { status: response.status(), accept: response.headers().get(SEC_WEBSOCKET_ACCEPT).cloned() }
    }
}

impl Rendezvous {
    pub(crate) fn new(accepted: Accepted) -> Self {
        Self { progress: Arc::new(Mutex::new(Progress::Accepted(accepted))) }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        // a panic cannot leave it half changed: every change is one assignment
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// If the progress is what `when` says, changes it to `next` and returns what it was, to be dropped when it is no longer
    /// locked.
    fn replace(&self, when: impl FnOnce(&Progress) -> bool, next: Progress) -> Option<Progress> {
        let mut progress = self.lock();
        when(&progress).then(|| std::mem::replace(&mut *progress, next))
    }

    /// The handshake, for the first caller.
    pub(super) fn take(self, on_upgrade: OnUpgrade) -> Option<(Taken, Terms)> {
        let mut progress = self.lock();
        match std::mem::replace(&mut *progress, Progress::Lost) {
            Progress::Accepted(Accepted { slot, terms }) => {
                *progress = Progress::Taken(Claim { slot, on_upgrade });
                drop(progress);
                Some((Taken { rendezvous: self, watcher: None }, terms))
            }
            other => {
                *progress = other;
                None
            }
        }
    }

    /// The slot, for another layer with the same `connections` between this one and the handler, which serves the
    /// handshake in place of this layer.
    pub(crate) fn take_slot(&self, connections: &Connections) -> Option<Slot> {
        let is_one_of_them = |progress: &Progress| match progress {
            Progress::Accepted(accepted) => connections.includes(&accepted.slot),
            _ => false,
        };
        match self.replace(is_one_of_them, Progress::Lost)? {
            Progress::Accepted(accepted) => Some(accepted.slot),
            _ => None,
        }
    }

    /// Opens the connection if `response` is the one that was made for this handshake.
    pub(crate) fn answered<B>(&self, response: &mut Response<B>, version: Version) {
        let seen = Mark::of(response);
        let is_number = |accept: &HeaderValue| accept.to_str().is_ok_and(|text| text.parse::<u64>().is_ok());
        if !handshake::is_http_1(version) && seen.accept.as_ref().is_some_and(is_number) {
            // HTTP/2 has no such header (RFC 8441 section 5). A number in it is for the layer only; the answer to a key, for
            // a client that has sent one, is no number
            response.headers_mut().remove(SEC_WEBSOCKET_ACCEPT);
        }
        let is_it = |progress: &Progress| match progress {
            Progress::Made(made, _) => *made == seen,
            _ => false,
        };
        self.end(is_it, Progress::Answered);
    }

    /// Gives the handshake up, unless it was answered: the layer got no response or another one. Ends the connection if
    /// its response was made.
    pub(crate) fn lost(&self) {
        self.end(|progress| !matches!(progress, Progress::Answered), Progress::Lost);
    }

    /// Gives the handshake up, unless its response was made.
    fn give_up(&self) {
        self.end(|progress| matches!(progress, Progress::Taken(_)), Progress::Lost);
    }

    fn end(&self, when: impl FnOnce(&Progress) -> bool, end: Progress) {
        if let Some(Progress::Made(_, Some(waker))) = self.replace(when, end) {
            waker.wake();
        }
    }

    /// Waits until the layer has seen the response: `true`, or will not see it: `false`.
    pub(super) fn poll_answered(&self, cx: &mut Context<'_>) -> Poll<bool> {
        match &mut *self.lock() {
            Progress::Accepted(_) | Progress::Taken(_) | Progress::Lost => Poll::Ready(false),
            Progress::Answered => Poll::Ready(true),
            Progress::Made(_, waker) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Waits until no response can come any more, if there is no layer that sees it: the HTTP server is done with the
    /// request, or the handshake timeout is over.
    fn poll_abandoned(&self, cx: &mut Context<'_>, deadline: &mut Deadline) -> Poll<()> {
        // it stays locked, so that a stream that this takes is none of a connection's
        let mut progress = self.lock();
        let Progress::Taken(claim) = &mut *progress else { return Poll::Ready(()) };
        if Pin::new(&mut claim.on_upgrade).poll(cx).is_ready() {
            return Poll::Ready(());
        }
        deadline.poll(cx)
    }
}

/// A handshake that was taken. Dropping it gives the handshake up, unless its response was made.
pub(super) struct Taken {
    rendezvous: Rendezvous,
    /// The task that does what the layer does, if there is none around the handler.
    watcher: Option<AbortHandle>,
}

impl Taken {
    /// A handshake whose response no layer will see.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub(super) fn without_layer(Accepted { slot, terms }: Accepted, on_upgrade: OnUpgrade) -> (Self, Terms) {
        let progress = Progress::Taken(Claim { slot, on_upgrade });
        let rendezvous = Rendezvous { progress: Arc::new(Mutex::new(progress)) };
        let abandoned = rendezvous.clone();
        let mut deadline = Deadline::new(terms.deadline);
        let watcher = tokio::spawn(async move {
            poll_fn(|cx| abandoned.poll_abandoned(cx, &mut deadline)).await;
            abandoned.give_up();
        });
        (Self { rendezvous, watcher: Some(watcher.abort_handle()) }, terms)
    }

    /// Whether a layer will see the response.
    pub(super) fn has_layer(&self) -> bool {
        self.watcher.is_none()
    }

    /// Takes what the connection needs, to open it when `response` is out. `None` if the handshake was given up.
    pub(super) fn start<B>(&self, response: &Response<B>) -> Option<(Rendezvous, Claim)> {
        let next =
            if self.has_layer() { Progress::Made(Mark::of(response), None) } else { Progress::Answered };
        match self.rendezvous.replace(|progress| matches!(progress, Progress::Taken(_)), next)? {
            Progress::Taken(claim) => Some((self.rendezvous.clone(), claim)),
            _ => None,
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(watcher) = &self.watcher {
            watcher.abort();
        }
        self.rendezvous.give_up();
    }
}

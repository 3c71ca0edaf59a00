//! The signals that wait for one node of an [`InProcess`](crate::InProcess) backplane.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::sync::mpsc;

use crate::backplane::Signal;

/// Signals that may wait for one node. More are lost, and the node is told so.
const INBOX: usize = 4096;

/// Both ends of an inbox.
pub(crate) fn inbox<U>() -> (Outbox<U>, Inbox<U>) {
    let (sender, receiver) = mpsc::channel(INBOX);
    let gap = Arc::new(AtomicBool::new(false));
    (Outbox { sender, gap: Arc::clone(&gap) }, Inbox { receiver, gap })
}

/// Where signals for a node go.
pub(crate) struct Outbox<U> {
    sender: mpsc::Sender<Signal<U>>,
    gap: Arc<AtomicBool>,
}

/// The signals for a node, as a stream.
pub(crate) struct Inbox<U> {
    receiver: mpsc::Receiver<Signal<U>>,
    /// Some did not fit.
    gap: Arc<AtomicBool>,
}

impl<U> Stream for Inbox<U> {
    type Item = Signal<U>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Signal<U>>> {
        if self.gap.swap(false, Ordering::AcqRel) {
            return Poll::Ready(Some(Signal::Gap));
        }
        self.receiver.poll_recv(cx)
    }
}

impl<U> Clone for Outbox<U> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), gap: Arc::clone(&self.gap) }
    }
}

impl<U> Outbox<U> {
    pub(crate) fn send(&self, signal: Signal<U>) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.sender.try_send(signal) {
            self.gap.store(true, Ordering::Release);
        }
    }
}

impl<U> Inbox<U> {
    /// One that nothing comes to.
    pub(crate) fn closed() -> Self {
        inbox().1
    }
}

//! [`Slot`]: one of the connections that there may be, for its handshake and then for its task, which is a
//! [`Registration`].

use std::sync::Arc;
use std::sync::atomic::Ordering;
#[cfg(not(all(test, shuttle)))]
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::task::{Poll, Waker};

#[cfg(all(test, shuttle))]
use shuttle::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use tokio::sync::Notify;

use super::table::{Signal, Table};

/// What all handles of a layer's connections share.
#[derive(Debug)]
pub(super) struct Inner {
    /// `usize::MAX` for no limit.
    pub(super) limit: AtomicUsize,
    /// Slots taken, by handshakes and by connections.
    pub(super) open: AtomicUsize,
    /// Those of the slots whose handshake has no response yet.
    pub(super) handshakes: AtomicUsize,
    pub(super) draining: AtomicBool,
    /// The upper bound of the `Retry-After` of a refusal, in seconds.
    pub(super) retry_after: AtomicU64,
    /// The tasks of the connections.
    pub(super) table: Table,
    /// A drain may be over: the last task is gone, or the last handshake.
    ///
    /// It is not told of others that go. A task that is woken on a thread of tokio's waits there for the thread's current
    /// task, and that may be a handler that blocks, which the drain must not wait for.
    pub(super) changed: Notify,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            limit: AtomicUsize::new(usize::MAX),
            open: AtomicUsize::new(0),
            handshakes: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            retry_after: AtomicU64::new(5),
            table: Table::default(),
            changed: Notify::new(),
        }
    }
}

impl Inner {
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Wakes a drain. One that begins later needs no wake: it says that it has begun before it looks at the counts.
    fn wake_drain(&self) {
        if self.is_draining() {
            self.changed.notify_waiters();
        }
    }
}

/// Why there is no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoSlot {
    Draining,
    Full,
}

/// One of the connections that there may be; free again when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(super) inner: Arc<Inner>,
    is_taken: bool,
    /// It counts as a handshake until it is registered.
    in_handshake: bool,
}

impl Slot {
    /// Takes a slot, if there is one; no two can take the last one.
    pub(super) fn acquire(inner: &Arc<Inner>) -> Result<Self, NoSlot> {
        if inner.is_draining() {
            return Err(NoSlot::Draining);
        }
        let limit = inner.limit.load(Ordering::Relaxed);
        inner
            .open
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |open| (open < limit).then_some(open + 1))
            .map_err(|_| NoSlot::Full)?;
        inner.handshakes.fetch_add(1, Ordering::SeqCst);
        let slot = Self { inner: Arc::clone(inner), is_taken: true, in_handshake: true };
        // a drain that began since the first look may not have counted this one
        if inner.is_draining() { Err(NoSlot::Draining) } else { Ok(slot) }
    }

    /// Makes the task of the connection known to a drain. If one has begun, the task is told to close, or to end, at once.
    pub(crate) fn register(mut self) -> Registration {
        self.in_handshake = false;
        // in one step, so that a drain sees one of the two
        let key = self.inner.table.insert(|| self.inner.handshakes.fetch_sub(1, Ordering::SeqCst));
        let has_slot = std::mem::take(&mut self.is_taken);
        Registration { inner: Arc::clone(&self.inner), key, epoch: 0, has_slot }
    }

    /// Frees the slot.
    fn release(&mut self) {
        if std::mem::take(&mut self.is_taken) {
            self.inner.open.fetch_sub(1, Ordering::SeqCst);
        }
        if std::mem::take(&mut self.in_handshake) && self.inner.handshakes.fetch_sub(1, Ordering::SeqCst) == 1
        {
            self.inner.wake_drain();
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.release();
    }
}

/// A connection's task in the table of its layer, for as long as the task runs.
#[derive(Debug)]
pub(crate) struct Registration {
    inner: Arc<Inner>,
    key: usize,
    epoch: u32,
    has_slot: bool,
}

impl Registration {
    /// Has `waker` woken for each signal.
    pub(crate) fn set_waker(&self, waker: &Waker) {
        let _ = self.poll_aborted(waker);
    }

    /// The signal that has come since the last call.
    pub(crate) fn take_signal(&mut self) -> Option<Signal> {
        self.inner.table.take_signal(self.key, &mut self.epoch)
    }

    /// Ready when the connection is to end at once. Until then `waker` is woken for each signal. Signals stay for
    /// [`take_signal`](Self::take_signal).
    pub(crate) fn poll_aborted(&self, waker: &Waker) -> Poll<()> {
        self.inner.table.poll_aborted(self.key, waker)
    }

    /// The connection is over: its slot is free, while its handler may still run.
    pub(crate) fn release_slot(&mut self) {
        if std::mem::take(&mut self.has_slot) {
            self.inner.open.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // before the task is removed: when a drain sees no task, all slots are free
        self.release_slot();
        if self.inner.table.remove(self.key) {
            self.inner.wake_drain();
        }
    }
}

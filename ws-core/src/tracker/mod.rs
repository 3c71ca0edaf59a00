//! [`Connections`]: the live connections of a layer, how many there may be, and how they end at a deploy.
//!
//! An HTTP server's graceful shutdown does not know WebSockets: hyper forgets an upgraded HTTP/1.1 connection, and
//! waits for an HTTP/2 one for ever. So the layer counts its connections itself, and a shutdown awaits
//! [`Connections::drain`].
//!
//! ```
//! use std::time::Duration;
//! use ws_core::{Drain, WebSocketLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let layer = WebSocketLayer::new().max_connections(10_000);
//! let connections = layer.connections();
//! assert_eq!(connections.len(), 0);
//!
//! let drained = connections.drain(Drain::new().deadline(Duration::from_secs(20))).await;
//! assert_eq!((drained.aborted, drained.remaining), (0, 0));
//! # }
//! ```

mod drain;
mod table;

use std::sync::Arc;
use std::sync::atomic::Ordering;
#[cfg(not(all(test, shuttle)))]
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use rand::RngExt as _;
#[cfg(all(test, shuttle))]
use shuttle::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use tokio::sync::Notify;

pub use drain::{Drain, Drained};
use table::Table;
pub(crate) use table::{Registration, Signal};

/// The connections of a [`WebSocketLayer`](crate::WebSocketLayer) and of its clones: a handle, cheap to clone.
///
/// The example is [at the module](crate::tracker).
#[derive(Clone, Debug, Default)]
pub struct Connections {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// `usize::MAX` for no limit.
    limit: AtomicUsize,
    /// Slots taken, by handshakes and by connections.
    open: AtomicUsize,
    /// Those of the slots whose handshake has no response yet.
    handshakes: AtomicUsize,
    draining: AtomicBool,
    /// The upper bound of the `Retry-After` of a refusal, in seconds.
    retry_after: AtomicU64,
    /// The tasks of the connections.
    table: Table,
    /// A drain may be over: the last task is gone, or the last handshake.
    ///
    /// It is not told of others that go. A task that is woken on a thread of tokio's waits there for the thread's current
    /// task, and that may be a handler that blocks, which the drain must not wait for.
    changed: Notify,
}

/// Why there is no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoSlot {
    Draining,
    Full,
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
    /// Wakes a drain. One that begins later needs no wake: it says that it has begun before it looks at the counts.
    fn wake_drain(&self) {
        if self.draining.load(Ordering::SeqCst) {
            self.changed.notify_waiters();
        }
    }
}

impl Connections {
    /// How many slots are taken, of those that [`max_connections`](Self::max_connections) allows.
    ///
    /// | what | takes a slot from | until |
    /// |---|---|---|
    /// | a handshake | the moment it is accepted | its response, or its failure; at the latest the handshake timeout |
    /// | a [`WebSocketUpgrade`](crate::WebSocketUpgrade) | the same moment | it is used or dropped |
    /// | a connection | its response | the end of the connection, even if its handler still runs |
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.open.load(Ordering::SeqCst)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many there may be; `None` for no limit.
    #[must_use]
    pub fn max_connections(&self) -> Option<usize> {
        match self.inner.limit.load(Ordering::Relaxed) {
            usize::MAX => None,
            limit => Some(limit),
        }
    }

    /// Changes how many there may be, for new handshakes; `None` for no limit. Open connections stay.
    pub fn set_max_connections(&self, limit: impl Into<Option<usize>>) {
        self.inner.limit.store(limit.into().unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    /// Whether a [`drain`](Self::drain) has begun: every further handshake is refused with 503.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.inner.draining.load(Ordering::SeqCst)
    }

    /// Takes a slot, if there is one; no two can take the last one.
    pub(crate) fn acquire(&self) -> Result<Slot, NoSlot> {
        if self.is_draining() {
            return Err(NoSlot::Draining);
        }
        let limit = self.inner.limit.load(Ordering::Relaxed);
        self.inner
            .open
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |open| (open < limit).then_some(open + 1))
            .map_err(|_| NoSlot::Full)?;
        self.inner.handshakes.fetch_add(1, Ordering::SeqCst);
        let slot = Slot { inner: Arc::clone(&self.inner), is_taken: true, in_handshake: true };
        // a drain that began since the first look may not have counted this one
        if self.is_draining() { Err(NoSlot::Draining) } else { Ok(slot) }
    }

    /// After how many seconds a client that is refused may come back: random, so that not all come at once.
    pub(crate) fn retry_after(&self) -> u64 {
        rand::rng().random_range(1..=self.inner.retry_after.load(Ordering::Relaxed).max(1))
    }
}

/// One of the connections that there may be; free again when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    inner: Arc<Inner>,
    is_taken: bool,
    /// It counts as a handshake until it is registered.
    in_handshake: bool,
}

impl Slot {
    /// Makes the task of the connection known to a drain. During a drain it is told at once to end.
    pub(crate) fn register(mut self) -> Registration {
        self.in_handshake = false;
        // in one step, so that a drain sees one of the two
        let key = self.inner.table.insert(|| self.inner.handshakes.fetch_sub(1, Ordering::SeqCst));
        Registration::new(self, key)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_slot_is_taken_once() {
        let connections = Connections::default();
        connections.set_max_connections(100);
        let slots = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| (0..25).filter_map(|_| connections.acquire().ok()).collect::<Vec<_>>())
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!((slots.len(), connections.len()), (100, 100));
        assert_eq!(connections.acquire().unwrap_err(), NoSlot::Full);
        drop(slots);
        assert!(connections.is_empty());
    }

    #[test]
    fn a_slot_is_free_when_the_connection_is_over_while_its_task_goes_on() {
        let connections = Connections::default();
        let mut task = connections.acquire().unwrap().register();
        assert_eq!(connections.len(), 1);
        task.release_slot();
        assert!(connections.is_empty());
        drop(task);
        assert!(connections.is_empty());
    }
}

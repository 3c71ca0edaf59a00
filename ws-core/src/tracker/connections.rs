//! [`Connections`]: how many connections of a layer there are, and how many there may be.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rand::RngExt as _;

use super::slot::{Inner, NoSlot, Slot};

/// The connections of a [`WebSocketLayer`](crate::WebSocketLayer) and of its clones: a handle, cheap to clone.
///
/// An HTTP server's graceful shutdown does not know WebSockets: hyper forgets an HTTP/1.1 connection that was upgraded, and
/// waits for an HTTP/2 connection for ever. So the layer counts its connections, and a shutdown awaits
/// [`drain`](Self::drain).
///
/// ```
/// use std::time::Duration;
/// use ws_core::{Drain, WebSocketLayer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let layer = WebSocketLayer::new().max_connections(10_000);
/// let connections = layer.connections();
/// assert_eq!(connections.len(), 0);
///
/// let drained = connections.drain(Drain::new().timeout(Duration::from_secs(20))).await;
/// assert_eq!((drained.aborted, drained.remaining), (0, 0));
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Connections {
    pub(super) inner: Arc<Inner>,
}

impl Connections {
    /// How many slots are taken, of those that [`max_connections`](Self::max_connections) allows.
    ///
    /// | what | takes a slot from | until |
    /// |---|---|---|
    /// | a handshake | the moment it is accepted | its response, or its failure; at the latest the handshake timeout |
    /// | a [`WebSocketUpgrade`](crate::WebSocketUpgrade) | the same moment | it is used or dropped, or its request has ended |
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
        self.inner.is_draining()
    }

    /// Takes a slot, if there is one; no two can take the last one.
    pub(crate) fn acquire(&self) -> Result<Slot, NoSlot> {
        Slot::acquire(&self.inner)
    }

    /// Whether a slot is one of these.
    pub(crate) fn includes(&self, slot: &Slot) -> bool {
        Arc::ptr_eq(&slot.inner, &self.inner)
    }

    /// After how many seconds a client that is refused may come back: random, so that not all come at once.
    pub(crate) fn retry_after(&self) -> u64 {
        rand::rng().random_range(1..=self.inner.retry_after.load(Ordering::Relaxed).max(1))
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

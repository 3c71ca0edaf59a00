//! [`Stats`]: what a hub has done since it was made.

use std::sync::atomic::{AtomicU64, Ordering};

/// How a hub is, and what it has done since it was made: for metrics. Messages are counted per connection.
///
/// ```
/// let stats = ws_hub::Hub::<u64>::new().stats();
/// assert_eq!((stats.users, stats.sent), (0, 0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Users who are connected, now.
    pub users: usize,
    /// Connections, now.
    pub connections: usize,
    /// Rooms with somebody in them, now.
    pub rooms: usize,
    /// Messages that had to wait for a connection, because it was full.
    pub queued: u64,
    /// Messages that were handed to connections.
    pub sent: u64,
    /// Messages for users who were not connected.
    pub stored: u64,
    /// Messages that were accepted for a queue or a log, and went to make room for newer ones.
    pub evicted: u64,
    /// Messages that were not accepted.
    pub dropped: u64,
    /// Calls of the log or the backplane that failed.
    pub failed: u64,
    /// Connections that were closed because too much waited for them.
    pub overflowed: u64,
    /// Connections that a newer login replaced.
    pub replaced: u64,
    /// Connections that were closed by `disconnect` or `kick`.
    pub disconnected: u64,
    /// Connections that were not let in.
    pub refused: u64,
}

/// The counts, as they grow.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) queued: Counter,
    pub(crate) sent: Counter,
    pub(crate) stored: Counter,
    pub(crate) evicted: Counter,
    pub(crate) dropped: Counter,
    pub(crate) failed: Counter,
    pub(crate) overflowed: Counter,
    pub(crate) replaced: Counter,
    pub(crate) disconnected: Counter,
    pub(crate) refused: Counter,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: usize) {
        if count > 0 {
            self.0.fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    pub(crate) fn stats(&self, users: usize, connections: usize, rooms: usize) -> Stats {
        Stats {
            users,
            connections,
            rooms,
            queued: self.queued.get(),
            sent: self.sent.get(),
            stored: self.stored.get(),
            evicted: self.evicted.get(),
            dropped: self.dropped.get(),
            failed: self.failed.get(),
            overflowed: self.overflowed.get(),
            replaced: self.replaced.get(),
            disconnected: self.disconnected.get(),
            refused: self.refused.get(),
        }
    }
}

//! [`World`]: what the peers share, and [`Tally`]: what they have done.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{RwLock, Semaphore, watch};
use ws_tests::{Client, Endpoint, Frame};

/// How long the server waits for a peer that does not read.
pub(crate) const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// How many connect at once: a server's backlog is no part of this.
const OPENING: usize = 64;

pub(crate) struct World {
    /// Held while one connects.
    pub(crate) endpoint: RwLock<Endpoint>,
    opening: Semaphore,
    pub(crate) seed: u64,
    /// How long a connection lives, on average.
    pub(crate) lifetime: Duration,
    /// How many rooms users go to, so that there are some in each.
    pub(crate) rooms: usize,
    /// The time is over: connections are to end.
    pub(crate) over: watch::Sender<bool>,
    /// No more messages are sent to users.
    pub(crate) quiet: watch::Sender<bool>,
    pub(crate) tally: Tally,
}

impl World {
    pub(crate) fn new(endpoint: Endpoint, connections: usize, seed: u64, time: Duration) -> Self {
        Self {
            endpoint: RwLock::new(endpoint),
            opening: Semaphore::new(OPENING),
            seed,
            lifetime: (time / 10).max(Duration::from_secs(5)),
            rooms: connections / 100 + 1,
            over: watch::Sender::new(false),
            quiet: watch::Sender::new(false),
            tally: Tally::default(),
        }
    }

    /// Opens a connection, and says what its handler is to be.
    pub(crate) async fn open(&self, role: &str) -> Client {
        let _permit = self.opening.acquire().await.expect("it is never closed");
        let endpoint = self.endpoint.read().await;
        let mut client = Client::open(*endpoint).await;
        client.write(Frame::text(role)).await;
        Tally::add(&self.tally.opened);
        client
    }

    pub(crate) fn is_over(&self) -> bool {
        *self.over.borrow()
    }
}

/// Counts.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) opened: AtomicUsize,
    pub(crate) echoed: AtomicUsize,
    pub(crate) numbered: AtomicUsize,
    pub(crate) to_users: AtomicUsize,
    pub(crate) to_rooms: AtomicUsize,
    pub(crate) closed_here: AtomicUsize,
    pub(crate) closed_there: AtomicUsize,
    pub(crate) drained: AtomicUsize,
    pub(crate) kicked: AtomicUsize,
    pub(crate) replaced: AtomicUsize,
    pub(crate) reset: AtomicUsize,
    pub(crate) ended: AtomicUsize,
    pub(crate) stalled: AtomicUsize,
}

impl Tally {
    pub(crate) fn add(count: &AtomicUsize) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { opened, echoed, numbered, to_users, to_rooms, .. } = self;
        let of = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        let messages = [echoed, numbered, to_users, to_rooms].map(of);
        write!(f, "{} messages", messages.iter().sum::<usize>())?;
        let [echoed, numbered, to_users, to_rooms] = messages;
        write!(f, " ({echoed} echoed, {numbered} pushed, {to_users} to users, {to_rooms} in rooms)")?;
        write!(f, ", {} connections: closed by the client {}", of(opened), of(&self.closed_here))?;
        write!(f, ", by the server {}, drained {}", of(&self.closed_there), of(&self.drained))?;
        write!(f, ", kicked {}, replaced {}", of(&self.kicked), of(&self.replaced))?;
        write!(f, ", reset {}, cut {}, stalled {}", of(&self.reset), of(&self.ended), of(&self.stalled))
    }
}

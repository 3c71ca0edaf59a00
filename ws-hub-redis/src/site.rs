//! [`Site`]: a server that has partitions, as calls see it.

use std::fmt;
use std::sync::Arc;

use tokio::sync::{Notify, Semaphore, SemaphorePermit, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};
use ws_hub::Health;

use crate::address::Address;
use crate::appender::Lines;
use crate::error::Failure;
use crate::script::Call;

/// Calls that may wait for their answers, and bytes of them.
const CALLS: usize = 4_096;
const BYTES: usize = 16 * 1024 * 1024;

/// Where the connections are.
#[derive(Clone, Debug)]
pub(crate) struct State {
    /// For calls; `None` while there is none.
    pub(crate) lines: Option<Lines>,
    pub(crate) health: Health,
    /// Since when there is no connection.
    pub(crate) down_since: Option<Instant>,
}

/// What the supervisor is asked.
#[derive(Debug)]
pub(crate) enum Request {
    Watch { room: String, answer: oneshot::Sender<Result<(), Failure>> },
    Unwatch(String),
}

pub(crate) struct Site {
    pub(crate) address: Address,
    pub(crate) state: watch::Sender<State>,
    /// The leases are to be renewed now.
    pub(crate) renew_now: Notify,
    pub(crate) requests: mpsc::UnboundedSender<Request>,
    calls: Semaphore,
    bytes: Semaphore,
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.address.shown())
    }
}

/// What calls that were admitted hold.
pub(crate) type Admitted<'a> = (SemaphorePermit<'a>, SemaphorePermit<'a>);

impl Site {
    /// One that is not connected yet, and where its requests come.
    pub(crate) fn new(address: Address) -> (Arc<Self>, mpsc::UnboundedReceiver<Request>) {
        let (requests, receiver) = mpsc::unbounded_channel();
        let state = State { lines: None, health: Health::Down, down_since: Some(Instant::now()) };
        let site = Self {
            address,
            state: watch::Sender::new(state),
            renew_now: Notify::new(),
            requests,
            calls: Semaphore::new(CALLS),
            bytes: Semaphore::new(BYTES),
        };
        (Arc::new(site), receiver)
    }

    /// The connections for calls, if there are any.
    pub(crate) fn lines(&self) -> Option<Lines> {
        self.state.borrow().lines.as_ref().filter(|lines| !lines.is_over()).cloned()
    }

    /// Waits for its turn. What does not get one is never written.
    pub(crate) async fn admit(&self, calls: &[Call], deadline: Instant) -> Result<Admitted<'_>, Failure> {
        let permits = |count: usize, most: usize| u32::try_from(count.min(most)).unwrap_or(u32::MAX);
        let size = calls.iter().map(Call::size).sum();
        let admitted = timeout_at(deadline, async {
            let calls = self.calls.acquire_many(permits(calls.len(), CALLS)).await;
            (calls, self.bytes.acquire_many(permits(size, BYTES)).await)
        });
        match admitted.await {
            Ok((Ok(calls), Ok(bytes))) => Ok((calls, bytes)),
            _ => Err(Failure::refused("too many calls wait for the Redis server")),
        }
    }
}

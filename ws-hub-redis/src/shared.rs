//! [`Shared`]: what the handle and its supervisor share; how calls get to the server.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, SemaphorePermit, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout_at};
use ws_hub::Health;

use crate::address::Address;
use crate::appender::Lines;
use crate::config::{CIRCUIT, DEADLINE, Settings};
use crate::error::{Failure, FailureKind};
use crate::inbox::Inbox;
use crate::keys::Keys;
use crate::link::Value;
use crate::reply::is_without_lease;
use crate::script::{Call, Script};

/// Calls that may wait for their answers, and bytes of them.
const CALLS: usize = 4_096;
const BYTES: usize = 16 * 1024 * 1024;

/// How long to wait before a call is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// Where the connections are.
#[derive(Clone, Debug)]
pub(crate) struct State {
    /// For calls; `None` while there is none.
    pub(crate) lines: Option<Lines>,
    pub(crate) health: Health,
    /// Since when there is no connection.
    pub(crate) down_since: Option<Instant>,
    pub(crate) has_left: bool,
}

/// A room that has, or had, members here.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Room {
    pub(crate) is_wanted: bool,
    pub(crate) is_subscribed: bool,
}

/// How calls are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Not again, if they may have been done.
    Once,
    Repeatable,
    /// Repeatable, and replicas have to have what was done.
    Append,
}

/// What the supervisor is asked.
#[derive(Debug)]
pub(crate) enum Request {
    Watch { room: String, answer: oneshot::Sender<Result<(), Failure>> },
    Unwatch(String),
}

pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) keys: Keys,
    pub(crate) address: Address,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) state: watch::Sender<State>,
    /// The lease is to be renewed now.
    pub(crate) renew_now: Notify,
    pub(crate) requests: mpsc::UnboundedSender<Request>,
    node: RwLock<Arc<str>>,
    rooms: Mutex<HashMap<String, Room>>,
    /// Until when logins that are not there may only not be asserted yet.
    asserted_by: Mutex<Option<Instant>>,
    calls: Semaphore,
    bytes: Semaphore,
}

impl Shared {
    pub(crate) fn new(
        settings: Settings,
        address: Address,
        requests: mpsc::UnboundedSender<Request>,
    ) -> Self {
        let state = State { lines: None, health: Health::Down, down_since: None, has_left: false };
        Self {
            keys: Keys::new(&settings.prefix),
            settings,
            address,
            inbox: Arc::default(),
            state: watch::Sender::new(state),
            renew_now: Notify::new(),
            requests,
            node: RwLock::new(new_name()),
            rooms: Mutex::default(),
            asserted_by: Mutex::default(),
            calls: Semaphore::new(CALLS),
            bytes: Semaphore::new(BYTES),
        }
    }

    /// The name of this node.
    pub(crate) fn node(&self) -> Arc<str> {
        Arc::clone(&self.node.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Nothing of the old name is this node's any more.
    pub(crate) fn rename(&self) {
        *self.node.write().unwrap_or_else(PoisonError::into_inner) = new_name();
    }

    pub(crate) fn rooms(&self) -> MutexGuard<'_, HashMap<String, Room>> {
        // each use leaves it whole
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lease had ended: the hub asserts its logins in a moment.
    pub(crate) fn was_late(&self) {
        *self.asserted_by.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Instant::now() + self.settings.renewal());
    }

    /// Whether a login that is not there may only not be asserted yet.
    pub(crate) fn is_asserting(&self) -> bool {
        self.asserted_by.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|by| by > Instant::now())
    }

    pub(crate) fn script(&self, script: Script) -> Call {
        Call::script(script, &self.keys, &self.node(), &self.settings.bounds)
    }

    /// A script as the node of another name calls it.
    pub(crate) fn script_of(&self, script: Script, node: &str) -> Call {
        Call::script(script, &self.keys, node, &self.settings.bounds)
    }

    /// The connections for calls; waits for them for some time.
    async fn lines(&self, deadline: Instant) -> Result<Lines, Failure> {
        let mut states = self.state.subscribe();
        loop {
            let limit = {
                let state = states.borrow_and_update();
                if state.has_left {
                    return Err(Failure::refused("this node has left"));
                }
                if let Some(lines) = state.lines.as_ref().filter(|lines| !lines.is_over()) {
                    return Ok(lines.clone());
                }
                state.down_since.map_or(deadline, |since| deadline.min(since + CIRCUIT))
            };
            let changed = timeout_at(limit, states.changed()).await;
            if changed.is_err() {
                return Err(Failure::refused("the Redis server cannot be reached"));
            }
        }
    }

    /// Waits for its turn. What does not get one is never written.
    async fn admit(
        &self,
        calls: &[Call],
        deadline: Instant,
    ) -> Result<(SemaphorePermit<'_>, SemaphorePermit<'_>), Failure> {
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

    /// Makes calls, and makes those again that were not done, or may not have been, until it is too late. `calls` makes
    /// them, of those with these numbers; it is told whether they may have been done.
    pub(crate) async fn ask(
        &self,
        count: usize,
        way: Way,
        calls: impl Fn(usize, bool) -> Call,
    ) -> Vec<Result<Value, Failure>> {
        let deadline = Instant::now() + DEADLINE;
        let mut answers: Vec<Result<Value, Failure>> = vec![Err(Failure::refused("it was not tried")); count];
        let mut is_doubtful = vec![false; count];
        let mut left: Vec<usize> = (0..count).collect();
        loop {
            let batch: Vec<_> = left.iter().map(|at| calls(*at, is_doubtful[*at])).collect();
            let tried = self.try_once(&batch, way, deadline).await;
            let mut again = Vec::new();
            for (at, answer) in left.into_iter().zip(tried) {
                let kind = answer.as_ref().err().map(|failure| failure.kind);
                let is_undone = matches!(kind, Some(FailureKind::Busy | FailureKind::Demoted));
                if is_undone || kind == Some(FailureKind::Lost) && way != Way::Once {
                    again.push(at);
                }
                let was_doubtful = is_doubtful[at];
                is_doubtful[at] |= kind == Some(FailureKind::Lost);
                answers[at] = answer.map_err(|it| if was_doubtful { it.doubtful() } else { it });
            }
            left = again;
            if left.is_empty() || Instant::now() + PAUSE >= deadline {
                return answers;
            }
            sleep_until(Instant::now() + PAUSE).await;
        }
    }

    async fn try_once(&self, calls: &[Call], way: Way, deadline: Instant) -> Vec<Result<Value, Failure>> {
        let all = |failure: Failure| vec![Err(failure); calls.len()];
        let lines = match self.lines(deadline).await {
            Ok(lines) => lines,
            Err(failure) => return all(failure),
        };
        let _admitted = match self.admit(calls, deadline).await {
            Ok(admitted) => admitted,
            Err(failure) => return all(failure),
        };
        let answering = async {
            match lines.appender.as_ref().filter(|_| way == Way::Append) {
                Some(appender) => appender.call(calls).await,
                None => lines.link.call(calls).await,
            }
        };
        let Ok(answers) = timeout_at(deadline, answering).await else {
            return all(Failure::lost("the Redis server does not answer in time"));
        };
        let checked = answers.into_iter().map(|answer| match answer {
            Ok(value) if is_without_lease(&value) => {
                self.renew_now.notify_one();
                Err(Failure::busy("the lease of this node has ended"))
            }
            Err(failure) if failure.kind == FailureKind::Demoted => {
                // which fails, too: then the connections are opened anew
                self.renew_now.notify_one();
                Err(failure)
            }
            answer => answer,
        });
        checked.collect()
    }

    /// Makes one call that may be made twice.
    pub(crate) async fn ask_one(&self, call: impl Fn() -> Call) -> Result<Value, Failure> {
        one(self.ask(1, Way::Repeatable, |_, _| call()).await)
    }

    /// Makes one call that must not be made twice.
    pub(crate) async fn ask_once(&self, call: Call) -> Result<Value, Failure> {
        one(self.ask(1, Way::Once, |_, _| call.clone()).await)
    }
}

fn one(mut answers: Vec<Result<Value, Failure>>) -> Result<Value, Failure> {
    answers.pop().unwrap_or_else(|| Err(Failure::unknown("no answer")))
}

/// Eight characters that no other node has.
fn new_name() -> Arc<str> {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut random: u64 = rand::random();
    let name = (0..8).map(|_| {
        let at = usize::try_from(random & 31).unwrap_or_default();
        random >>= 5;
        char::from(ALPHABET[at])
    });
    name.collect::<String>().into()
}

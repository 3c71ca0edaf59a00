//! [`Faults`]: what tests can have go wrong in an [`InProcess`](crate::InProcess) backplane.

use std::collections::HashSet;
use std::fmt;
use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::sleep;

use crate::backplane::Signal;
use crate::log::LogError;
use crate::task::spawn;

type OnPush<U> = Arc<dyn Fn(&Signal<U>) -> Push + Send + Sync>;
type OnCall = Arc<dyn Fn(Call) -> Answer + Send + Sync>;

/// What goes wrong in an [`InProcess`](crate::InProcess) backplane: nothing, unless a test asks for it.
///
/// ```
/// use ws_hub::{Answer, Call, InProcess, Push};
///
/// let node = InProcess::<u64>::new();
/// node.faults().on_push(|_| Push::Lose);
/// node.faults().on_call(|call| if call == Call::Login { Answer::Refuse } else { Answer::Normal });
/// node.faults().clear();
/// ```
pub struct Faults<U> {
    any: AtomicBool,
    asked: Mutex<Asked<U>>,
}

struct Asked<U> {
    push: Option<OnPush<U>>,
    call: Option<OnCall>,
    /// Nodes whose lease has ended.
    dead: HashSet<usize>,
}

/// What happens to a signal on its way to a node.
///
/// ```
/// assert_ne!(ws_hub::Push::Deliver, ws_hub::Push::Lose);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    /// It arrives.
    Deliver,
    /// It does not.
    Lose,
    /// It arrives twice.
    Repeat,
    /// It arrives later.
    Delay(Duration),
}

/// A call of a backplane.
///
/// ```
/// assert_ne!(ws_hub::Call::Append, ws_hub::Call::Read);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "they are named as the methods of the backplane")]
pub enum Call {
    Append,
    Read,
    Acknowledge,
    Login,
    Logout,
    Reassert,
    Close,
    Publish,
    Connections,
    Online,
}

/// How a call of a backplane is answered.
///
/// ```
/// assert_ne!(ws_hub::Answer::Normal, ws_hub::Answer::Hang);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// As it should be.
    Normal,
    /// It is done, a moment later.
    Slow(Duration),
    /// It is refused: nothing is done.
    Refuse,
    /// It is done, and the answer is lost.
    Forget,
    /// It is done, and never answered.
    Hang,
    /// It panics.
    Panic,
}

impl<U> Default for Faults<U> {
    fn default() -> Self {
        let asked = Asked { push: None, call: None, dead: HashSet::new() };
        Self { any: AtomicBool::new(false), asked: Mutex::new(asked) }
    }
}

impl<U> Faults<U> {
    /// Decides what happens to each signal.
    pub fn on_push(&self, decide: impl Fn(&Signal<U>) -> Push + Send + Sync + 'static) {
        self.change(|asked| asked.push = Some(Arc::new(decide)));
    }

    /// Decides how each call is answered.
    pub fn on_call(&self, decide: impl Fn(Call) -> Answer + Send + Sync + 'static) {
        self.change(|asked| asked.call = Some(Arc::new(decide)));
    }

    /// Nothing goes wrong any more; nodes whose lease has ended stay so.
    pub fn clear(&self) {
        self.change(|asked| (asked.push, asked.call) = (None, None));
    }

    pub(crate) fn set_dead(&self, node: usize, is_dead: bool) {
        self.change(|asked| {
            if is_dead {
                asked.dead.insert(node);
            } else {
                asked.dead.remove(&node);
            }
        });
    }

    /// Whether anything may go wrong.
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    fn asked(&self) -> MutexGuard<'_, Asked<U>> {
        // each use leaves it whole
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Asked<U>)) {
        let mut asked = self.asked();
        change(&mut asked);
        let any = asked.push.is_some() || asked.call.is_some() || !asked.dead.is_empty();
        self.any.store(any, Ordering::Relaxed);
    }

    /// Hands a signal on, or not.
    pub(crate) fn push(&self, signal: Signal<U>, deliver: impl Fn(Signal<U>) + Send + 'static)
    where
        U: Clone + Send + 'static,
    {
        let decide = if self.any() { self.asked().push.clone() } else { None };
        match decide.map_or(Push::Deliver, |decide| decide(&signal)) {
            Push::Deliver => deliver(signal),
            Push::Lose => {}
            Push::Repeat => {
                deliver(signal.clone());
                deliver(signal);
            }
            Push::Delay(time) => {
                spawn(async move {
                    sleep(time).await;
                    deliver(signal);
                });
            }
        }
    }

    /// Does what a call asks for, and answers, or not.
    pub(crate) async fn call<T>(
        &self,
        node: usize,
        call: Call,
        work: impl Future<Output = Result<T, LogError>>,
    ) -> Result<T, LogError> {
        if !self.any() {
            return work.await;
        }
        let work = async {
            // also if that happened while the call was on its way
            if self.asked().dead.contains(&node) {
                return Err(LogError::refused("the lease of this node has ended"));
            }
            work.await
        };
        let decide = self.asked().call.clone();
        match decide.map_or(Answer::Normal, |decide| decide(call)) {
            Answer::Normal => work.await,
            Answer::Slow(time) => {
                sleep(time).await;
                let result = work.await;
                sleep(time).await;
                result
            }
            Answer::Refuse => Err(LogError::refused("out of order")),
            Answer::Forget => {
                let _ = work.await;
                Err(LogError::unknown("the answer was lost"))
            }
            Answer::Hang => {
                let _ = work.await;
                pending().await
            }
            Answer::Panic => panic!("the backplane panics, as it was told to"),
        }
    }
}

impl<U> fmt::Debug for Faults<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").field("any", &self.any()).finish_non_exhaustive()
    }
}

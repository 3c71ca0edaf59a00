//! [`Connections`]: the live connections of a layer, how many there may be, and how they end at a deploy.

use std::sync::atomic::Ordering;
#[cfg(not(all(test, shuttle)))]
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, PoisonError};
#[cfg(not(all(test, shuttle)))]
use std::sync::{Mutex, MutexGuard};
use std::task::{Poll, Waker};
use std::time::Duration;

use rand::RngExt as _;
#[cfg(all(test, shuttle))]
use shuttle::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
#[cfg(all(test, shuttle))]
use shuttle::sync::{Mutex, MutexGuard};
use slab::Slab;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::close::{CloseCode, CloseFrame, InvalidClose};
use crate::error::expect_valid;

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
/// assert_eq!(drained.aborted, 0);
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Connections {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// `usize::MAX` for no limit.
    limit: AtomicUsize,
    /// Slots taken: open connections, and handshakes under way.
    open: AtomicUsize,
    draining: AtomicBool,
    /// The deadline of a drain is past. Set and read with `tasks` locked.
    aborted: AtomicBool,
    /// Told to those who are refused, as an upper bound in seconds.
    retry_after: AtomicU64,
    /// Raised with every signal, so that a connection looks into the table only when there may be one for it.
    epoch: AtomicU32,
    tasks: Mutex<Slab<Task>>,
    changed: Notify,
}

/// A connection's task: how to reach it.
#[derive(Debug, Default)]
struct Task {
    waker: Option<Waker>,
    told: Told,
}

/// What a drain has told a connection.
#[derive(Debug, Default)]
enum Told {
    #[default]
    Nothing,
    /// It has not heard it yet.
    Signal(Signal),
    Heard,
}

/// What a drain asks of a connection.
#[derive(Clone, Debug)]
pub(crate) enum Signal {
    /// Close with this frame.
    Close(Box<CloseFrame>),
    /// End now; the handler's future is dropped.
    Abort,
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
            draining: AtomicBool::new(false),
            aborted: AtomicBool::new(false),
            retry_after: AtomicU64::new(5),
            epoch: AtomicU32::new(0),
            tasks: Mutex::default(),
            changed: Notify::new(),
        }
    }
}

impl Inner {
    fn tasks(&self) -> MutexGuard<'_, Slab<Task>> {
        // a panic while it was held left the slab whole: each use is one call on it
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something has changed that a drain waits for. One that has not begun by now sees it when it looks: it says that it
    /// begins first, then it looks.
    fn tell_drain(&self) {
        if self.draining.load(Ordering::SeqCst) {
            self.changed.notify_waiters();
        }
    }

    /// Signals are in the table, which is locked. Whoever leaves his waker there after that has to see that there are.
    fn raise(&self, tasks: MutexGuard<'_, Slab<Task>>, wakers: Vec<Waker>) {
        self.epoch.fetch_add(1, Ordering::Release);
        drop(tasks);
        for waker in wakers {
            waker.wake();
        }
    }
}

impl Connections {
    /// How many there are: open connections, and handshakes that were accepted and are under way.
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

    /// Changes how many there may be, for the handshakes to come; `None` for no limit.
    pub fn set_max_connections(&self, limit: impl Into<Option<usize>>) {
        self.inner.limit.store(limit.into().unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    /// Whether a [`drain`](Self::drain) has begun: every further handshake is refused with 503.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.inner.draining.load(Ordering::SeqCst)
    }

    /// Ends all connections: refuses new handshakes, closes the open ones in batches, waits until they are over and
    /// their handlers have returned, and at the deadline drops what is left.
    ///
    /// There is no way back: the layer refuses handshakes from the first poll on.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, new handshakes stay refused, what was told to close closes, and a further call goes
    /// on with the rest.
    pub async fn drain(&self, drain: Drain) -> Drained {
        let inner = &self.inner;
        if let Some(within) = drain.reconnect_within {
            inner.retry_after.store(within.as_secs(), Ordering::Relaxed);
        }
        inner.draining.store(true, Ordering::SeqCst);
        let at_first = self.len();

        let all_over = async {
            loop {
                let changed = inner.changed.notified();
                let left = self.close_batch(&drain);
                if left == 0 && self.is_empty() && inner.tasks().is_empty() {
                    break;
                }
                // those that are still in their handshake show up later, so there is a next look in any case
                if left > 0 {
                    tokio::time::sleep(drain.batch_interval).await;
                } else {
                    changed.await;
                }
            }
        };
        if timeout(drain.timeout, all_over).await.is_ok() {
            return Drained { closed: at_first, aborted: 0 };
        }

        let aborted = self.abort();
        loop {
            let changed = inner.changed.notified();
            if inner.tasks().is_empty() {
                break;
            }
            changed.await;
        }
        Drained { closed: at_first.saturating_sub(aborted), aborted }
    }

    /// Tells one batch to close; returns how many have not been told yet.
    fn close_batch(&self, drain: &Drain) -> usize {
        let mut wakers = Vec::new();
        let mut left = 0;
        let mut tasks = self.inner.tasks();
        for (told, (_, task)) in
            tasks.iter_mut().filter(|(_, task)| matches!(task.told, Told::Nothing)).enumerate()
        {
            if told < drain.batch_size {
                task.told = Told::Signal(Signal::Close(Box::new(drain.close_frame())));
                wakers.extend(task.waker.clone());
            } else {
                left += 1;
            }
        }
        self.inner.raise(tasks, wakers);
        left
    }

    /// Tells all to end now; returns how many there were.
    fn abort(&self) -> usize {
        let mut tasks = self.inner.tasks();
        self.inner.aborted.store(true, Ordering::Relaxed);
        let wakers = tasks
            .iter_mut()
            .filter_map(|(_, task)| {
                task.told = Told::Signal(Signal::Abort);
                task.waker.clone()
            })
            .collect();
        let aborted = tasks.len();
        self.inner.raise(tasks, wakers);
        aborted
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
        let slot = Slot { inner: Arc::clone(&self.inner), is_taken: true };
        // a drain that began in between did not count this one
        if self.is_draining() { Err(NoSlot::Draining) } else { Ok(slot) }
    }

    /// Seconds after which one who was refused may come back: random, so that not all come at once.
    pub(crate) fn retry_after(&self) -> u64 {
        rand::rng().random_range(1..=self.inner.retry_after.load(Ordering::Relaxed).max(1))
    }
}

/// One of the connections that there may be; free again when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    inner: Arc<Inner>,
    is_taken: bool,
}

impl Slot {
    /// Makes the task of the connection known to a drain.
    pub(crate) fn register(self) -> Registration {
        let mut tasks = self.inner.tasks();
        let aborted = self.inner.aborted.load(Ordering::Relaxed);
        let told = if aborted { Told::Signal(Signal::Abort) } else { Told::Nothing };
        let key = tasks.insert(Task { waker: None, told });
        drop(tasks);
        // it may have missed the signals of a drain, but the drain sees it at its next look
        self.inner.tell_drain();
        Registration { slot: self, key, epoch: 0 }
    }

    fn release(&mut self) {
        if std::mem::take(&mut self.is_taken) {
            self.inner.open.fetch_sub(1, Ordering::SeqCst);
            self.inner.tell_drain();
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
    slot: Slot,
    key: usize,
    epoch: u32,
}

impl Registration {
    /// Whom to wake for a signal.
    pub(crate) fn set_waker(&self, waker: &Waker) {
        if let Some(task) = self.slot.inner.tasks().get_mut(self.key) {
            task.waker = Some(waker.clone());
        }
    }

    /// The signal that has come since the last call.
    pub(crate) fn take_signal(&mut self) -> Option<Signal> {
        let inner = &self.slot.inner;
        let epoch = inner.epoch.load(Ordering::Acquire);
        if epoch == self.epoch {
            return None;
        }
        self.epoch = epoch;
        let mut tasks = inner.tasks();
        let told = &mut tasks.get_mut(self.key)?.told;
        match std::mem::replace(told, Told::Heard) {
            Told::Signal(signal) => Some(signal),
            unchanged => {
                *told = unchanged;
                None
            }
        }
    }

    /// Ready when the connection is to end at once. Until then `waker` is woken for each signal. Signals other than
    /// [`Signal::Abort`] stay for [`take_signal`](Self::take_signal).
    pub(crate) fn poll_aborted(&self, waker: &Waker) -> Poll<()> {
        let mut tasks = self.slot.inner.tasks();
        let Some(task) = tasks.get_mut(self.key) else { return Poll::Pending };
        task.waker = Some(waker.clone());
        if matches!(task.told, Told::Signal(Signal::Abort)) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The connection is over: its slot is free, while its handler may still run.
    pub(crate) fn release_slot(&mut self) {
        self.slot.release();
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.slot.inner.tasks().try_remove(self.key);
        self.slot.release();
        self.slot.inner.tell_drain();
    }
}

/// How [`Connections::drain`] goes about it.
///
/// ```
/// use std::time::Duration;
/// use ws_core::{CloseCode, Drain};
///
/// let drain = Drain::new()
///     .code(CloseCode::SERVICE_RESTART)
///     .reconnect_within(Duration::from_secs(30))
///     .timeout(Duration::from_secs(20));
/// ```
///
/// # Draining other connections by the same settings
///
/// A program that closes connections by itself, such as those in a registry of its own, reads the settings back:
///
/// ```
/// use ws_core::{Drain, Sender};
///
/// async fn close_all(senders: &[Sender], drain: &Drain) {
///     for batch in senders.chunks(drain.batch_size()) {
///         for sender in batch.iter().cloned() {
///             let frame = drain.close_frame();
///             tokio::spawn(async move { sender.close_with(frame).await });
///         }
///         tokio::time::sleep(drain.batch_interval()).await;
///     }
/// }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a `Drain` says how; `Connections::drain` does it"]
pub struct Drain {
    code: CloseCode,
    timeout: Duration,
    batch_size: usize,
    batch_interval: Duration,
    reconnect_within: Option<Duration>,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            code: CloseCode::GOING_AWAY,
            timeout: Duration::from_secs(10),
            batch_size: 1_000,
            batch_interval: Duration::from_millis(100),
            reconnect_within: None,
        }
    }
}

impl Drain {
    /// Close code 1001, batches of 1,000 every 100 ms, a timeout of 10 s, no hint when to reconnect.
    pub fn new() -> Self {
        Self::default()
    }

    /// The code of the Close frame. Default 1001 (going away); 1012 (service restart) tells a client to come back.
    ///
    /// # Panics
    ///
    /// If the code [may not be sent](CloseCode::is_sendable). [`try_code`](Self::try_code) returns an error instead.
    #[track_caller]
    pub fn code(self, code: impl Into<CloseCode>) -> Self {
        expect_valid(self.try_code(code))
    }

    /// As [`code`](Self::code), for a code that comes from outside of the program.
    ///
    /// # Errors
    ///
    /// If the code may not be sent.
    pub fn try_code(mut self, code: impl Into<CloseCode>) -> Result<Self, InvalidClose> {
        let code = code.into();
        CloseFrame::new(code, "").check()?;
        self.code = code;
        Ok(self)
    }

    /// After how long connections that are not over are dropped, with their handlers' futures. Default 10 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Closes `size` connections at a time, and the next ones after `interval`, so that not all come back in the same
    /// moment. Default 1,000 every 100 ms.
    ///
    /// # Panics
    ///
    /// If `size` is 0.
    #[track_caller]
    pub fn batches(mut self, size: usize, interval: Duration) -> Self {
        assert!(size > 0, "a batch of 0 connections never closes any: use at least 1");
        self.batch_size = size;
        self.batch_interval = interval;
        self
    }

    /// Tells each client a moment of its own within `time` (in whole seconds, at least 1) at which to come back: in
    /// the reason of its Close frame, as `retry-after=7`, and in the `Retry-After` of the handshakes that are refused.
    pub fn reconnect_within(mut self, time: Duration) -> Self {
        self.reconnect_within = Some(time);
        self
    }

    /// The [`timeout`](Self::timeout) that was set, for a server that also waits for what is not a WebSocket.
    #[must_use]
    pub fn get_timeout(&self) -> Duration {
        self.timeout
    }

    /// How many connections are closed at a time.
    #[must_use]
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// How long after a batch the next one follows.
    #[must_use]
    pub fn batch_interval(&self) -> Duration {
        self.batch_interval
    }

    /// The Close frame for one connection: the code, and if there is a time to [come back
    /// within](Self::reconnect_within), a moment in it. Each call picks a moment of its own, so call it for each
    /// connection.
    ///
    /// ```
    /// use std::time::Duration;
    /// use ws_core::Drain;
    ///
    /// let drain = Drain::new().reconnect_within(Duration::from_secs(30));
    /// let frame = drain.close_frame();
    /// assert_eq!(u16::from(frame.code), 1001);
    /// assert!(frame.reason.starts_with("retry-after="));
    /// ```
    #[must_use]
    pub fn close_frame(&self) -> CloseFrame {
        match self.reconnect_within {
            None => CloseFrame::new(self.code, ""),
            Some(time) => {
                let seconds = rand::rng().random_range(1..=time.as_secs().max(1));
                CloseFrame::new(self.code, format!("retry-after={seconds}"))
            }
        }
    }
}

/// What [`Connections::drain`] did.
///
/// ```no_run
/// # async fn f(connections: ws_core::Connections) {
/// let drained = connections.drain(ws_core::Drain::new()).await;
/// println!("{} closed, {} dropped at the deadline", drained.closed, drained.aborted);
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// Connections that closed in time.
    pub closed: usize,
    /// Connections, or handlers of connections, that were dropped at the deadline.
    pub aborted: usize,
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

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

    #[tokio::test(start_paused = true)]
    async fn a_drain_tells_in_batches_and_waits_for_tasks() {
        let connections = Connections::default();
        let mut tasks: Vec<_> = (0..5).map(|_| connections.acquire().unwrap().register()).collect();
        let start = Instant::now();
        let drain = tokio::spawn({
            let connections = connections.clone();
            async move { connections.drain(Drain::new().batches(2, Duration::from_secs(1))).await }
        });
        let mut told = Vec::new();
        while !tasks.is_empty() {
            tokio::time::sleep(Duration::from_millis(500)).await;
            tasks.retain_mut(|task| match task.take_signal() {
                Some(Signal::Close(frame)) => {
                    assert_eq!(frame.code, CloseCode::GOING_AWAY);
                    told.push(start.elapsed().as_millis());
                    false
                }
                Some(Signal::Abort) => panic!("aborted before the deadline"),
                None => true,
            });
        }
        assert_eq!(told, [500, 500, 1500, 1500, 2500]);
        assert_eq!(drain.await.unwrap(), Drained { closed: 5, aborted: 0 });
        assert_eq!(connections.acquire().unwrap_err(), NoSlot::Draining);
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_aborts_what_is_left_at_its_deadline() {
        let connections = Connections::default();
        let mut task = connections.acquire().unwrap().register();
        let start = Instant::now();
        let deaf = tokio::spawn(async move {
            loop {
                if let Some(Signal::Abort) = task.take_signal() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        let drained = connections.drain(Drain::new().timeout(Duration::from_secs(3))).await;
        assert_eq!(drained, Drained { closed: 0, aborted: 1 });
        assert!(start.elapsed() < Duration::from_secs(4));
        deaf.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_outlasts_a_drain_comes_to_nothing() {
        let connections = Connections::default();
        let slot = connections.acquire().unwrap();
        connections.drain(Drain::new().timeout(Duration::from_secs(3))).await;
        let mut task = slot.register();
        assert!(task.poll_aborted(Waker::noop()).is_ready());
        assert!(matches!(task.take_signal(), Some(Signal::Abort)));
    }

    #[test]
    fn the_reconnect_hint_lies_within_the_time_given() {
        let drain = Drain::new().reconnect_within(Duration::from_secs(3));
        for _ in 0..50 {
            let frame = drain.close_frame();
            assert!(["retry-after=1", "retry-after=2", "retry-after=3"].contains(&frame.reason.as_str()));
        }
    }

    #[test]
    fn each_close_frame_has_a_moment_of_its_own_if_there_is_a_time_to_come_back_within() {
        let drain = Drain::new().reconnect_within(Duration::from_secs(1_000_000));
        let reasons: std::collections::HashSet<_> = (0..50).map(|_| drain.close_frame().reason).collect();
        assert!(reasons.len() > 45, "{}", reasons.len());

        let drain = Drain::new().code(CloseCode::SERVICE_RESTART);
        assert_eq!(drain.close_frame(), CloseFrame::new(CloseCode::SERVICE_RESTART, ""));
    }

    #[test]
    #[should_panic(expected = "close code 1006 may not be sent: use 1000–1003")]
    fn a_code_that_may_not_be_sent_is_refused_when_it_is_set() {
        let _ = Drain::new().code(CloseCode::ABNORMAL_CLOSURE);
    }

    #[test]
    fn a_code_from_outside_that_may_not_be_sent_is_an_error() {
        let error = Drain::new().try_code(1006).unwrap_err();
        assert_eq!(error, InvalidClose::Code(CloseCode::ABNORMAL_CLOSURE));
        assert_eq!(u16::from(Drain::new().try_code(4321).unwrap().close_frame().code), 4321);
    }

    #[test]
    fn the_settings_of_a_drain_can_be_read_back() {
        let drain = Drain::new();
        assert_eq!(drain.get_timeout(), Duration::from_secs(10));
        assert_eq!(drain.timeout(Duration::from_secs(3)).get_timeout(), Duration::from_secs(3));
    }

    #[test]
    fn the_batches_of_a_drain_can_be_asked_for() {
        let drain = Drain::new();
        assert_eq!((drain.batch_size(), drain.batch_interval()), (1_000, Duration::from_millis(100)));
        let drain = drain.batches(7, Duration::from_secs(3));
        assert_eq!((drain.batch_size(), drain.batch_interval()), (7, Duration::from_secs(3)));
    }
}

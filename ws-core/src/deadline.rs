//! Where times that users set meet the clock: [`after`], [`Deadline`] and [`in_time`].
//!
//! A user may set any time; `Duration::MAX` is a time without end. tokio's `sleep` and `timeout` accept it, but
//! `Instant + Duration` panics.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// The moment after `time`. `None` if the clock does not reach it, which is a time without end.
pub(crate) fn after(time: Duration) -> Option<Instant> {
    Instant::now().checked_add(time)
}

/// A time limit that is rarely reached. `None` never ends.
///
/// Differs from a `Sleep` in that it makes its timer only when it is polled.
pub(crate) struct Deadline {
    at: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    pub(crate) fn new(at: Option<Instant>) -> Self {
        Self { at, timer: None }
    }

    /// Whether it is over, without waiting for it.
    pub(crate) fn is_past(&self) -> bool {
        self.at.is_some_and(|at| at <= Instant::now())
    }

    /// Waits until it is over.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        self.timer.get_or_insert_with(|| Box::pin(sleep_until(at))).as_mut().poll(cx)
    }
}

/// The output of `future`; `None` if `time` passes first.
///
/// Differs from tokio's `timeout` in that it holds also when tasks block threads of the runtime. One of them may be the
/// thread that would fire the timers, and tokio does not move that work to another thread until something wakes one. So a
/// thread that is not the runtime's wakes the task when the time has passed.
pub(crate) async fn in_time<F: Future>(time: Duration, future: F) -> Option<F::Output> {
    let mut deadline = Deadline::new(after(time));
    let mut alarm = None;
    let mut future = pin!(future);
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        // the clock decides, which in tests may be a paused one
        if deadline.is_past() {
            return Poll::Ready(None);
        }
        if deadline.at.is_some() {
            alarm.get_or_insert_with(|| Alarm::start(time)).set_waker(cx.waker());
        }
        deadline.poll(cx).map(|()| None)
    })
    .await
}

/// A thread that wakes a task after a time. It ends then, or when this is dropped.
struct Alarm {
    shared: Arc<(Mutex<AlarmState>, Condvar)>,
}

#[derive(Default)]
struct AlarmState {
    waker: Option<Waker>,
    is_dropped: bool,
}

impl Alarm {
    fn start(time: Duration) -> Self {
        let shared = Arc::<(Mutex<AlarmState>, Condvar)>::default();
        let alarm = Self { shared: Arc::clone(&shared) };
        let ring = move || {
            let (state, dropped) = &*shared;
            let state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = dropped.wait_timeout_while(state, time, |state| !state.is_dropped);
            let waker = waited.unwrap_or_else(PoisonError::into_inner).0.waker.take();
            if let Some(waker) = waker {
                waker.wake();
            }
        };
        if let Err(error) = thread::Builder::new().name("ws-deadline".to_owned()).spawn(ring) {
            tracing::debug!(%error, "no thread for a deadline, which the runtime's timer has to keep alone");
        }
        alarm
    }

    fn set_waker(&self, waker: &Waker) {
        let waker = waker.clone();
        let before = self.lock(|state| state.waker.replace(waker));
        drop(before);
    }

    fn lock<T>(&self, change: impl FnOnce(&mut AlarmState) -> T) -> T {
        change(&mut self.shared.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let waker = self.lock(|state| {
            state.is_dropped = true;
            state.waker.take()
        });
        drop(waker);
        self.shared.1.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::task::Wake;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_endless_time_never_passes() {
        assert_eq!(after(Duration::MAX), None);
        assert!(!Deadline::new(after(Duration::MAX)).is_past());
        assert_eq!(in_time(Duration::MAX, ready(1)).await, Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn time_is_that_of_the_clock_of_the_runtime() {
        let start = Instant::now();
        let hour = Duration::from_secs(3600);
        assert_eq!(in_time(hour, pending::<()>()).await, None);
        assert_eq!(in_time(Duration::ZERO, pending::<()>()).await, None);
        assert!((hour..hour * 2).contains(&start.elapsed()));
    }

    /// Wakes a thread.
    struct Unpark(thread::Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    #[test]
    fn time_passes_though_nothing_fires_the_timers_of_the_runtime() {
        // nobody drives it, as if its threads were blocked
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _entered = runtime.enter();
        let mut ended = pin!(in_time(Duration::from_millis(10), pending::<()>()));
        let waker = Arc::new(Unpark(thread::current())).into();
        let begun = std::time::Instant::now();
        while ended.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            thread::park_timeout(Duration::from_secs(20));
            assert!(begun.elapsed() < Duration::from_secs(20), "nothing has woken the task");
        }
    }
}

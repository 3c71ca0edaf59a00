//! [`Connections::drain`], and its result, [`Drained`].

use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::sleep;

use super::connections::Connections;
use super::settings::Drain;
use super::table::Counts;
use crate::deadline;

/// How long after the deadline a drain waits for tasks that it has told to end, from when the last of them has gone. It
/// is what a busy scheduler needs to run a task.
const GRACE: Duration = Duration::from_millis(250);
/// How many times [`GRACE`] is waited while tasks still go: in all 1 s.
const GRACES: usize = 4;

impl Connections {
    /// Ends all connections: refuses new handshakes, closes the open connections in batches, waits until they are over
    /// and their handlers have returned, and at the deadline drops those that are left.
    ///
    /// It returns when all are gone, and in any case within a second after the deadline. What could not be dropped in that
    /// time is counted as [`Drained::remaining`], and logged as a warning. Connections that come of handshakes under way
    /// are told to close at once, and after the deadline are dropped.
    ///
    /// There is no way back: the layer refuses handshakes from the first poll on. Several drains may run at once: each
    /// one tells the connections that no other has told, and the earliest deadline counts for all.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, new handshakes stay refused, connections that were told to close do so, and a further
    /// call tells the others.
    pub async fn drain(&self, drain: Drain) -> Drained {
        let inner = &self.inner;
        if let Some(most) = drain.most_retry_after() {
            inner.retry_after.store(most, Ordering::Relaxed);
        }
        inner.draining.store(true, Ordering::SeqCst);
        let before = inner.table.begin(&drain);

        let mut closing = pin!(self.close_in_batches(&drain));
        let mut over = pin!(self.until(|tasks, handshakes| tasks == 0 && handshakes == 0));
        let all = poll_fn(|cx| {
            let _never_ready = closing.as_mut().poll(cx);
            over.as_mut().poll(cx)
        });
        if drain.in_time(all).await.is_none() {
            inner.table.abort();
            self.until_aborted().await;
        }

        let (tasks, counts, handshakes) = self.look();
        let remaining = tasks + handshakes;
        if remaining > 0 {
            tracing::warn!(tasks, handshakes, "connections are left after the deadline of a drain");
        }
        Drained { closed: counts.closed - before.closed, aborted: counts.aborted - before.aborted, remaining }
    }

    /// Tells all connections to close, a batch at a time.
    async fn close_in_batches(&self, drain: &Drain) -> Infallible {
        while self.inner.table.close_batch(drain) > 0 {
            sleep(drain.batch_interval()).await;
        }
        pending().await
    }

    /// Waits for the tasks that were told to end, as long as some of them do.
    async fn until_aborted(&self) {
        let (mut left, ..) = self.look();
        for _ in 0..GRACES {
            let gone = deadline::in_time(GRACE, self.until(|tasks, _| tasks == 0)).await.is_some();
            let (tasks, ..) = self.look();
            if gone || tasks >= left {
                return;
            }
            left = tasks;
        }
    }

    /// Waits until `done` of the number of tasks and of handshakes, one of which is 0 then.
    async fn until(&self, done: impl Fn(usize, usize) -> bool) {
        loop {
            let changed = self.inner.changed.notified();
            let (tasks, _, handshakes) = self.look();
            if done(tasks, handshakes) {
                return;
            }
            changed.await;
        }
    }

    /// How many tasks there are, how many have ended, and how many handshakes there are.
    fn look(&self) -> (usize, Counts, usize) {
        self.inner.table.look(|| self.inner.handshakes.load(Ordering::SeqCst))
    }
}

/// What [`Connections::drain`] did.
///
/// ```no_run
/// # async fn f(connections: ws_core::Connections) {
/// let drained = connections.drain(ws_core::Drain::new()).await;
/// println!("{} closed, {} dropped at the deadline", drained.closed, drained.aborted);
/// if drained.remaining > 0 {
///     println!("{} are still there", drained.remaining);
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// Connections that were over in time, with their handlers.
    pub closed: usize,
    /// Connections, or handlers of connections that were over, that were told to end at the deadline: at once, without a
    /// closing handshake. All of them are gone but for [`remaining`](Self::remaining).
    pub aborted: usize,
    /// What was still there when the drain returned, because it cannot be dropped from outside:
    ///
    /// - A handler that blocks its thread. It is dropped when it comes to its next `.await`. Move blocking work to
    ///   `tokio::task::spawn_blocking`.
    /// - A handshake whose service has not answered. It ends with the service's future, which the HTTP server drops, or
    ///   at the handshake timeout.
    /// - A [`WebSocketUpgrade`](crate::WebSocketUpgrade) that code keeps, and neither uses nor drops.
    ///
    /// None of them becomes an open connection later. A tokio runtime that is dropped waits for threads that block, so a
    /// process that has to end in time calls `Runtime::shutdown_timeout` or `std::process::exit`.
    pub remaining: usize,
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::time::Instant;

    use super::super::slot::NoSlot;
    use super::super::table::Signal;
    use super::*;
    use crate::close::CloseCode;

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
        assert_eq!(drain.await.unwrap(), Drained { closed: 5, aborted: 0, remaining: 0 });
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
        assert_eq!(drained, Drained { closed: 0, aborted: 1, remaining: 0 });
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

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_react_is_left_soon_after_the_deadline() {
        let connections = Connections::default();
        let mut deaf = connections.acquire().unwrap().register();
        let start = Instant::now();
        let drained = connections.drain(Drain::new().timeout(Duration::from_secs(3))).await;
        assert_eq!(drained, Drained { closed: 0, aborted: 1, remaining: 1 });
        assert!(start.elapsed() <= Duration::from_secs(4), "{:?}", start.elapsed());

        // it is not counted again, and a further drain waits for it
        let again = tokio::spawn({
            let connections = connections.clone();
            async move { connections.drain(Drain::new()).await }
        });
        tokio::task::yield_now().await;
        assert!(matches!(deaf.take_signal(), Some(Signal::Abort)));
        drop(deaf);
        assert_eq!(again.await.unwrap(), Drained { closed: 0, aborted: 0, remaining: 0 });
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_that_go_one_after_the_other_are_waited_for_and_not_for_ever() {
        for (pause, left) in [(200, 0), (600, 2)] {
            let connections = Connections::default();
            let tasks: Vec<_> = (0..3).map(|_| connections.acquire().unwrap().register()).collect();
            let slow = tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(3)).await;
                for task in tasks {
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                    drop(task);
                }
            });
            let start = Instant::now();
            let drained = connections.drain(Drain::new().timeout(Duration::from_secs(3))).await;
            assert_eq!((drained.aborted, drained.remaining > 0), (3, left > 0), "{drained:?}");
            assert!(start.elapsed() <= Duration::from_secs(4), "{:?}", start.elapsed());
            slow.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_is_kept_is_left_at_the_deadline() {
        let connections = Connections::default();
        let kept = connections.acquire().unwrap();
        let start = Instant::now();
        let drained = connections.drain(Drain::new().timeout(Duration::from_secs(3))).await;
        assert_eq!(drained, Drained { closed: 0, aborted: 0, remaining: 1 });
        assert_eq!(start.elapsed().as_secs(), 3);
        drop(kept);
        assert_eq!(connections.drain(Drain::new()).await.remaining, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_ends_during_a_drain_ends_it() {
        let connections = Connections::default();
        let slot = connections.acquire().unwrap();
        let start = Instant::now();
        let (drained, ()) = tokio::join!(connections.drain(Drain::new()), async { drop(slot) });
        assert_eq!(drained, Drained { closed: 0, aborted: 0, remaining: 0 });
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_opens_during_a_drain_is_told_at_once() {
        let connections = Connections::default();
        let slot = connections.acquire().unwrap();
        let drain = Drain::new().batches(1, Duration::MAX).timeout(Duration::MAX);
        let (drained, ()) = tokio::join!(connections.drain(drain), async {
            let mut task = slot.register();
            assert!(matches!(task.take_signal(), Some(Signal::Close(_))));
            assert!(task.take_signal().is_none());
        });
        assert_eq!(drained, Drained { closed: 1, aborted: 0, remaining: 0 });
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_deadline_of_two_drains_counts_and_both_say_what_happened() {
        let connections = Connections::default();
        let mut closes = connections.acquire().unwrap().register();
        let mut stays = connections.acquire().unwrap().register();
        let tasks = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(matches!(closes.take_signal(), Some(Signal::Close(_))));
            drop(closes);
            assert!(matches!(stays.take_signal(), Some(Signal::Close(_))));
            while stays.take_signal().is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            drop(stays);
        };
        let (early, late) = (Drain::new().timeout(Duration::from_secs(3)), Drain::new());
        let start = Instant::now();
        let (late, early, ()) = tokio::join!(connections.drain(late), connections.drain(early), tasks);
        assert_eq!(early, Drained { closed: 1, aborted: 1, remaining: 0 });
        assert_eq!(late, early);
        assert_eq!(start.elapsed().as_secs(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_counts_connections_whose_handlers_outlast_them() {
        let connections = Connections::default();
        let mut tasks: Vec<_> = (0..3).map(|_| connections.acquire().unwrap().register()).collect();
        for task in &mut tasks {
            task.release_slot();
        }
        let handler = tasks.pop();
        let deadline = Duration::from_secs(3);
        let (drained, ()) = tokio::join!(connections.drain(Drain::new().timeout(deadline)), async {
            drop(tasks);
            tokio::time::sleep(deadline + Duration::from_millis(100)).await;
            drop(handler);
        });
        assert_eq!(drained, Drained { closed: 2, aborted: 1, remaining: 0 });
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_is_over_when_all_are_gone_however_long_a_batch_takes() {
        for interval in [Duration::ZERO, Duration::from_secs(3600), Duration::MAX] {
            let connections = Connections::default();
            let tasks: Vec<_> = (0..3).map(|_| connections.acquire().unwrap().register()).collect();
            let start = Instant::now();
            let drain = Drain::new().batches(1, interval).timeout(Duration::MAX);
            let (drained, ()) = tokio::join!(connections.drain(drain), async { drop(tasks) });
            assert_eq!(drained, Drained { closed: 3, aborted: 0, remaining: 0 });
            assert_eq!(start.elapsed(), Duration::ZERO);
        }
    }
}

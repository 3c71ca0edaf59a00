//! [`Neighbours`]: well-behaved connections of the server under attack, and how long their echoes take.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};
use ws_tests::{Client, Endpoint, Frame};

/// How many there are.
pub(crate) const COUNT: usize = 2;

/// The time between an echo and the next message.
const PACE: Duration = Duration::from_millis(2);

/// They have a thread of their own, so that the attackers' work is not in their figures.
#[derive(Debug)]
pub(crate) struct Neighbours {
    times: Arc<Mutex<Vec<Duration>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Neighbours {
    pub(crate) fn start(server: Endpoint) -> Self {
        let times = Arc::<Mutex<Vec<_>>>::default();
        let stop = Arc::<AtomicBool>::default();
        let thread = thread::spawn({
            let (times, stop) = (Arc::clone(&times), Arc::clone(&stop));
            move || {
                ws_tests::runtime::run_on_one_thread(async {
                    join_all((0..COUNT).map(|_| echo(server, &times, &stop))).await;
                });
            }
        });
        Self { times, stop, thread: Some(thread) }
    }

    /// How many echoes there have been.
    pub(crate) fn echoes(&self) -> usize {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// How long the echoes took that came after so many others.
    pub(crate) fn since(&self, echoes: usize) -> Times {
        let lives = self.thread.as_ref().is_some_and(|thread| !thread.is_finished());
        assert!(lives, "a well-behaved connection has failed");
        let mut times = Times::default();
        times.add(&self.times.lock().unwrap_or_else(PoisonError::into_inner)[echoes..]);
        times
    }

    /// Ends them in order.
    pub(crate) fn stop(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let thread = self.thread.take().expect("they are stopped once");
        thread.join().expect("a well-behaved connection ends in order");
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

async fn echo(server: Endpoint, times: &Mutex<Vec<Duration>>, stop: &AtomicBool) {
    let mut client = Client::open(server).await;
    client.write(Frame::text("echo")).await;
    while !stop.load(Ordering::SeqCst) {
        let start = Instant::now();
        client.write(Frame::text("there?")).await;
        assert_eq!(client.frame_but_ping().await, Frame::text("there?"));
        times.lock().unwrap_or_else(PoisonError::into_inner).push(start.elapsed());
        sleep(PACE).await;
    }
    client.close().await;
}

/// Times in order, shortest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    fn add(&mut self, times: &[Duration]) {
        self.0.extend(times);
        self.0.sort_unstable();
    }

    /// These and `others`.
    pub(crate) fn append(&mut self, others: &Self) {
        self.add(&others.0);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn max(&self) -> Duration {
        self.percentile(100)
    }

    /// The least time of the longest, which together are half of all the time. Of those who wait for an echo at any one
    /// moment, half wait that long: the few that are held up for long count for more than the many in between.
    pub(crate) fn longest_half(&self) -> Duration {
        let half = self.0.iter().sum::<Duration>() / 2;
        let mut sum = Duration::ZERO;
        let longest = self.0.iter().rev().find(|time| {
            sum += **time;
            sum >= half
        });
        longest.copied().unwrap_or_default()
    }

    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        self.0[(self.0.len() * percent / 100).min(self.0.len() - 1)]
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, max] = [50, 99, 100].map(|percent| self.percentile(percent).as_secs_f64() * 1_000.0);
        write!(f, "{p50:.1}/{p99:.1}/{max:.1} ms")
    }
}

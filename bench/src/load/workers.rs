//! The threads of the load generator.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use tokio::{
    runtime::{Builder, Handle},
    sync::{mpsc, oneshot},
    time::timeout,
};

/// What one thread counts; on a cache line of its own.
#[repr(align(128))]
pub(crate) struct Meter {
    messages: AtomicU64,
    pings: AtomicU64,
    /// Latencies in nanoseconds, while they are asked for.
    latencies: Mutex<Histogram<u64>>,
    timing: AtomicBool,
}

impl Meter {
    fn new() -> Result<Self> {
        let latencies = Mutex::new(Histogram::new_with_bounds(1_000, 60_000_000_000, 2)?);
        Ok(Self {
            messages: AtomicU64::new(0),
            pings: AtomicU64::new(0),
            latencies,
            timing: AtomicBool::new(false),
        })
    }

    pub(crate) fn count(&self, messages: usize) {
        self.messages.fetch_add(messages as u64, Relaxed);
    }

    pub(crate) fn count_pings(&self, pings: usize) {
        self.pings.fetch_add(pings as u64, Relaxed);
    }

    /// Notes that each of `times` messages took `latency`.
    pub(crate) fn time(&self, latency: Duration, times: usize) {
        if self.timing.load(Relaxed) {
            let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
            let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
            latencies.saturating_record_n(nanoseconds, times as u64);
        }
    }
}

struct Worker {
    runtime: Handle,
    meter: Arc<Meter>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Threads with a runtime each: a connection stays on its thread, and no thread wakes another. When they are dropped,
/// their tasks and connections end.
pub(crate) struct Workers {
    all: Vec<Worker>,
    failure: mpsc::Sender<anyhow::Error>,
    failures: mpsc::Receiver<anyhow::Error>,
}

impl Workers {
    pub(crate) fn start(threads: usize) -> Result<Self> {
        let (failure, failures) = mpsc::channel(1);
        let all = (0..threads).map(|_| start_worker()).collect::<Result<_>>()?;
        Ok(Self { all, failure, failures })
    }

    /// Starts a task on the thread in turn of `number`. What it fails with is what [`watch`](Self::watch) fails with.
    pub(crate) fn spawn<F>(&self, number: usize, task: impl FnOnce(Arc<Meter>) -> F)
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let worker = &self.all[number % self.all.len()];
        let task = task(Arc::clone(&worker.meter));
        let failure = self.failure.clone();
        worker.runtime.spawn(async move {
            if let Err(error) = task.await {
                // the first one is told
                let _ = failure.try_send(error);
            }
        });
    }

    /// Waits for `future`, but not longer than `limit`, nor after a task has failed.
    pub(crate) async fn watch<T>(
        &mut self,
        what: &str,
        limit: Duration,
        future: impl Future<Output = T>,
    ) -> Result<T> {
        let failed = async {
            match self.failures.recv().await {
                Some(error) => error,
                // not while `self.failure` is there
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            error = failed => Err(error.context(format!("{what} failed"))),
            result = timeout(limit, future) => result.with_context(|| format!("{what} took longer than {limit:?}")),
        }
    }

    pub(crate) fn messages(&self) -> u64 {
        self.all.iter().map(|worker| worker.meter.messages.load(Relaxed)).sum()
    }

    pub(crate) fn pings(&self) -> u64 {
        self.all.iter().map(|worker| worker.meter.pings.load(Relaxed)).sum()
    }

    /// Begins to note latencies, or ends it.
    pub(crate) fn set_timing(&self, timing: bool) {
        for worker in &self.all {
            worker.meter.timing.store(timing, Relaxed);
        }
    }

    /// All latencies noted, in nanoseconds.
    pub(crate) fn latencies(&self) -> Result<Histogram<u64>> {
        let mut sum = Histogram::new_with_bounds(1_000, 60_000_000_000, 2)?;
        for worker in &self.all {
            sum.add(&*worker.meter.latencies.lock().unwrap_or_else(PoisonError::into_inner))?;
        }
        Ok(sum)
    }
}

fn start_worker() -> Result<Worker> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::Builder::new().name("load".into()).spawn(move || {
        // an error: the sender is dropped, which is how it is told to stop
        let _ = runtime.block_on(stopped);
    })?;
    Ok(Worker { runtime: handle, meter: Arc::new(Meter::new()?), stop: Some(stop), thread: Some(thread) })
}

/// Whose latency is noted when their answers come: messages that were sent at once.
pub(crate) struct Batches(std::collections::VecDeque<(Instant, usize)>);

impl Batches {
    /// For so many messages in flight.
    pub(crate) fn new(window: usize) -> Self {
        Self(std::collections::VecDeque::with_capacity(window))
    }

    pub(crate) fn sent(&mut self, now: Instant, messages: usize) {
        self.0.push_back((now, messages));
    }

    /// Notes the latency of `messages` answers. Fails if fewer are in flight.
    pub(crate) fn answered(&mut self, now: Instant, mut messages: usize, meter: &Meter) -> Result<()> {
        while messages > 0 {
            let (sent, left) = self.0.front_mut().context("an answer to nothing")?;
            let answered = messages.min(*left);
            meter.time(now - *sent, answered);
            messages -= answered;
            *left -= answered;
            if *left == 0 {
                self.0.pop_front();
            }
        }
        Ok(())
    }
}

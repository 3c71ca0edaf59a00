//! [`Streams`]: how many streams of an HTTP/2 connection are open, and since when none is.

use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::rt::Executor;
use tokio::time::{Instant, sleep, sleep_until};

/// Runs what hyper spawns for an HTTP/2 connection, and counts it: a task for each request until its response is sent, and
/// one for each WebSocket until it ends. For an HTTP/1.1 connection hyper spawns nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Streams(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    open: usize,
    /// When the last one ended; `None` before the first begins.
    ended: Option<Instant>,
}

/// A task that is counted until this is dropped, however it ends.
struct Open(Streams);

impl Streams {
    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn open(&self) -> Open {
        self.with(|state| state.open += 1);
        Open(self.clone())
    }

    /// Ready when there were streams, and then none for so long; `None` for never. Before the first stream it is not ready.
    ///
    /// The timer is set anew when it fires, not when a stream comes or goes.
    pub(super) async fn idle_for(&self, limit: Option<Duration>) {
        let Some(limit) = limit else { return pending().await };
        loop {
            match self.with(|state| state.ended.filter(|_| state.open == 0)) {
                None => sleep(limit).await,
                Some(ended) if ended.elapsed() < limit => sleep_until(ended + limit).await,
                Some(_) => return,
            }
        }
    }
}

impl<F> Executor<F> for Streams
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, future: F) {
        let open = self.open();
        tokio::spawn(async move {
            future.await;
            drop(open);
        });
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.with(|state| {
            state.open -= 1;
            state.ended = Some(Instant::now());
        });
    }
}

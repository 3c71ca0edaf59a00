//! Calls of a log or a backplane: they fail, panic, have no answer, and are tried again.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::log::LogError;

/// How long a call of the log or the backplane may take. After it, it is not known whether it is done.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);

/// How long to wait before what failed is tried again, at first and at most.
pub(crate) const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// How often a node tries to say which logins it has, and which are over.
const TRIES: u32 = 10;

/// How often something is tried, and when. After that, the lease of the node ends what it is about.
pub(crate) struct Tries {
    left: u32,
    backoff: Duration,
}

impl Tries {
    pub(crate) fn new() -> Self {
        Self { left: TRIES, backoff: BACKOFF.0 }
    }

    /// Waits until it is time for the next try. Returns whether there is one.
    pub(crate) async fn again(&mut self) -> bool {
        sleep(self.backoff).await;
        self.backoff = (self.backoff * 2).min(BACKOFF.1);
        self.left -= 1;
        self.left > 0
    }
}

/// What a log or a backplane answers. No answer in time is one more way to fail, and so is a panic.
pub(crate) async fn ask<T>(call: impl AsyncFnOnce() -> Result<T, LogError>) -> Result<T, LogError> {
    within(DEADLINE, call).await
}

/// As [`ask`], with another deadline.
pub(crate) async fn within<T>(
    deadline: Duration,
    call: impl AsyncFnOnce() -> Result<T, LogError>,
) -> Result<T, LogError> {
    let mut call = pin!(async { call().await });
    let mut poll = |cx: &mut Context<'_>| {
        catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx)))
            .unwrap_or_else(|_| Poll::Ready(Err(LogError::unknown("it panicked"))))
    };
    // what answers at once needs no timer, and no runtime that has them
    if let Poll::Ready(answer) = poll_fn(|cx| Poll::Ready(poll(cx))).await {
        return answer;
    }
    timeout(deadline, poll_fn(poll)).await.unwrap_or_else(|_| Err(LogError::unknown("no answer")))
}

/// One error, as the answer to each of a batch.
pub(crate) fn failed_all<T>(error: LogError, count: usize) -> Vec<Result<T, LogError>> {
    let (is_unknown, text) = (error.is_unknown(), error.to_string());
    let again = || if is_unknown { LogError::unknown(text.clone()) } else { LogError::refused(text.clone()) };
    let mut results: Vec<_> = (1..count).map(|_| Err(again())).collect();
    results.push(Err(error));
    results
}

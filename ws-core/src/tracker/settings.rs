//! [`Drain`]: how connections end at a deploy.

use std::future::Future;
use std::time::Duration;

use rand::RngExt as _;

use crate::close::{CloseCode, CloseFrame, InvalidClose};
use crate::deadline;
use crate::error::expect_valid;

/// The longest time that a client is told to wait, in seconds: the longest that a browser's `setTimeout` takes.
const MAX_RETRY_AFTER: u64 = i32::MAX as u64 / 1000;

/// How [`Connections::drain`](crate::Connections::drain) goes about it.
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

    /// After how long connections that are not over are dropped, with their handlers' futures. Default 10 s;
    /// `Duration::MAX` for never.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Closes `size` connections at a time, and the next ones after `interval`, so that not all come back in the same
    /// moment. Default 1,000 every 100 ms. With `Duration::MAX` only the first batch is closed, and the
    /// others are dropped when the timeout is over.
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

    /// Tells each client a moment of its own within `time` at which to come back: in the reason of its Close frame, as
    /// `retry-after=7`, and in the `Retry-After` of the handshakes that are refused. Default no hint.
    ///
    /// It is in whole seconds, at least 1, and at most 24 days, which is the longest that a browser's timer can wait.
    pub fn reconnect_within(mut self, time: Duration) -> Self {
        self.reconnect_within = Some(time);
        self
    }

    /// The [`timeout`](Self::timeout) that was set, for a server that also waits for what is not a WebSocket.
    #[must_use]
    pub fn get_timeout(&self) -> Duration {
        self.timeout
    }

    /// Waits for `future`, at most for the [`timeout`](Self::timeout), which starts with the first poll: for a server that
    /// also waits for what is not a WebSocket. `None` if the timeout is over first.
    ///
    /// Differs from `tokio::time::timeout` in that it ends in time also if handlers block threads of the runtime. One of
    /// these may be the thread that fires the timers, so a thread outside of the runtime watches the time.
    ///
    /// ```
    /// use std::time::Duration;
    /// use ws_core::Drain;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let drain = Drain::new().timeout(Duration::from_millis(10));
    /// assert_eq!(drain.in_time(async { "done" }).await, Some("done"));
    /// assert_eq!(drain.in_time(std::future::pending::<()>()).await, None);
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// As `future`.
    pub async fn in_time<F: Future>(&self, future: F) -> Option<F::Output> {
        deadline::in_time(self.timeout, future).await
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
        match self.most_retry_after() {
            None => CloseFrame::new(self.code, ""),
            Some(most) => {
                let seconds = rand::rng().random_range(1..=most);
                CloseFrame::new(self.code, format!("retry-after={seconds}"))
            }
        }
    }

    /// The latest moment at which a client is told to come back, in seconds.
    pub(super) fn most_retry_after(&self) -> Option<u64> {
        self.reconnect_within.map(|time| time.as_secs().clamp(1, MAX_RETRY_AFTER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endless_time_to_come_back_within_is_a_time_that_clients_can_wait() {
        let frame = Drain::new().reconnect_within(Duration::MAX).close_frame();
        let seconds = frame.reason.as_str().strip_prefix("retry-after=").unwrap().parse::<u64>().unwrap();
        assert!((1..=24 * 24 * 3600 + 3600 * 21).contains(&seconds), "{seconds}");
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

//! The states of a connection that reconnects: [`ReconnectState`] and [`States`], and [`Interruption`], the reason of a change.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use tokio::sync::watch;
use tokio_util::sync::ReusableBoxFuture;

use crate::client::error::ConnectError;
use crate::close::Closed;

/// What a [`ReconnectingWebSocket`](super::ReconnectingWebSocket) is doing.
///
/// ```
/// use ws_core::client::{ReconnectState, ReconnectingWebSocket};
///
/// fn status(socket: &ReconnectingWebSocket) -> String {
///     match socket.state() {
///         ReconnectState::Open => "online".to_owned(),
///         ReconnectState::Waiting { delay, why, .. } => format!("offline ({why}), next attempt in {delay:?}"),
///         ReconnectState::Ended { .. } => "signed out".to_owned(),
///         _ => "connecting".to_owned(),
///     }
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ReconnectState {
    /// A connection is being opened: the hooks, the network, the handshake.
    #[non_exhaustive]
    Connecting {
        /// 1 for the first attempt, and for the first one after a connection that was longer than
        /// [`Backoff::reset_after`](crate::client::Backoff::reset_after).
        attempt: u32,
    },
    /// There is a connection, and the hook `on_connect` has run.
    Open,
    /// It waits before the next attempt.
    #[non_exhaustive]
    Waiting {
        /// The number of the next attempt.
        attempt: u32,
        /// How long it waits, from the start of this state.
        delay: Duration,
        /// What made the last attempt fail, or ended the last connection.
        why: Interruption,
    },
    /// It has ended, and does not reconnect.
    #[non_exhaustive]
    Ended {
        /// Why it does not reconnect. `None` if it was closed or dropped on this side.
        why: Option<Interruption>,
    },
}

impl ReconnectState {
    /// Whether there is a connection.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    /// Whether it is over for good.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        matches!(self, Self::Ended { .. })
    }
}

/// Why there is no connection: the end of one, or an attempt that has failed.
///
/// ```
/// # fn sign_in_again() {}
/// use ws_core::client::Interruption;
///
/// fn judge(why: &Interruption) -> bool {
///     if let Interruption::Connect(error) = why
///         && error.status() == Some(http::StatusCode::UNAUTHORIZED)
///     {
///         return true; // the next attempt has a fresh token
///     }
///     why.should_reconnect()
/// }
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Interruption {
    /// A connection ended.
    #[error("the connection ended: {}", .0.code())]
    Closed(Closed),
    /// An attempt to connect failed, or a hook took longer than the `connect_timeout`.
    #[error(transparent)]
    Connect(Arc<ConnectError>),
    /// A hook returned an error.
    #[error("a hook failed: {0}")]
    Hook(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// Its task was dropped: the runtime was shut down, or a hook panicked. It never reconnects after that.
    #[error("the task was dropped, with its runtime or by a panic in a hook")]
    Aborted,
}

impl Interruption {
    /// Whether to reconnect, by default. [`Reconnect::reconnect_if`](super::Reconnect::reconnect_if) can decide otherwise.
    ///
    /// | interruption | reconnect? |
    /// |---|---|
    /// | [`Closed`](Self::Closed), by either side | as [`CloseCode::should_reconnect`](crate::CloseCode::should_reconnect) says |
    /// | [`Connect`](Self::Connect) | as [`ConnectError::should_retry`] says |
    /// | [`Hook`](Self::Hook) | yes |
    /// | [`Aborted`](Self::Aborted) | no |
    #[must_use]
    pub fn should_reconnect(&self) -> bool {
        match self {
            Self::Closed(closed) => closed.code().should_reconnect(),
            Self::Connect(error) => error.should_retry(),
            Self::Hook(_) => true,
            Self::Aborted => false,
        }
    }

    /// How long the server asks the client to wait: by the header `Retry-After` of a refusal, or by `retry-after=N` (seconds)
    /// in the reason of a Close frame, as a [`Drain`](crate::Drain) sends it.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Closed(closed) => {
                let mut words = closed.reason().split([' ', ',', ';']);
                let seconds = words.find_map(|word| word.strip_prefix("retry-after="))?;
                seconds.parse().ok().map(Duration::from_secs)
            }
            Self::Connect(error) => error.retry_after(),
            Self::Hook(_) | Self::Aborted => None,
        }
    }

    pub(super) fn hook(error: Box<dyn std::error::Error + Send + Sync>) -> Self {
        Self::Hook(error.into())
    }
}

impl From<ConnectError> for Interruption {
    fn from(error: ConnectError) -> Self {
        Self::Connect(Arc::new(error))
    }
}

/// The states of a [`ReconnectingWebSocket`](super::ReconnectingWebSocket): the current one, then each later one. The last is
/// [`Ended`](ReconnectState::Ended). It is also a [`Stream`].
///
/// States are not queued: a slow reader misses some, but always sees the newest.
///
/// ```
/// # use ws_core::client::ReconnectingWebSocket;
/// # fn watch(socket: &ReconnectingWebSocket) {
/// let mut states = socket.states();
/// tokio::spawn(async move {
///     while let Some(state) = states.changed().await {
///         println!("{state:?}");
///     }
/// });
/// # }
/// ```
#[must_use = "call `changed`, or use it as a stream, to see the states"]
pub struct States {
    /// The next state, or `None` after the last.
    next: ReusableBoxFuture<'static, Option<(ReconnectState, watch::Receiver<ReconnectState>)>>,
    ended: bool,
}

impl States {
    pub(super) fn new(mut receiver: watch::Receiver<ReconnectState>) -> Self {
        receiver.mark_changed();
        Self { next: ReusableBoxFuture::new(next(receiver)), ended: false }
    }

    /// Waits for a state that it has not yet returned; `None` after the last one.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, the next call returns that state or a newer one.
    pub async fn changed(&mut self) -> Option<ReconnectState> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

async fn next(
    mut receiver: watch::Receiver<ReconnectState>,
) -> Option<(ReconnectState, watch::Receiver<ReconnectState>)> {
    receiver.changed().await.ok()?;
    let state = receiver.borrow_and_update().clone();
    Some((state, receiver))
}

impl Stream for States {
    type Item = ReconnectState;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ReconnectState>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let Some((state, receiver)) = ready!(this.next.poll(cx)) else {
            this.ended = true;
            return Poll::Ready(None);
        };
        this.ended = state.is_ended();
        this.next.set(next(receiver));
        Poll::Ready(Some(state))
    }
}

impl fmt::Debug for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("States").field("ended", &self.ended).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::close::{CloseFrame, Side};

    fn closed(code: u16, reason: &str) -> Interruption {
        let frame = Some(CloseFrame::new(code, reason));
        Interruption::Closed(Closed { by: Side::Remote, frame, clean: true })
    }

    #[test]
    fn a_hint_of_a_drain_is_read() {
        for (reason, expected) in [
            ("retry-after=7", Some(7)),
            ("restarting, retry-after=30", Some(30)),
            ("retry-after=5; bye", Some(5)),
            ("", None),
            ("retry-after=", None),
            ("retry-after=-1", None),
            ("retry-after=1.5", None),
            ("do-not-retry-after=3", None),
            ("retry-after=18446744073709551616", None),
        ] {
            assert_eq!(closed(1012, reason).retry_after(), expected.map(Duration::from_secs), "{reason}");
        }
    }

    #[test]
    fn codes_and_errors_tell_whether_to_come_back() {
        for (code, expected) in
            [(1000, false), (1001, true), (1006, true), (1008, false), (1012, true), (4001, false)]
        {
            assert_eq!(closed(code, "").should_reconnect(), expected, "{code}");
        }
        assert!(Interruption::from(ConnectError::Timeout).should_reconnect());
        assert!(!Interruption::from(ConnectError::HeadTooLarge).should_reconnect());
        assert!(Interruption::hook("no token".into()).should_reconnect());
    }
}

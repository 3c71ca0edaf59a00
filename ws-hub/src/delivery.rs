//! [`Delivery`] and [`Reach`]: what became of a message.

use crate::log::LogError;

/// What became of a message that was sent to a user.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use ws_hub::{Delivery, DropReason, Hub};
///
/// let hub = Hub::<u64>::new();
/// let delivery = hub.send(&7, "for your next login").await;
/// assert_eq!(delivery, Delivery::Stored { evicted: 0 });
///
/// let hub = Hub::<u64>::builder().without_log().build();
/// assert_eq!(hub.send(&7, "lost").await, Delivery::Dropped(DropReason::Offline));
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "a message may have been dropped"]
#[non_exhaustive]
pub enum Delivery {
    /// It is in the log, and goes to this many connections of the user, on all nodes. If they end before they send it, it waits
    /// for the next login. Without a log: it is handed to, or queued for, this many connections.
    Sent(usize),
    /// It is in the log. The user is not connected; their next login gets it.
    Stored {
        /// How many messages that were not delivered yet, of any user, were removed for it because the log was full.
        evicted: usize,
    },
    /// It may be in the log or not: the log has not answered in time. To send it again with the same
    /// [id](crate::Outgoing::id) cannot double it.
    Unknown,
    /// The user will not get it.
    Dropped(DropReason),
}

impl Delivery {
    /// Whether the message was taken on for certain.
    #[must_use]
    pub fn is_accepted(self) -> bool {
        matches!(self, Self::Sent(_) | Self::Stored { .. })
    }
}

/// Why a message was dropped.
///
/// ```
/// assert_eq!(ws_hub::DropReason::Offline.to_string(), "the user is not connected, and the hub has no log");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum DropReason {
    /// The user is not connected, and the hub has no log.
    #[error("the user is not connected, and the hub has no log")]
    Offline,
    /// The hub has no log, and the queue of the user's connection is full.
    #[error("the queue of the user's connection is full")]
    Overflow,
    /// It is larger than the log takes for one user, or without a log, than a connection's queue.
    #[error("the message is larger than what may wait for a user")]
    TooLarge,
    /// The log refused it, or the backplane did. The program's log has the error.
    #[error("the log of the user failed")]
    Log,
}

/// How far a message for several users went.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let reach = ws_hub::Hub::<u64>::new().broadcast("hello").await;
/// assert_eq!((reach.here, reach.others.unwrap()), (0, 0));
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Reach {
    /// On how many connections of this hub it was sent or queued.
    pub here: usize,
    /// To how many other nodes it went.
    ///
    /// # Errors
    ///
    /// If the backplane failed.
    pub others: Result<usize, LogError>,
}

//! [`Delivery`]: what became of a message for a user.

/// What became of a message that was sent to a user, as far as this side can know it.
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
/// let hub = Hub::<u64>::builder().without_offline_store().build();
/// assert_eq!(hub.send(&7, "lost").await, Delivery::Dropped(DropReason::Offline));
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "a message may have been dropped"]
#[non_exhaustive]
pub enum Delivery {
    /// It is queued on this many connections of the user. If they end before they send it, it goes to the offline store.
    Sent(usize),
    /// It is on its way to another node, where the user is connected.
    Published,
    /// The user is not connected. It is in the offline store, for their next login.
    Stored {
        /// How many older messages, of any user, were removed for it because the store was full.
        evicted: usize,
    },
    /// The user will not get it.
    Dropped(DropReason),
}

impl Delivery {
    /// Whether the message was taken on: whether it was not dropped.
    #[must_use]
    pub fn is_accepted(self) -> bool {
        !matches!(self, Self::Dropped(_))
    }
}

/// Why a message was dropped.
///
/// ```
/// assert_eq!(ws_hub::DropReason::Offline.to_string(), "the user is not connected, and there is no offline store");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum DropReason {
    /// The user is not connected, and there is no offline store.
    #[error("the user is not connected, and there is no offline store")]
    Offline,
    /// The queue of the user's connection is full.
    #[error("the queue of the user's connection is full")]
    Overflow,
    /// It is larger than a connection's queue, or than the offline store takes for one user.
    #[error("the message is larger than what may wait for a user")]
    TooLarge,
    /// The offline store failed. The log has its error.
    #[error("the offline store failed")]
    Store,
    /// The backplane failed. The log has its error.
    #[error("the backplane failed")]
    Backplane,
}

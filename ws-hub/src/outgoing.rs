//! [`Outgoing`]: a message that is to be sent to users.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use ws_core::PreparedMessage;

use crate::delivery::Delivery;
use crate::position::MessageId;
use crate::shared::Inner;

/// A message that is to be sent to users, from [`Hub::message`](crate::Hub::message).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use ws_hub::{Delivery, Hub, MessageId};
///
/// let hub = Hub::<u64>::new();
/// // of the request, so that the same request is the same message
/// let id = MessageId::new(17);
/// for _ in 0..2 {
///     let delivery = hub.message("paid").id(id).to(&7).await;
///     assert_eq!(delivery, Delivery::Stored { evicted: 0 });
/// }
/// // it is there once
/// # }
/// ```
#[must_use = "a message goes nowhere until it is sent to a user"]
pub struct Outgoing<'a, U> {
    inner: &'a Arc<Inner<U>>,
    message: PreparedMessage,
    id: Option<MessageId>,
}

impl<'a, U> Outgoing<'a, U>
where
    U: Clone + Eq + Hash + Send + Sync + 'static,
{
    pub(crate) fn new(inner: &'a Arc<Inner<U>>, message: PreparedMessage) -> Self {
        Self { inner, message, id: None }
    }

    /// Gives the message an id of the application's. If it is among the last 64 messages of the user already, it is not
    /// written again: so it can be sent again after [`Delivery::Unknown`].
    pub fn id(self, id: MessageId) -> Self {
        Self { id: Some(id), ..self }
    }

    /// Sends it to a user; as [`Hub::send`](crate::Hub::send).
    ///
    /// # Cancel safety
    ///
    /// As [`Hub::send`](crate::Hub::send).
    pub async fn to(self, user: &U) -> Delivery {
        self.inner.send(user, self.id, self.message).await
    }
}

impl<U> fmt::Debug for Outgoing<'_, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("id", &self.id).finish_non_exhaustive()
    }
}

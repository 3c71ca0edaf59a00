//! [`Audience`]: several users at once, as those to send to.

use std::fmt;
use std::hash::Hash;

use std::sync::Arc;

use ws_core::Message;

use crate::delivery::Reach;
use crate::shared::Inner;

/// Those who are to get a message: everyone, or a room, perhaps with exceptions. From [`Hub::everyone`](crate::Hub::everyone) and
/// [`Hub::room`](crate::Hub::room).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use ws_hub::Hub;
///
/// let hub = Hub::<String>::new();
/// let author = "anna".to_owned();
/// let reach = hub.room("lobby").except(&author).send("anna: hello").await;
/// assert_eq!(reach.here, 0);
/// # }
/// ```
#[must_use = "an audience gets nothing until something is sent to it"]
pub struct Audience<'a, U> {
    inner: &'a Arc<Inner<U>>,
    room: Option<&'a str>,
    except: Vec<U>,
}

impl<'a, U> Audience<'a, U>
where
    U: Clone + Eq + Hash + Send + Sync + 'static,
{
    pub(crate) fn new(inner: &'a Arc<Inner<U>>, room: Option<&'a str>) -> Self {
        Self { inner, room, except: Vec::new() }
    }

    /// Without this user: the author of the message, as a rule. It can be called for several.
    pub fn except(mut self, user: &U) -> Self {
        self.except.push(user.clone());
        self
    }

    /// Sends a message to those who are there; returns how far it went. It is encoded once, and not kept for those who are away,
    /// unless the room has a [history](crate::HubBuilder::room_history): then it is written to that first, and nobody gets it
    /// if that fails.
    ///
    /// It waits for no client that reads slowly: such a client's queue [overflows](crate::Overflow). If a connection is full,
    /// it waits until the task of that connection has run once, which tells whether its client reads.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, some may not get the message.
    pub async fn send(self, message: impl Into<Message>) -> Reach {
        let Self { inner, room, except } = self;
        if let Some(room) = room
            && let Some(history) = inner.history_of(room)
        {
            return inner.send_to_room(room, except, message.into(), history).await;
        }
        inner.send_to_many(room, except, message.into()).await
    }
}

impl<U> fmt::Debug for Audience<'_, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audience").field("room", &self.room).finish_non_exhaustive()
    }
}

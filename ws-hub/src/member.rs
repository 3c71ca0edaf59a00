//! [`Member`]: a connection of a user, as a handler gets it.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use tokio::sync::oneshot;
use ws_core::{Closed, ConnectionId, Error, Message, Receiver, Sender};

use crate::error::JoinError;
use crate::hub::Hub;
use crate::position::{Position, Resumed};
use crate::session::Session;
use crate::user::User;

/// A connection that is one of a user's, as the handler of [`Hub::attach_with`] gets it: receives what its client sends,
/// answers it, and puts the user into rooms.
///
/// ```
/// use ws_core::Error;
/// use ws_hub::Member;
///
/// async fn handler(mut member: Member<u64>) -> Result<(), Error> {
///     while let Some(message) = member.recv().await {
///         member.send(format!("{} bytes", message?.len())).await?;
///     }
///     Ok(())
/// }
/// ```
#[must_use = "messages that come in are dropped when nobody can receive them"]
pub struct Member<U> {
    hub: Hub<U>,
    user: Arc<User<U>>,
    connection: u64,
    resumed: Resumed,
    sender: Sender,
    receiver: Receiver,
    /// Tells the hub that there is no member any more.
    _alive: oneshot::Sender<()>,
}

impl<U> Member<U>
where
    U: Clone + Eq + Hash + Send + Sync + 'static,
{
    pub(crate) fn new(
        hub: Hub<U>,
        session: &Session<U>,
        sender: Sender,
        receiver: Receiver,
        resumed: Resumed,
        alive: oneshot::Sender<()>,
    ) -> Self {
        let (user, connection) = (Arc::clone(&session.user), session.connection);
        Self { hub, user, connection, resumed, sender, receiver, _alive: alive }
    }

    /// The hub.
    #[must_use]
    pub fn hub(&self) -> &Hub<U> {
        &self.hub
    }

    /// Whose connection it is.
    #[must_use]
    pub fn user(&self) -> &U {
        &self.user.id
    }

    /// Whether the connection goes on where its client had stopped: see [`Hub::attach_after`].
    #[must_use]
    pub fn resumed(&self) -> Resumed {
        self.resumed
    }

    /// The client has got everything up to this message, it says: no other connection of the user gets it again. For hubs whose
    /// [`confirm`](crate::HubBuilder::confirm) is [`Confirm::ByHandler`](crate::Confirm::ByHandler). Messages that were not
    /// sent on this connection do not count.
    pub fn acknowledge(&self, position: &Position) {
        self.hub.inner.confirm(&self.user, self.connection, position.number);
    }

    /// The number of this connection, unique in the process.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.sender.id()
    }

    /// What sends on this connection alone, past the hub's queue: with backpressure, pings, and the close code.
    #[must_use]
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    /// Receives the next message of the client; as [`Receiver::recv`]. Heartbeats do not come here.
    ///
    /// # Errors
    ///
    /// As [`Receiver::recv`].
    ///
    /// # Cancel safety
    ///
    /// As [`Receiver::recv`]: no message is lost.
    pub async fn recv(&mut self) -> Option<Result<Message, Error>> {
        self.receiver.recv().await
    }

    /// Receives the next message and reads it as JSON; as [`Receiver::recv_json`].
    ///
    /// # Errors
    ///
    /// As [`Receiver::recv_json`].
    ///
    /// # Cancel safety
    ///
    /// As [`Receiver::recv_json`].
    #[cfg(feature = "json")]
    pub async fn recv_json<T: serde::de::DeserializeOwned>(&mut self) -> Option<Result<T, Error>> {
        self.receiver.recv_json().await
    }

    /// Answers on this connection alone: waits until there is room in its outbound buffer, as [`Sender::send`]. It may come
    /// before messages of the hub that wait in the queue.
    ///
    /// # Errors
    ///
    /// As [`Sender::send`].
    ///
    /// # Cancel safety
    ///
    /// As [`Sender::send`]: the whole message is queued, or nothing.
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), Error> {
        self.sender.send(message).await
    }

    /// Puts the user into a room; as [`Hub::join`].
    ///
    /// # Errors
    ///
    /// As [`Hub::join`].
    ///
    /// # Cancel safety
    ///
    /// As [`Hub::join`].
    pub async fn join(&self, room: &str) -> Result<bool, JoinError> {
        self.hub.join(self.user(), room).await
    }

    /// Takes the user out of a room; as [`Hub::leave`].
    #[allow(clippy::must_use_candidate, reason = "it changes the room")]
    pub fn leave(&self, room: &str) -> bool {
        self.hub.leave(self.user(), room)
    }

    /// Waits until the connection is over, and tells how it ended; as [`Receiver::closed`].
    ///
    /// # Cancel safety
    ///
    /// It can be dropped and called again.
    pub async fn closed(&self) -> Closed {
        self.receiver.closed().await
    }
}

impl<U: fmt::Debug> fmt::Debug for Member<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("user", &self.user.id)
            .field("sender", &self.sender)
            .finish_non_exhaustive()
    }
}

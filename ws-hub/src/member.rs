//! [`Member`]: a connection of a user, as a handler gets it.

use std::fmt;
use std::hash::Hash;

use tokio::sync::oneshot;
use ws_core::{Closed, ConnectionId, Error, Message, Receiver, Sender};

use crate::error::JoinError;
use crate::hub::Hub;

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
    user: U,
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
        user: U,
        sender: Sender,
        receiver: Receiver,
        alive: oneshot::Sender<()>,
    ) -> Self {
        Self { hub, user, sender, receiver, _alive: alive }
    }

    /// The hub.
    #[must_use]
    pub fn hub(&self) -> &Hub<U> {
        &self.hub
    }

    /// Whose connection it is.
    #[must_use]
    pub fn user(&self) -> &U {
        &self.user
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
    pub fn join(&self, room: &str) -> Result<bool, JoinError> {
        self.hub.join(&self.user, room)
    }

    /// Takes the user out of a room; as [`Hub::leave`].
    pub fn leave(&self, room: &str) -> bool {
        self.hub.leave(&self.user, room)
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
            .field("user", &self.user)
            .field("sender", &self.sender)
            .finish_non_exhaustive()
    }
}

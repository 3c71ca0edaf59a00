//! [`Member`]: a connection of a user, as a handler gets it.

use std::fmt;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_core::Stream as _;
use ws_core::{Closed, ConnectionId, Error, Message, Receiver, Sender};

use crate::error::JoinError;
use crate::hub::Hub;
use crate::position::{Position, Resumed};
use crate::room::Joined;
use crate::rooms::Joining;
use crate::session::Session;
use crate::user::{User, Wakes, find};

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
    resumed: Resumed,
    sender: Sender,
    receiver: Receiver,
    /// Last, so that nothing of the member is left when the hub learns that it is gone.
    of: Of<U>,
}

/// Whose connection it is. Tells the hub when there is no member any more.
struct Of<U> {
    user: Arc<User<U>>,
    connection: u64,
}

impl<U> Drop for Of<U> {
    fn drop(&mut self) {
        let mut wakes = Wakes::new();
        if let Some(mailbox) = find(&mut self.user.lock(), self.connection) {
            mailbox.member_gone(&mut wakes);
        }
        wakes.into_iter().for_each(Waker::wake);
    }
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
    ) -> Self {
        let of = Of { user: Arc::clone(&session.user), connection: session.connection };
        Self { hub, resumed, sender, receiver, of }
    }

    /// The hub.
    #[must_use]
    pub fn hub(&self) -> &Hub<U> {
        &self.hub
    }

    /// Whose connection it is.
    #[must_use]
    pub fn user(&self) -> &U {
        &self.of.user.id
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
        self.hub.inner.confirm(&self.of.user, self.of.connection, position.number);
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

    pub(crate) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        Pin::new(&mut self.receiver).poll_next(cx)
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

    /// Puts the user into a room; as [`Hub::join`]. Of a room with a [history](crate::HubBuilder::room_history), this connection
    /// gets the messages from now on, and other ones of the user do not because of this.
    ///
    /// # Errors
    ///
    /// As [`Hub::join`].
    ///
    /// # Cancel safety
    ///
    /// As [`Hub::join`].
    pub async fn join(&self, room: &str) -> Result<bool, JoinError> {
        let inner = &self.hub.inner;
        if inner.history_of(room).is_none() {
            return self.hub.join(self.user(), room).await;
        }
        Ok(inner.enter_room(self.user(), room, Joining::One(self.of.connection)).await?.is_new)
    }

    /// Puts the user into a room with a [history](crate::HubBuilder::room_history), for a client that knows the position of the
    /// last message of the room that it has got. This connection is sent everything that came after that, and then what comes
    /// from now on: in one order, and without gaps. For a client that says `None`, only what comes from now on.
    ///
    /// What was missed is sent with backpressure, past the hub's queue: this waits for the client to read. Messages from which
    /// the user was [excepted](crate::Audience::except) are not sent. If something is no longer there, none of what was missed
    /// is sent, and [`Joined::resumed`] says so, as it does for a room without a history.
    ///
    /// Use it for all connections that may have missed something, and not [`Hub::join`] for their users: a connection that gets
    /// live messages first shows a later position than that of what it has missed.
    ///
    /// A message may come again if this connection has joined before: a client drops what is not after the last position that it
    /// knows.
    ///
    /// ```
    /// use ws_hub::{JoinError, Joined, Member, Position, Resumed};
    ///
    /// /// The client asks for it, with the position that it knows.
    /// async fn join(member: &Member<u64>, room: &str, after: Option<Position>) -> Result<String, JoinError> {
    ///     let joined = member.join_after(room, after).await?;
    ///     Ok(match joined.resumed {
    ///         Resumed::Fresh => "welcome".to_owned(),
    ///         Resumed::Complete { missed } => format!("you have missed {missed} messages: here they were"),
    ///         Resumed::Incomplete => "load the page again: some messages are gone".to_owned(),
    ///     })
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Hub::join`]. If it fails in the midst of it, the client may have got a part of what it has missed. If the history is
    /// removed before the client has read it, the connection is closed with
    /// [`close_code::OVERFLOW`](crate::close_code::OVERFLOW).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, the user may be in the room, and the client may have got a part of what it
    /// has missed.
    pub async fn join_after(&self, room: &str, after: Option<Position>) -> Result<Joined, JoinError> {
        let inner = &self.hub.inner;
        if inner.history_of(room).is_none() {
            let is_new = self.join(room).await?;
            let resumed = after.map_or(Resumed::Fresh, |_| Resumed::Incomplete);
            return Ok(Joined { is_new, resumed, position: None });
        }
        inner.join_after(&self.of.user, self.of.connection, &self.sender, room, after).await
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
            .field("user", &self.of.user.id)
            .field("sender", &self.sender)
            .finish_non_exhaustive()
    }
}

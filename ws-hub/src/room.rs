//! Rooms that keep their last messages: [`RoomHistory`], [`Joined`], and what a backplane is asked of them.

use std::time::Duration;

use ws_core::Message;

use crate::log::Continuity;
use crate::position::{MessageId, Position, Resumed};

/// How many messages of a room are kept, how many bytes of them, and for how long after the last one: see
/// [`HubBuilder::room_history`](crate::HubBuilder::room_history). The last message is kept whatever its size.
///
/// ```
/// use std::time::Duration;
/// use ws_hub::RoomHistory;
///
/// let history = RoomHistory::new(100, Duration::from_secs(300));
/// assert_eq!((history.messages(), history.time()), (100, Duration::from_secs(300)));
/// assert_eq!(history.bytes(), 1024 * 1024);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomHistory {
    messages: usize,
    bytes: usize,
    time: Duration,
}

impl RoomHistory {
    /// So many messages, until this long after the last one, and no more than 1 MiB of them.
    ///
    /// # Panics
    ///
    /// If one of them is 0: the rule answers `None` for a room that keeps nothing.
    #[must_use]
    #[track_caller]
    pub fn new(messages: usize, time: Duration) -> Self {
        assert!(messages > 0 && time > Duration::ZERO, "a history that keeps nothing: answer `None`");
        Self { messages, bytes: 1024 * 1024, time }
    }

    /// The same, with as many bytes of messages at most.
    ///
    /// # Panics
    ///
    /// If it is 0: the rule answers `None` for a room that keeps nothing.
    #[must_use]
    #[track_caller]
    pub fn within(self, bytes: usize) -> Self {
        assert!(bytes > 0, "a history that keeps nothing: answer `None`");
        Self { bytes, ..self }
    }

    /// How many bytes of messages.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many messages.
    #[must_use]
    pub fn messages(&self) -> usize {
        self.messages
    }

    /// How long after the last one.
    #[must_use]
    pub fn time(&self) -> Duration {
        self.time
    }
}

/// What came of [`Member::join_after`](crate::Member::join_after).
///
/// ```
/// use ws_hub::{Joined, Resumed};
///
/// fn notice(joined: &Joined) -> &'static str {
///     match joined.resumed {
///         Resumed::Fresh | Resumed::Complete { .. } => "welcome",
///         Resumed::Incomplete => "some messages are gone, load the page again",
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Joined {
    /// Whether the user was not in the room before.
    pub is_new: bool,
    /// Whether the client has got everything that came after its position.
    pub resumed: Resumed,
    /// The last message of the room before those that come from now on, if there is one: where a client that joins again goes
    /// on if nothing comes.
    pub position: Option<Position>,
}

/// A message to append to the history of a room.
///
/// ```
/// use std::time::Duration;
/// use ws_core::Message;
/// use ws_hub::{MessageId, RoomAppend, RoomHistory};
///
/// let history = RoomHistory::new(100, Duration::from_secs(300));
/// let message = Message::text("hello");
/// let append = RoomAppend::<u64>::new("lobby", MessageId::random(), &[], &message, history);
/// assert_eq!(append.room, "lobby");
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RoomAppend<'a, U> {
    /// To which room.
    pub room: &'a str,
    /// The id of the message.
    pub id: MessageId,
    /// Who does not get it.
    pub except: &'a [U],
    /// The message.
    pub message: &'a Message,
    /// How much the room keeps.
    pub history: RoomHistory,
}

impl<'a, U> RoomAppend<'a, U> {
    /// A message for a room.
    #[must_use]
    pub fn new(
        room: &'a str,
        id: MessageId,
        except: &'a [U],
        message: &'a Message,
        history: RoomHistory,
    ) -> Self {
        Self { room, id, except, message, history }
    }
}

/// A message in the history of a room.
///
/// ```
/// use ws_hub::{MessageId, Position, RoomEntry};
///
/// let entry = RoomEntry::<u64>::new(Position::new(1, MessageId::random()), None, Vec::new(), "hello");
/// assert_eq!(entry.message.as_text(), Some("hello"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RoomEntry<U> {
    /// Where it is.
    pub position: Position,
    /// The id of the message before it. `None` for the first one of a history.
    pub previous: Option<MessageId>,
    /// Who does not get it.
    pub except: Vec<U>,
    /// What the others get.
    pub message: Message,
}

impl<U> RoomEntry<U> {
    /// The message at `position`, after that with the id `previous`.
    #[must_use]
    pub fn new(
        position: Position,
        previous: Option<MessageId>,
        except: Vec<U>,
        message: impl Into<Message>,
    ) -> Self {
        Self { position, previous, except, message: message.into() }
    }
}

/// A message was appended to the history of a room.
///
/// ```
/// use ws_hub::{MessageId, Position, RoomEntry, RoomSent};
///
/// let entry = RoomEntry::<u64>::new(Position::new(1, MessageId::random()), None, Vec::new(), "hello");
/// let sent = RoomSent { entry, nodes: 0 };
/// # let _ = sent;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomSent<U> {
    /// The message, where it is now.
    pub entry: RoomEntry<U>,
    /// How many other nodes it was signalled to.
    pub nodes: usize,
}

/// What was read of the history of a room.
///
/// ```
/// use ws_hub::{Continuity, RoomRead};
///
/// // there is none
/// let read = RoomRead::<u64> { entries: Vec::new(), top: None, continuity: Continuity::Complete };
/// # let _ = read;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomRead<U> {
    /// The messages, in order. None if they would not go on from where they were to.
    pub entries: Vec<RoomEntry<U>>,
    /// The last message; `None` if there is no history of the room.
    pub top: Option<Position>,
    /// Whether something is missing before the entries.
    pub continuity: Continuity,
}

impl<U> RoomRead<U> {
    /// Whether there are messages after those that were read.
    pub(crate) fn has_more(&self) -> bool {
        self.entries.last().is_some_and(|entry| Some(entry.position) != self.top)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "a history that keeps nothing")]
    fn a_history_that_keeps_nothing_is_refused() {
        let _ = RoomHistory::new(100, Duration::ZERO);
    }

    #[test]
    #[should_panic(expected = "a history that keeps nothing")]
    fn a_history_without_bytes_is_refused() {
        let _ = RoomHistory::new(100, Duration::from_secs(1)).within(0);
    }
}

//! Places in a log: [`Position`], and [`MessageId`], which names a message.

use std::fmt;
use std::str::FromStr;

/// Names a message for ever, in whatever log it is.
///
/// The hub gives each message a random one. An application that may send a message again, because it does not know what
/// became of it, gives the message an id of its own, such as a hash of a request's idempotency key: see
/// [`Hub::message`](crate::Hub::message).
///
/// It is written as 16 hexadecimal digits.
///
/// ```
/// use ws_hub::MessageId;
///
/// let id = MessageId::new(0x9f3c_5a0e_2b7d_4411);
/// assert_eq!(id.to_string(), "9f3c5a0e2b7d4411");
/// assert_ne!(MessageId::random(), MessageId::random());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(u64);

impl MessageId {
    /// The id with this number.
    #[must_use]
    pub const fn new(id: u64) -> Self {
        Self(id)
    }

    /// A new one, different from all others.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A place in the log of a user, or in the [history](crate::RoomHistory) of a room: the number of a message, and its id.
///
/// The numbers of one log are 1, 2, 3 …, without holes. The id tells whether a log still is the one that the position was
/// taken from: a log that was lost and grew again has the same numbers, but other ids. So a client that remembers the
/// position of the last message it has got can say exactly where it stopped: see
/// [`Hub::attach_after`](crate::Hub::attach_after).
///
/// For a client it is one opaque word: [`Display`](fmt::Display) writes it, and [`FromStr`] reads it.
///
/// ```
/// use ws_hub::{MessageId, Position};
///
/// let position = Position::new(17, MessageId::new(0x9f3c_5a0e_2b7d_4411));
/// assert_eq!(position.to_string(), "17.9f3c5a0e2b7d4411");
/// assert_eq!("17.9f3c5a0e2b7d4411".parse(), Ok(position));
/// assert!("17".parse::<Position>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Which message of the log it is, from 1 on.
    pub number: u64,
    /// The id of the message there.
    pub id: MessageId,
}

impl Position {
    /// The place of the message with this number and this id.
    #[must_use]
    pub const fn new(number: u64, id: MessageId) -> Self {
        Self { number, id }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.number, self.id)
    }
}

/// A text is not a [`Position`].
///
/// ```
/// let error = "seventeen".parse::<ws_hub::Position>().unwrap_err();
/// assert_eq!(error.to_string(), "not a position: expected a number, a dot and 16 hexadecimal digits");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a position: expected a number, a dot and 16 hexadecimal digits")]
pub struct InvalidPosition;

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let (number, id) = text.split_once('.').ok_or(InvalidPosition)?;
        let is_plain =
            |text: &str, valid: fn(&u8) -> bool| !text.is_empty() && text.bytes().all(|it| valid(&it));
        if !is_plain(number, u8::is_ascii_digit) || !is_plain(id, u8::is_ascii_hexdigit) || id.len() != 16 {
            return Err(InvalidPosition);
        }
        let number = number.parse().map_err(|_| InvalidPosition)?;
        let id = u64::from_str_radix(id, 16).map_err(|_| InvalidPosition)?;
        Ok(Self::new(number, MessageId(id)))
    }
}

/// Whether a connection goes on where its client had stopped: see [`Member::resumed`](crate::Member::resumed).
///
/// ```
/// use ws_hub::Resumed;
///
/// fn greeting(resumed: &Resumed) -> String {
///     match resumed {
///         Resumed::Fresh => "welcome".to_owned(),
///         Resumed::Complete { missed } => format!("welcome back; {missed} messages follow"),
///         Resumed::Incomplete => "welcome back; some messages are gone, load the page again".to_owned(),
///     }
/// }
/// # assert_eq!(greeting(&Resumed::Complete { missed: 3 }), "welcome back; 3 messages follow");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resumed {
    /// The client did not say where it had stopped. It gets what waits for the user.
    Fresh,
    /// It gets everything that came after the position that it named.
    Complete {
        /// How many messages that is.
        missed: u64,
    },
    /// Messages after that position are no longer in the log, or it is not a position of this log. The client gets what waits
    /// for the user, and fetches the rest in the application's own way.
    Incomplete,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for position in [
            Position::new(1, MessageId::new(0)),
            Position::new(u64::MAX, MessageId::new(u64::MAX)),
            Position::new(17, MessageId::random()),
        ] {
            assert_eq!(position.to_string().parse(), Ok(position));
        }
    }

    #[test]
    fn what_is_no_position_is_refused() {
        for text in [
            "",
            ".",
            "17",
            "17.",
            ".9f3c5a0e2b7d4411",
            "17.9f3c5a0e2b7d441",
            "17.9f3c5a0e2b7d44111",
            "17.+f3c5a0e2b7d4411",
            "+17.9f3c5a0e2b7d4411",
            "-1.9f3c5a0e2b7d4411",
            "18446744073709551616.9f3c5a0e2b7d4411",
            "17.9f3c5a0e2b7d4411 ",
            "17 .9f3c5a0e2b7d4411",
        ] {
            assert_eq!(text.parse::<Position>(), Err(InvalidPosition), "{text:?}");
        }
    }
}

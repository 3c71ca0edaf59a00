//! What is in the tables, as bytes. No I/O.

use redb::StorageError;
use ws_core::Message;
use ws_hub::{Entry, MessageId, Position};

use crate::config::Bounds;

/// The log of one user, without the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    /// The number of the first message, or of the next one if there is none.
    pub(crate) first: u64,
    /// The number of the last message that there ever was.
    pub(crate) top: u64,
    pub(crate) cursor: u64,
    /// The bytes of the messages.
    pub(crate) bytes: u64,
    /// When the last message was delivered.
    pub(crate) delivered: u64,
    /// When the log is to be looked at: its row in the table of that.
    pub(crate) scheduled: u64,
    /// When the first message came.
    pub(crate) first_time: u64,
    /// The id of the message before the first one.
    pub(crate) before: Option<MessageId>,
    pub(crate) top_id: Option<MessageId>,
}

/// Not in the table.
pub(crate) const NOT_SCHEDULED: u64 = u64::MAX;

/// A number that no log reaches. A position that is known and says more is of no log.
const UNREACHED: u64 = u64::MAX / 2;

const META: usize = 9 * 8 + 1;

impl Meta {
    pub(crate) fn new(known: Option<Position>) -> Self {
        let known = known.filter(|position| position.number < UNREACHED);
        let (number, id) = known.map_or((0, None), |position| (position.number, Some(position.id)));
        Self {
            first: number + 1,
            top: number,
            cursor: number,
            bytes: 0,
            delivered: 0,
            scheduled: NOT_SCHEDULED,
            first_time: 0,
            before: id,
            top_id: id,
        }
    }

    pub(crate) fn encode(&self) -> [u8; META] {
        let mut bytes = [0; META];
        let id = |id: Option<MessageId>| id.map_or(0, MessageId::get);
        let fields = [
            self.first,
            self.top,
            self.cursor,
            self.bytes,
            self.delivered,
            self.scheduled,
            self.first_time,
            id(self.before),
            id(self.top_id),
        ];
        for (to, field) in bytes.chunks_exact_mut(8).zip(fields) {
            to.copy_from_slice(&field.to_le_bytes());
        }
        bytes[META - 1] = u8::from(self.before.is_some()) | u8::from(self.top_id.is_some()) << 1;
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, StorageError> {
        let bytes: &[u8; META] = bytes.try_into().map_err(|_| damaged("a user"))?;
        let mut fields = [0; 9];
        for (field, from) in fields.iter_mut().zip(bytes.chunks_exact(8)) {
            *field = u64::from_le_bytes(from.try_into().expect("chunks of 8"));
        }
        let [first, top, cursor, length, delivered, scheduled, first_time, before, top_id] = fields;
        let flags = bytes[META - 1];
        let before = (flags & 1 != 0).then_some(MessageId::new(before));
        let top_id = (flags & 2 != 0).then_some(MessageId::new(top_id));
        Ok(Self { first, top, cursor, bytes: length, delivered, scheduled, first_time, before, top_id })
    }

    pub(crate) fn messages(&self) -> u64 {
        self.top + 1 - self.first
    }

    pub(crate) fn is_delivered(&self) -> bool {
        self.cursor >= self.top
    }

    /// When something of it is over.
    pub(crate) fn deadline(&self, bounds: &Bounds) -> u64 {
        if self.is_delivered() || self.messages() == 0 {
            self.delivered + bounds.history_time
        } else {
            self.first_time + bounds.time_to_live
        }
    }

    /// Whether the first message is too old, and there are some that are not delivered.
    pub(crate) fn is_over(&self, now: u64, bounds: &Bounds) -> bool {
        !self.is_delivered() && self.first_time + bounds.time_to_live <= now
    }

    /// Takes the first message away, which is `gone`; `next` is the one after it. Returns whether it was to be delivered.
    pub(crate) fn advance(&mut self, gone: &Header, next: Option<&Header>) -> bool {
        let was_waiting = self.first > self.cursor;
        self.bytes -= gone.length;
        self.before = Some(gone.id);
        self.cursor = self.cursor.max(self.first);
        self.first += 1;
        self.first_time = next.map_or(0, |next| next.time);
        was_waiting
    }
}

/// What is in front of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) id: MessageId,
    pub(crate) previous: Option<MessageId>,
    pub(crate) time: u64,
    /// The bytes of the message, which are not stored: they are the rest.
    pub(crate) length: u64,
}

const HEADER: usize = 1 + 3 * 8;
const IS_TEXT: u8 = 1;
const HAS_PREVIOUS: u8 = 2;

pub(crate) fn encode_entry(header: &Header, message: &Message, to: &mut Vec<u8>) {
    let text = if message.as_text().is_some() { IS_TEXT } else { 0 };
    let previous = if header.previous.is_some() { HAS_PREVIOUS } else { 0 };
    to.clear();
    to.push(text | previous);
    for field in [header.id.get(), header.previous.map_or(0, MessageId::get), header.time] {
        to.extend(field.to_le_bytes());
    }
    to.extend(message.as_bytes());
}

pub(crate) fn decode_header(bytes: &[u8]) -> Result<Header, StorageError> {
    let (head, payload) = bytes.split_at_checked(HEADER).ok_or_else(|| damaged("a message"))?;
    let field = |at: usize| u64::from_le_bytes(head[1 + 8 * at..9 + 8 * at].try_into().expect("8 bytes"));
    Ok(Header {
        id: MessageId::new(field(0)),
        previous: (head[0] & HAS_PREVIOUS != 0).then_some(MessageId::new(field(1))),
        time: field(2),
        length: payload.len() as u64,
    })
}

pub(crate) fn decode_entry(number: u64, bytes: &[u8]) -> Result<Entry, StorageError> {
    let header = decode_header(bytes)?;
    let payload = bytes[HEADER..].to_vec();
    let message = if bytes[0] & IS_TEXT != 0 {
        Message::text(String::from_utf8(payload).map_err(|_| damaged("a text"))?)
    } else {
        Message::binary(payload)
    };
    Ok(Entry::new(Position::new(number, header.id), header.previous, message))
}

pub(crate) fn damaged(what: &str) -> StorageError {
    StorageError::Corrupted(format!("{what} cannot be read"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_user_never_change() {
        let meta = Meta {
            first: 1,
            top: 2,
            cursor: 3,
            bytes: 4,
            delivered: 5,
            scheduled: 6,
            first_time: 7,
            before: None,
            top_id: Some(MessageId::new(8)),
        };
        let bytes = meta.encode();
        let mut expected = Vec::new();
        for field in [1_u64, 2, 3, 4, 5, 6, 7, 0, 8] {
            expected.extend(field.to_le_bytes());
        }
        expected.push(2);
        assert_eq!(bytes.as_slice(), expected);
        assert_eq!(Meta::decode(&bytes).unwrap(), meta);
        assert!(Meta::decode(&bytes[1..]).is_err());
    }

    #[test]
    fn the_bytes_of_a_message_never_change() {
        let header = Header { id: MessageId::new(1), previous: Some(MessageId::new(2)), time: 3, length: 2 };
        let mut bytes = Vec::new();
        encode_entry(&header, &Message::text("ä"), &mut bytes);
        let mut expected = vec![3];
        for field in [1_u64, 2, 3] {
            expected.extend(field.to_le_bytes());
        }
        expected.extend("ä".as_bytes());
        assert_eq!(bytes, expected);
        assert_eq!(decode_header(&bytes).unwrap(), header);
        let entry = decode_entry(9, &bytes).unwrap();
        let position = Position::new(9, MessageId::new(1));
        assert_eq!(entry, Entry::new(position, Some(MessageId::new(2)), "ä"));
    }

    #[test]
    fn a_damaged_message_is_an_error() {
        let header = Header { id: MessageId::new(1), previous: None, time: 3, length: 2 };
        let mut bytes = Vec::new();
        encode_entry(&header, &Message::text("ä"), &mut bytes);
        assert!(decode_entry(1, &bytes[..HEADER - 1]).is_err());
        assert!(decode_entry(1, &bytes[..=HEADER]).is_err(), "half of a character");
    }
}

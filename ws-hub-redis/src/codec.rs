//! Messages as bytes: in logs, and on channels. Big endian; no I/O.

use ws_core::{CloseFrame, Message};
use ws_hub::{Entry, Key, MessageId, Packet, Position, RoomEntry, Signal};

/// Of what is pushed.
const VERSION: u8 = 1;

/// What is pushed, by kind. The scripts write these numbers, too.
const MESSAGE: u8 = 1;
const REPLACED: u8 = 2;
const CLOSED: u8 = 3;
const RESTOCK: u8 = 4;
const ROOM: u8 = 5;
const EVERYONE: u8 = 6;
pub(crate) const PROBE: u8 = 8;

const BINARY: u8 = 1;

/// What cannot be read: damaged, or of a later version.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// What is left to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Unreadable> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Unreadable)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        self.take(N)?.try_into().map_err(|_| Unreadable)
    }

    fn byte(&mut self) -> Result<u8, Unreadable> {
        Ok(self.array::<1>()?[0])
    }

    fn short(&mut self) -> Result<u16, Unreadable> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn number(&mut self) -> Result<u64, Unreadable> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn id(&mut self) -> Result<MessageId, Unreadable> {
        self.number().map(MessageId::new)
    }

    /// What has its length in front of it.
    fn named(&mut self) -> Result<&'a [u8], Unreadable> {
        let length = self.short()?;
        self.take(usize::from(length))
    }

    fn user<U: Key>(&mut self) -> Result<U, Unreadable> {
        U::decode(self.named()?).ok_or(Unreadable)
    }

    fn room(&mut self) -> Result<String, Unreadable> {
        std::str::from_utf8(self.named()?).map(str::to_owned).map_err(|_| Unreadable)
    }

    fn except<U: Key>(&mut self) -> Result<Vec<U>, Unreadable> {
        let count = self.short()?;
        (0..count).map(|_| self.user()).collect()
    }

    /// Flags and payload, to the end.
    fn message(mut self) -> Result<Message, Unreadable> {
        let flags = self.byte()?;
        if flags & BINARY != 0 {
            return Ok(Message::binary(self.0.to_vec()));
        }
        String::from_utf8(self.0.to_vec()).map(Message::text).map_err(|_| Unreadable)
    }
}

/// The id of the message before the one with this number.
fn previous_of(number: u64, id: MessageId) -> Option<MessageId> {
    (number > 1).then_some(id)
}

/// Something is too long for its length to be written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

fn put_named(name: &[u8], to: &mut Vec<u8>) -> Result<(), TooLong> {
    let length = u16::try_from(name.len()).map_err(|_| TooLong)?;
    to.extend(length.to_be_bytes());
    to.extend(name);
    Ok(())
}

fn put_except(except: &[impl Key], to: &mut Vec<u8>) -> Result<(), TooLong> {
    let count = u16::try_from(except.len()).map_err(|_| TooLong)?;
    to.extend(count.to_be_bytes());
    except.iter().try_for_each(|user| put_named(&encode_user(user), to))
}

pub(crate) fn encode_user(user: &impl Key) -> Vec<u8> {
    let mut bytes = Vec::new();
    user.encode(&mut bytes);
    bytes
}

/// Flags and payload.
pub(crate) fn encode_message(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + message.len());
    bytes.push(if message.is_text() { 0 } else { BINARY });
    bytes.extend(message.as_bytes());
    bytes
}

/// An entry of the log of a user, with this number.
pub(crate) fn decode_entry(number: u64, bytes: &[u8]) -> Result<Entry, Unreadable> {
    let mut reader = Reader(bytes);
    let (id, previous) = (reader.id()?, reader.id()?);
    let _bytes_before_and_time = reader.take(16)?;
    Ok(Entry::new(Position::new(number, id), previous_of(number, previous), reader.message()?))
}

/// What a room's message is without its place: who does not get it, flags and payload.
pub(crate) fn encode_room_message(except: &[impl Key], message: &Message) -> Result<Vec<u8>, TooLong> {
    let mut bytes = Vec::new();
    put_except(except, &mut bytes)?;
    bytes.extend(encode_message(message));
    Ok(bytes)
}

/// An entry of the history of a room, with this number.
pub(crate) fn decode_room_entry<U: Key>(number: u64, bytes: &[u8]) -> Result<RoomEntry<U>, Unreadable> {
    let mut reader = Reader(bytes);
    let (id, previous) = (reader.id()?, reader.id()?);
    let except = reader.except()?;
    Ok(RoomEntry::new(Position::new(number, id), previous_of(number, previous), except, reader.message()?))
}

/// What a push of a room's message has between its number and the message, but for the place: the origin and the room.
pub(crate) fn room_head(origin: &str, room: &str) -> Result<Vec<u8>, TooLong> {
    let mut bytes = origin.as_bytes().to_vec();
    put_named(room.as_bytes(), &mut bytes)?;
    Ok(bytes)
}

/// A push of a message without a place: to a room, or to everyone.
pub(crate) fn encode_packet<U: Key>(origin: &str, packet: &Packet<U>) -> Result<Vec<u8>, TooLong> {
    let kind = if packet.room.is_some() { ROOM } else { EVERYONE };
    let mut bytes = vec![VERSION, kind];
    bytes.extend([0; 8]);
    bytes.extend(origin.as_bytes());
    if let Some(room) = &packet.room {
        // no number, no id, no previous id
        bytes.extend([0; 24]);
        put_named(room.as_bytes(), &mut bytes)?;
    }
    bytes.extend(encode_room_message(&packet.except, &packet.message)?);
    Ok(bytes)
}

/// The frame of a close, as the scripts keep it: code and reason.
pub(crate) fn decode_frame(bytes: &[u8]) -> Result<CloseFrame, Unreadable> {
    let mut reader = Reader(bytes);
    let code = reader.short()?;
    let reason = std::str::from_utf8(reader.0).map_err(|_| Unreadable)?;
    Ok(CloseFrame::new(code, reason.to_owned()))
}

/// The kind of a push, and its number on the channel of the node.
pub(crate) fn decode_head(bytes: &[u8]) -> Result<(u8, u64), Unreadable> {
    let mut reader = Reader(bytes);
    if reader.byte()? != VERSION {
        return Err(Unreadable);
    }
    Ok((reader.byte()?, reader.number()?))
}

/// What a push says to the node `here`; `None` if that is what it has published itself.
pub(crate) fn decode_push<U: Key>(bytes: &[u8], here: &str) -> Result<Option<Signal<U>>, Unreadable> {
    let (kind, _) = decode_head(bytes)?;
    let mut reader = Reader(&bytes[10..]);
    Ok(Some(match kind {
        MESSAGE => {
            let (number, id, previous) = (reader.number()?, reader.id()?, reader.id()?);
            let _time = reader.number()?;
            let user = reader.user()?;
            let (position, previous) = (Position::new(number, id), previous_of(number, previous));
            Signal::Entry { user, entry: Entry::new(position, previous, reader.message()?) }
        }
        REPLACED => {
            let login = reader.number()?;
            Signal::Replaced { user: reader.user()?, login }
        }
        CLOSED => {
            let (upto, code) = (reader.number()?, reader.array::<2>()?);
            let length = reader.byte()?;
            let reason = reader.take(usize::from(length))?;
            let frame = decode_frame(&[&code, reason].concat())?;
            Signal::Closed { user: reader.user()?, upto, frame }
        }
        RESTOCK => {
            let (login, from) = (reader.number()?, reader.number()?);
            Signal::Restock { user: reader.user()?, login, from }
        }
        ROOM | EVERYONE if reader.take(8)? == here.as_bytes() => return Ok(None),
        ROOM => decode_room(reader)?,
        EVERYONE => {
            let except = reader.except()?;
            Signal::Packet(Packet { room: None, except, message: reader.message()? })
        }
        _ => return Err(Unreadable),
    }))
}

fn decode_room<U: Key>(mut reader: Reader<'_>) -> Result<Signal<U>, Unreadable> {
    let (number, id, previous) = (reader.number()?, reader.id()?, reader.id()?);
    let (room, except) = (reader.room()?, reader.except()?);
    let message = reader.message()?;
    if number == 0 {
        return Ok(Signal::Packet(Packet { room: Some(room), except, message }));
    }
    let position = Position::new(number, id);
    let entry = RoomEntry::new(position, previous_of(number, previous), except, message);
    Ok(Signal::RoomEntry { room, entry })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "nodehere";
    const THERE: &str = "nodeelse";

    fn push(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
        [&[1, kind, 0, 0, 0, 0, 0, 0, 0, 9][..], &parts.concat()].concat()
    }

    fn number(number: u64) -> [u8; 8] {
        number.to_be_bytes()
    }

    #[test]
    fn a_message_is_what_the_script_pushed() {
        let bytes = push(
            MESSAGE,
            &[&number(2), &number(7), &number(6), &number(0), &[0, 8], &number(3), &[0], "ä".as_bytes()],
        );
        let entry = Entry::new(Position::new(2, MessageId::new(7)), Some(MessageId::new(6)), "ä");
        assert_eq!(decode_push(&bytes, HERE), Ok(Some(Signal::Entry { user: 3_u64, entry })));
        assert_eq!(decode_head(&bytes), Ok((MESSAGE, 9)));
        for end in 0..bytes.len() - 2 {
            assert_eq!(decode_push::<u64>(&bytes[..end], HERE), Err(Unreadable), "{end} bytes of it");
        }
    }

    #[test]
    fn the_end_of_a_login_is_what_the_script_pushed() {
        let bytes = push(CLOSED, &[&number(5), &4003_u16.to_be_bytes(), &[4], b"bye!", &[0, 8], &number(3)]);
        let frame = CloseFrame::new(4003, "bye!");
        assert_eq!(decode_push(&bytes, HERE), Ok(Some(Signal::Closed { user: 3_u64, upto: 5, frame })));
        let bytes = push(REPLACED, &[&number(5), &[0, 8], &number(3)]);
        assert_eq!(decode_push(&bytes, HERE), Ok(Some(Signal::Replaced { user: 3_u64, login: 5 })));
        let bytes = push(RESTOCK, &[&number(5), &number(1), &[0, 8], &number(3)]);
        assert_eq!(decode_push(&bytes, HERE), Ok(Some(Signal::Restock { user: 3_u64, login: 5, from: 1 })));
    }

    #[test]
    fn a_packet_comes_back_as_it_was_but_not_to_its_own_node() {
        for room in [None, Some("lobby".to_owned())] {
            let packet = Packet { room, except: vec![1_u64, 2], message: Message::binary(vec![0, 0xff]) };
            let bytes = encode_packet(THERE, &packet).unwrap();
            assert_eq!(decode_push(&bytes, HERE), Ok(Some(Signal::Packet(packet))));
            assert_eq!(decode_push::<u64>(&bytes, THERE), Ok(None));
        }
    }

    #[test]
    fn what_a_later_version_pushes_is_not_guessed_at() {
        assert_eq!(decode_push::<u64>(&push(77, &[b"something"]), HERE), Err(Unreadable));
        assert_eq!(decode_push::<u64>(&[2, MESSAGE, 0, 0, 0, 0, 0, 0, 0, 0, 0], HERE), Err(Unreadable));
        assert_eq!(decode_push::<u64>(&[], HERE), Err(Unreadable));
    }

    #[test]
    fn what_is_too_long_is_refused() {
        let packet = Packet { room: Some("x".repeat(70_000)), except: vec![0_u64], message: "".into() };
        assert_eq!(encode_packet(HERE, &packet), Err(TooLong));
        assert_eq!(encode_room_message(&vec![0_u64; 70_000], &"".into()), Err(TooLong));
    }
}

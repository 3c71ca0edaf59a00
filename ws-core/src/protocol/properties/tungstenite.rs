//! Compares the decoder with tungstenite's `WebSocket`: for the same stream, the same events and the same errors.
//!
//! These are all known differences. Any other one fails the test.
//!
//! | we | tungstenite | why |
//! |---|---|---|
//! | refuse a header, or text, at the byte that breaks a rule | waits for the rest of the frame | what is already invalid need not be read and kept |
//! | refuse a control frame with a length in a longer form than it needs | takes it | the form has to be the shortest (section 5.2), and a header is judged by its second byte |
//! | refuse a message of more fragments than the limit | counts none | empty fragments cost the peer nothing |
//! | refuse a Close frame with a code that may not be sent | hands out one with 1002 in its place, unless the reason is bad, too | tungstenite treats it as an answer, and we as an error of its own |
//! | take the code 1014 | as above | it is registered: RFC 6455 names the first codes, IANA the others |
//! | take compressed messages where they were negotiated | never | it knows no extensions |
//! | hold data frames to the limits, control frames to 125 bytes | holds both to the limits | limits below 125 bytes make no sense, and are not tried here |

use std::io::{self, Cursor, Read, Write};

use tokio_tungstenite::tungstenite::error::ProtocolError as TungsteniteProtocolError;
use tokio_tungstenite::tungstenite::protocol::{Role as TungsteniteRole, WebSocket, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message as TungsteniteMessage};

use super::{Event, Limits, Outcome, ProtocolError, Role, Setup};
use crate::close::{CloseCode, CloseFrame};
use crate::message::Message;
use crate::protocol::header::{MAX_CONTROL, MAX_HEADER};

/// A connection whose peer has sent everything.
pub(crate) struct Wire {
    inbound: Cursor<Vec<u8>>,
    #[cfg_attr(fuzzing, allow(dead_code, reason = "what tungstenite answers is looked at by tests only"))]
    pub(crate) outbound: Vec<u8>,
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inbound.read(buffer)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outbound.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) fn socket(role: Role, limits: Limits, inbound: Vec<u8>) -> WebSocket<Wire> {
    let role = match role {
        Role::Server => TungsteniteRole::Server,
        Role::Client => TungsteniteRole::Client,
    };
    let config = WebSocketConfig::default()
        .max_message_size(Some(limits.max_message_size))
        .max_frame_size(Some(limits.max_frame_size))
        // the default is 128 KiB, zeroed for each stream
        .read_buffer_size(1024);
    let wire = Wire { inbound: Cursor::new(inbound), outbound: Vec::new() };
    WebSocket::from_raw_socket(wire, role, Some(config))
}

pub(crate) fn event(message: TungsteniteMessage) -> Event {
    match message {
        TungsteniteMessage::Text(text) => Event::Message(Message::from(text.as_str())),
        TungsteniteMessage::Binary(bytes) => Event::Message(Message::Binary(bytes)),
        TungsteniteMessage::Ping(payload) => Event::Ping(payload),
        TungsteniteMessage::Pong(payload) => Event::Pong(payload),
        TungsteniteMessage::Close(frame) => {
            Event::Close(frame.map(|frame| CloseFrame::new(u16::from(frame.code), frame.reason.as_str())))
        }
        TungsteniteMessage::Frame(_) => unreachable!("is not read"),
    }
}

/// The events that tungstenite sees in `stream`, and whether it found a fault.
pub(crate) fn read(role: Role, limits: Limits, stream: Vec<u8>) -> (Vec<Event>, bool) {
    let mut socket = socket(role, limits, stream);
    let mut events = Vec::new();
    loop {
        match socket.read() {
            Ok(message) => {
                events.push(event(message));
                if let Some(Event::Close(_)) = events.last() {
                    return (events, false);
                }
            }
            // the stream is at its end
            Err(Error::Io(_) | Error::Protocol(TungsteniteProtocolError::ResetWithoutClosingHandshake)) => {
                return (events, false);
            }
            Err(_) => return (events, true),
        }
    }
}

/// We and tungstenite agree on `stream`, but for the differences above. Returns what we make of it.
pub(crate) fn check(role: Role, limits: Limits, stream: &[u8]) -> Outcome {
    let ours = Setup::plain(role, limits).decode(stream);
    if let Some(ProtocolError::TooManyFragments { limit }) = ours.error {
        assert_eq!(limit, limits.max_fragments);
        let unlimited = check(role, Limits { max_fragments: usize::MAX, ..limits }, stream);
        assert!(unlimited.events.starts_with(&ours.events), "{unlimited:?} does not begin as {ours:?}");
        return ours;
    }
    let is_refused = |stream: &[u8]| Setup::plain(role, limits).decode(stream).error.is_some();
    if ours.error == Some(ProtocolError::ControlTooLong)
        && long_form(limits, stream, is_refused) <= MAX_CONTROL as u64
    {
        let theirs = read(role, limits, with_rest(limits, stream)).0;
        assert!(theirs.starts_with(&ours.events), "{theirs:?} does not begin as {ours:?}");
        return ours;
    }
    let mut expected = (in_their_words(&ours.events), ours.error.is_some());
    let mut theirs = read(role, limits, stream.to_vec());
    if ours.error.is_some() && theirs == (expected.0.clone(), false) {
        // tungstenite waits for the rest of the frame
        theirs = read(role, limits, with_rest(limits, stream));
    }
    if matches!(ours.error, Some(ProtocolError::CloseCode(_))) && !theirs.1 {
        expected = (expected.0.into_iter().chain([violation()]).collect(), false);
    }
    assert_eq!(expected, theirs, "{ours:?} is not what tungstenite reads in {stream:x?}");
    ours
}

/// `stream`, and what completes any header and any frame that it ends in.
fn with_rest(limits: Limits, stream: &[u8]) -> Vec<u8> {
    [stream, &vec![0; MAX_HEADER + limits.max_frame_size]].concat()
}

/// The length, in one of the two longer forms, of the frame that is refused for its second byte.
fn long_form(limits: Limits, stream: &[u8], is_refused: impl Fn(&[u8]) -> bool) -> u64 {
    let ends: Vec<usize> = (0..stream.len()).collect();
    // the second byte is the last of the shortest stream that is refused
    let second = ends.partition_point(|&last| !is_refused(&stream[..=last]));
    let size = if stream[second] & 0x7f == 126 { 2 } else { 8 };
    let digits = &with_rest(limits, stream)[second + 1..][..size];
    digits.iter().fold(0, |length, &digit| length << 8 | u64::from(digit))
}

/// What tungstenite reports in place of our error.
fn in_their_words(events: &[Event]) -> Vec<Event> {
    let words = events.iter().map(|event| match event {
        Event::Close(Some(frame)) if frame.code == CloseCode::from(1014) => violation(),
        event => event.clone(),
    });
    words.collect()
}

/// What tungstenite returns for a Close frame with a code that it does not know.
fn violation() -> Event {
    Event::Close(Some(CloseFrame::new(CloseCode::PROTOCOL_ERROR, "Protocol violation")))
}

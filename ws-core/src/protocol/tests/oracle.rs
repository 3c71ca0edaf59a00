//! The same streams read, and written, by tungstenite's own `WebSocket`.

use std::io::{self, Cursor, Read, Write};

use bytes::Buf;
use tokio_tungstenite::tungstenite::error::ProtocolError as TungsteniteProtocolError;
use tokio_tungstenite::tungstenite::protocol::{self as tungstenite, WebSocket, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message as TungsteniteMessage};

use super::{BINARY, CLOSE, CONTINUE, FINAL, PING, PONG, Random, TEXT, decode, frame};
use crate::close::CloseFrame;
use crate::config::Limits;
use crate::message::Message;
use crate::protocol::{Encoder, Event, Role};

/// A connection whose peer has said all that it will say.
struct Wire {
    inbound: Cursor<Vec<u8>>,
    outbound: Vec<u8>,
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

fn tungstenite(role: Role, limits: Limits, inbound: Vec<u8>) -> WebSocket<Wire> {
    let role = match role {
        Role::Server => tungstenite::Role::Server,
        Role::Client => tungstenite::Role::Client,
    };
    let config = WebSocketConfig::default()
        .max_message_size(Some(limits.max_message_size))
        .max_frame_size(Some(limits.max_frame_size));
    let wire = Wire { inbound: Cursor::new(inbound), outbound: Vec::new() };
    WebSocket::from_raw_socket(wire, role, Some(config))
}

fn event(message: TungsteniteMessage) -> Event {
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
fn read_by_tungstenite(role: Role, limits: Limits, stream: Vec<u8>) -> (Vec<Event>, bool) {
    let mut socket = tungstenite(role, limits, stream);
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

#[test]
fn tungstenite_reads_what_the_encoder_writes() {
    let mut random = Random(0x0123_4567_89ab_cdef);
    for (sender, receiver) in [(Role::Client, Role::Server), (Role::Server, Role::Client)] {
        let mut encoder = Encoder::new(sender);
        let mut expected = Vec::new();
        for length in [0, 1, 125, 126, 4095, 4096, 65_535, 65_536, 300_000] {
            let bytes = Message::from(random.bytes(length));
            let text = Message::from(random.text(length / 3));
            for message in [bytes, text] {
                encoder.message(message.clone());
                expected.push(Event::Message(message));
            }
            encoder.ping(b"ping");
            encoder.pong(&[1; 125]);
            expected.extend([Event::Ping("ping".into()), Event::Pong(vec![1; 125].into())]);
        }
        let close = CloseFrame::new(3000, "tschüß");
        encoder.close(Some(&close));
        expected.push(Event::Close(Some(close)));

        let stream = encoder.copy_to_bytes(encoder.remaining());
        let (events, fault) = read_by_tungstenite(receiver, Limits::default(), stream.into());
        assert!(events == expected);
        assert!(!fault);
    }
}

#[test]
fn the_decoder_reads_what_tungstenite_writes() {
    let mut random = Random(0xfedc_ba98_7654_3210);
    for (sender, receiver) in [(Role::Client, Role::Server), (Role::Server, Role::Client)] {
        let mut socket = tungstenite(sender, Limits::default(), Vec::new());
        let mut expected = Vec::new();
        for length in [0, 1, 125, 126, 65_535, 65_536, 100_000] {
            let messages = [
                TungsteniteMessage::Binary(random.bytes(length).into()),
                TungsteniteMessage::Text(random.text(length / 3).into()),
                TungsteniteMessage::Ping(random.bytes(length.min(125)).into()),
            ];
            for message in messages {
                socket.write(message.clone()).unwrap();
                expected.push(event(message));
            }
        }
        socket.close(None).unwrap();
        expected.push(Event::Close(None));

        let stream = &socket.get_ref().outbound;
        let outcome = super::decode_in_pieces(receiver, Limits::default(), stream, true, || 10_000);
        assert!(outcome.events == expected);
        assert_eq!(outcome.error, None);
    }
}

#[test]
fn tungstenite_finds_the_same_events_and_faults_in_random_frames() {
    // tungstenite holds control frames to the limits too, which these are longer than
    let limits = Limits { max_message_size: 170, max_frame_size: 130, max_fragments: usize::MAX };
    let mut random = Random(0x1357_9bdf_0246_8ace);
    let (mut faults, mut closes) = (0, 0);
    for _ in 0..3000 {
        let mut stream = Vec::new();
        for _ in 0..=random.below(10) {
            let data = random.pick(&[TEXT, FINAL | TEXT, FINAL | BINARY, BINARY, CONTINUE, CONTINUE, FINAL]);
            let control = random.pick(&[PING, PONG, PING, PONG, CLOSE]);
            let rare = random.bytes(1)[0];
            let first =
                [data, data, data, control, rare][if random.below(20) == 0 { 4 } else { random.below(4) }];
            let code_points = random.below(40);
            let mut payload = match first {
                CLOSE => [&1000_u16.to_be_bytes(), random.text(5).as_bytes()].concat(),
                _ => random.text(code_points).into_bytes(),
            };
            if random.below(10) == 0 && first != CLOSE {
                payload.pop();
            }
            let mut frame = frame(first, &payload);
            if random.below(30) == 0 {
                // no mask
                frame[1] &= 0x7f;
            }
            stream.extend(frame);
        }
        let outcome = decode(Role::Server, limits, &stream);
        let fault = outcome.error.is_some();
        let (events, expected_fault) = read_by_tungstenite(Role::Server, limits, stream.clone());
        assert_eq!(outcome.events, events, "{stream:x?}");
        assert_eq!(fault, expected_fault, "{:?} {stream:x?}", outcome.error);
        faults += usize::from(fault);
        closes += usize::from(matches!(events.last(), Some(Event::Close(_))));
    }
    // the streams are neither all good nor all bad
    assert!(faults > 500 && closes > 100 && faults + closes < 2900, "{faults} {closes}");
}

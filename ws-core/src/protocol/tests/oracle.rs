//! Compares both directions with tungstenite's `WebSocket`.

use bytes::Buf;
use tokio_tungstenite::tungstenite::Message as TungsteniteMessage;

use super::{BINARY, CLOSE, CONTINUE, FINAL, PING, PONG, Random, TEXT, decode, frame, tungstenite};
use crate::close::CloseFrame;
use crate::config::Limits;
use crate::message::Message;
use crate::protocol::{Encoder, Event, Role};

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
                encoder.message(&mut message.clone());
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
        let (events, fault) = tungstenite::read(receiver, Limits::default(), stream.into());
        assert!(events == expected);
        assert!(!fault);
    }
}

#[test]
fn the_decoder_reads_what_tungstenite_writes() {
    let mut random = Random(0xfedc_ba98_7654_3210);
    for (sender, receiver) in [(Role::Client, Role::Server), (Role::Server, Role::Client)] {
        let mut socket = tungstenite::socket(sender, Limits::default(), Vec::new());
        let mut expected = Vec::new();
        for length in [0, 1, 125, 126, 65_535, 65_536, 100_000] {
            let messages = [
                TungsteniteMessage::Binary(random.bytes(length).into()),
                TungsteniteMessage::Text(random.text(length / 3).into()),
                TungsteniteMessage::Ping(random.bytes(length.min(125)).into()),
            ];
            for message in messages {
                socket.write(message.clone()).unwrap();
                expected.push(tungstenite::event(message));
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
    // tungstenite applies the limits to control frames as well, and these are longer
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
        assert_eq!(tungstenite::check(Role::Server, limits, &stream), outcome);
        faults += usize::from(outcome.error.is_some());
        closes += usize::from(matches!(outcome.events.last(), Some(Event::Close(_))));
    }
    // some streams are valid, and some are not
    assert!(faults > 500 && closes > 100 && faults + closes < 2900, "{faults} {closes}");
}

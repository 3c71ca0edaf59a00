use std::borrow::Cow;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

use super::{BINARY, CLOSE, FINAL, PING, PONG, Random, TEXT, bare_frame, decode_in_pieces};
use crate::close::CloseFrame;
use crate::config::Limits;
use crate::message::Message;
use crate::protocol::{Encoder, Event, Frame, Role};

/// So long that it is not copied.
const LARGE: usize = 5000;

fn server() -> Encoder {
    Encoder::new(Role::Server)
}

/// The first `most` bytes of `slices`.
fn joined(slices: &[IoSlice<'_>], most: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for slice in slices {
        bytes.extend_from_slice(&slice[..slice.len().min(most - bytes.len())]);
    }
    bytes
}

/// Takes all that is queued, `step` bytes at a time, from one chunk or from several.
fn take(encoder: &mut Encoder, step: usize, vectored: bool) -> Vec<u8> {
    let mut taken = Vec::new();
    while encoder.has_remaining() {
        let before = encoder.remaining();
        let bytes = if vectored {
            let mut slices = [IoSlice::new(&[]); 3];
            let filled = encoder.chunks_vectored(&mut slices);
            assert!(filled > 0 && slices[..filled].iter().all(|slice| !slice.is_empty()));
            joined(&slices[..filled], step)
        } else {
            encoder.chunk()[..step.min(encoder.chunk().len())].to_vec()
        };
        assert!(!bytes.is_empty());
        encoder.advance(bytes.len());
        assert_eq!(encoder.remaining(), before - bytes.len());
        taken.extend(bytes);
    }
    taken
}

fn take_all(encoder: &mut Encoder) -> Vec<u8> {
    take(encoder, usize::MAX, true)
}

/// One of each kind of frame, and the bytes that a server writes for them.
fn queue_a_mixture(encoder: &mut Encoder) -> Vec<u8> {
    let large = vec![7; LARGE];
    encoder.message(&mut Message::from("small"));
    encoder.message(&mut Message::from(large.clone()));
    encoder.message(&mut Message::from(large.clone()));
    encoder.ping(b"ping");
    encoder.pong(b"");
    encoder.message(&mut Message::text("x".repeat(LARGE)));
    encoder.close(Some(&CloseFrame::new(1001, "bye")));
    [
        bare_frame(FINAL | TEXT, b"small"),
        bare_frame(FINAL | BINARY, &large),
        bare_frame(FINAL | BINARY, &large),
        bare_frame(PING, b"ping"),
        bare_frame(PONG, b""),
        bare_frame(FINAL | TEXT, "x".repeat(LARGE).as_bytes()),
        bare_frame(CLOSE, b"\x03\xe9bye"),
    ]
    .concat()
}

#[test]
fn a_message_is_one_frame_with_the_shortest_header() {
    for length in [0, 1, 125, 126, 65_535, 65_536] {
        let payload = vec![b'x'; length];
        let mut encoder = server();
        encoder.message(&mut Message::from(payload.clone()));
        assert_eq!(take_all(&mut encoder), bare_frame(FINAL | BINARY, &payload));
        encoder.message(&mut Message::text(String::from_utf8(payload.clone()).unwrap()));
        assert_eq!(take_all(&mut encoder), bare_frame(FINAL | TEXT, &payload));
    }
}

#[test]
fn control_frames_are_written_as_the_rfc_says() {
    let mut encoder = server();
    encoder.close(None);
    assert_eq!(take_all(&mut encoder), bare_frame(CLOSE, b""));
    let longest = "x".repeat(123);
    encoder.close(Some(&CloseFrame::new(4001, longest.clone())));
    assert_eq!(take_all(&mut encoder), bare_frame(CLOSE, &[b"\x0f\xa1", longest.as_bytes()].concat()));
    encoder.ping(&[1; 125]);
    encoder.pong(&[2; 125]);
    let frames = [bare_frame(PING, &[1; 125]), bare_frame(PONG, &[2; 125])].concat();
    assert_eq!(take_all(&mut encoder), frames);
}

#[test]
fn what_was_queued_leaves_in_order_whatever_is_taken_at_a_time() {
    let mut encoder = server();
    let length = queue_a_mixture(&mut encoder).len();
    take_all(&mut encoder);
    for vectored in [false, true] {
        for step in (1..50).chain([LARGE - 1, LARGE, LARGE + 1, 2 * LARGE, length]) {
            let expected = queue_a_mixture(&mut encoder);
            assert!(take(&mut encoder, step, vectored) == expected, "{step} {vectored}");
        }
    }
}

#[test]
fn the_first_write_may_end_at_any_byte() {
    let mut encoder = server();
    let length = queue_a_mixture(&mut encoder).len();
    take_all(&mut encoder);
    for first in 0..=length {
        let expected = queue_a_mixture(&mut encoder);
        encoder.advance(first);
        assert!(take_all(&mut encoder) == expected[first..], "{first}");
    }
}

#[test]
fn draining_keeps_the_order_behind_what_is_left() {
    let mut from = server();
    let mut into = server();
    let length = queue_a_mixture(&mut from).len();
    take_all(&mut from);
    // 0 and `length`: into all, and into nothing
    for left in (0..=length).step_by(97).chain([length]) {
        let first = queue_a_mixture(&mut into);
        into.advance(length - left);
        let second = queue_a_mixture(&mut from);
        from.drain_into(&mut into);
        assert_eq!((from.remaining(), from.capacity()), (0, 0));
        let third = queue_a_mixture(&mut into);
        let expected = [&first[length - left..], &second, &third].concat();
        assert!(take(&mut into, 1000, left % 2 == 0) == expected, "{left}");
    }
}

#[test]
fn draining_nothing_changes_nothing() {
    let mut empty = server();
    let mut into = server();
    empty.drain_into(&mut into);
    assert_eq!((into.remaining(), into.capacity()), (0, 0));
    let expected = queue_a_mixture(&mut into);
    empty.drain_into(&mut into);
    assert_eq!(take_all(&mut into), expected);
}

#[test]
fn any_sequence_of_calls_keeps_the_order() {
    let mut random = Random(0xdead_beef_cafe_f00d);
    let mut encoders = [server(), server()];
    let mut expected = [Vec::new(), Vec::new()];
    let (news, frame) = (bare_frame(FINAL | BINARY, b"news"), Frame::from(Message::from(b"news".as_slice())));
    for _ in 0..20_000 {
        match random.below(7) {
            0 | 1 => {
                let which = random.below(2);
                let length = random.pick(&[0, 3, 200, LARGE]);
                let payload = random.bytes(length);
                expected[which].extend(bare_frame(FINAL | BINARY, &payload));
                encoders[which].message(&mut Message::from(payload));
            }
            2 => {
                expected[0].extend(bare_frame(PONG, b"pong"));
                encoders[0].pong(b"pong");
            }
            3 => {
                let which = random.below(2);
                expected[which].extend(&news);
                encoders[which].frame(Cow::Borrowed(&frame));
            }
            4 => {
                let [from, into] = &mut encoders;
                from.drain_into(into);
                let drained = std::mem::take(&mut expected[0]);
                expected[1].extend(drained);
            }
            _ => {
                let mut slices = [IoSlice::new(&[]); 4];
                let filled = encoders[1].chunks_vectored(&mut slices);
                let available = joined(&slices[..filled], usize::MAX);
                assert!(expected[1].starts_with(&available));
                let n = random.below(available.len() + 1);
                encoders[1].advance(n);
                expected[1].drain(..n);
            }
        }
        for (encoder, expected) in encoders.iter().zip(&expected) {
            assert_eq!(encoder.remaining(), expected.len());
            assert!(encoder.chunk() == &expected[..encoder.chunk().len()]);
        }
    }
}

#[test]
fn a_large_payload_leaves_without_a_copy() {
    let payload = Bytes::from(vec![7; LARGE]);
    let mut encoder = server();
    encoder.message(&mut Message::Binary(payload.clone()));
    assert!(encoder.capacity() - payload.len() < 1024, "{}", encoder.capacity());
    let mut slices = [IoSlice::new(&[]); 2];
    assert_eq!(encoder.chunks_vectored(&mut slices), 2);
    assert_eq!(slices[1].as_ptr(), payload.as_ptr());
    encoder.advance(4 + 100);
    assert_eq!(encoder.chunk().as_ptr(), payload[100..].as_ptr());
    assert_eq!(encoder.chunk().len(), payload.len() - 100);
}

#[test]
fn a_client_masks_each_frame_with_a_key_of_its_own() {
    let mut encoder = Encoder::new(Role::Client);
    let mut keys = std::collections::HashSet::new();
    for _ in 0..1000 {
        encoder.ping(b"");
        keys.insert(take_all(&mut encoder)[2..6].to_vec());
    }
    assert!(keys.len() > 990, "{}", keys.len());
}

#[test]
fn what_a_client_sends_arrives_at_a_server_and_the_other_way_round() {
    for (sender, receiver) in [(Role::Client, Role::Server), (Role::Server, Role::Client)] {
        let mut encoder = Encoder::new(sender);
        queue_a_mixture(&mut encoder);
        let outcome =
            decode_in_pieces(receiver, Limits::default(), &take_all(&mut encoder), true, || usize::MAX);
        let large = Message::from(vec![7; LARGE]);
        let expected = [
            Event::Message(Message::from("small")),
            Event::Message(large.clone()),
            Event::Message(large),
            Event::Ping("ping".into()),
            Event::Pong("".into()),
            Event::Message(Message::text("x".repeat(LARGE))),
            Event::Close(Some(CloseFrame::new(1001, "bye"))),
        ];
        assert_eq!((outcome.events.as_slice(), outcome.error), (&expected[..], None));
    }
}

#[test]
fn a_client_does_not_change_a_payload_that_others_hold() {
    let payload = Bytes::from(vec![7; LARGE]);
    let mut encoder = Encoder::new(Role::Client);
    encoder.message(&mut Message::Binary(payload.clone()));
    encoder.message(&mut Message::Binary(Bytes::from_static(&[7; LARGE])));
    assert!(payload.iter().all(|byte| *byte == 7));
}

#[test]
fn memory_is_given_back_when_all_has_left() {
    for role in [Role::Server, Role::Client] {
        let mut encoder = Encoder::new(role);
        assert_eq!(encoder.capacity(), 0);
        queue_a_mixture(&mut encoder);
        assert!(encoder.capacity() > 3 * LARGE);
        take_all(&mut encoder);
        assert_eq!(encoder.capacity(), 0);
    }
}

#[test]
fn the_next_connection_of_the_thread_takes_the_buffer_that_was_given_back() {
    let mut first = server();
    first.ping(b"first");
    let buffer = first.chunk().as_ptr();
    take_all(&mut first);
    let mut second = server();
    second.ping(b"later");
    assert_eq!(second.chunk().as_ptr(), buffer);
}

#[test]
fn a_buffer_that_grew_large_is_not_passed_on() {
    let mut first = server();
    for _ in 0..1000 {
        first.message(&mut Message::from(vec![7; 100]));
    }
    take_all(&mut first);
    let mut second = server();
    second.ping(b"second");
    assert!(second.capacity() <= 16 * 1024, "{}", second.capacity());
}

#[test]
fn memory_stays_in_proportion_to_what_is_queued_when_a_peer_reads_slowly() {
    let mut encoder = server();
    for _ in 0..1000 {
        encoder.message(&mut Message::from(vec![7; 100]));
    }
    // the queue is never empty while 100 times its length leaves
    for _ in 0..100_000 {
        encoder.message(&mut Message::from(vec![7; 100]));
        encoder.advance(102);
        assert!(encoder.capacity() < 4 * encoder.remaining());
    }
}

#[test]
#[should_panic(expected = "no more leaves than is queued")]
fn more_than_is_queued_does_not_leave() {
    let mut encoder = server();
    encoder.ping(b"");
    encoder.advance(3);
}

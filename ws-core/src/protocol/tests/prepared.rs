//! Messages that many connections send: their bytes on the wire, and that memory is shared.

use std::borrow::Cow;
use std::io::IoSlice;

use bytes::Buf as _;

use super::{BINARY, FINAL, TEXT, bare_frame, decode_in_pieces};
use crate::config::Limits;
use crate::message::Message;
use crate::prepared::PreparedMessage;
use crate::protocol::{Encoder, Event, Frame, Role};

fn taken(encoder: &mut Encoder) -> Vec<u8> {
    let mut bytes = vec![0; encoder.remaining()];
    encoder.copy_to_slice(&mut bytes);
    bytes
}

/// An encoder that holds nothing but the frame.
fn holding(frame: &Frame) -> Encoder {
    let mut encoder = Encoder::new(Role::Server);
    encoder.frame(Cow::Borrowed(frame));
    encoder
}

/// The address of the payload that an encoder holds behind a header.
fn large_payload(encoder: &Encoder) -> *const u8 {
    let mut slices = [IoSlice::new(&[]); 2];
    assert_eq!(encoder.chunks_vectored(&mut slices), 2);
    slices[1].as_ptr()
}

#[test]
fn a_prepared_message_has_the_bytes_of_an_ordinary_one() {
    for length in [0, 1, 125, 126, 4095, 4096, 65_535, 65_536] {
        let text = "x".repeat(length);
        for (message, first) in
            [(Message::from(text.as_bytes()), BINARY), (Message::from(text.clone()), TEXT)]
        {
            let prepared = PreparedMessage::new(message);
            let expected = bare_frame(FINAL | first, text.as_bytes());
            for _ in 0..3 {
                assert!(taken(&mut holding(prepared.frame())) == expected, "{length}");
            }
            // between other messages
            let mut encoder = Encoder::new(Role::Server);
            encoder.ping(b"");
            encoder.frame(Cow::Borrowed(prepared.frame()));
            encoder.frame(Cow::Borrowed(prepared.frame()));
            encoder.pong(b"");
            assert!(taken(&mut encoder) == [&[0x89, 0], &expected[..], &expected, &[0x8a, 0]].concat());
        }
    }
}

#[test]
fn a_large_prepared_payload_is_shared_and_a_small_one_copied() {
    let prepared = PreparedMessage::new(vec![7; 4096]);
    let encoders = [holding(prepared.frame()), holding(prepared.frame())];
    for encoder in &encoders {
        assert_eq!(large_payload(encoder), prepared.message().as_bytes().as_ptr());
    }

    let prepared = PreparedMessage::new(vec![7; 4095]);
    assert_eq!(holding(prepared.frame()).chunk().len(), 4 + 4095, "one piece with its header");
}

#[test]
fn connections_with_nothing_else_to_send_share_the_bytes_of_a_small_prepared_message() {
    let prepared = PreparedMessage::new(vec![7; 100]);
    let expected = bare_frame(FINAL | BINARY, &[7; 100]);
    // as most messages are sent once, the first one is not worth it
    taken(&mut holding(prepared.frame()));
    let [mut first, mut second, mut third] = [(); 3].map(|()| holding(prepared.frame()));
    assert_eq!(first.chunk().as_ptr(), second.chunk().as_ptr());
    assert_eq!(first.chunk().as_ptr(), third.chunk().as_ptr());

    // what follows, and what is left of it, is in memory of the connection's own
    second.pong(b"");
    third.advance(1);
    assert_ne!(first.chunk().as_ptr(), second.chunk().as_ptr());
    assert!(taken(&mut first) == expected);
    assert!(taken(&mut second) == [&expected[..], &[0x8a, 0]].concat());
    assert!(taken(&mut third) == expected[1..]);
    assert!([first, second, third].iter().all(|encoder| encoder.capacity() == 0));
}

#[test]
fn a_client_masks_a_copy_of_a_prepared_message() {
    for length in [10, 5000] {
        let message = Message::from(vec![7; length]);
        let prepared = PreparedMessage::new(message.clone());
        let mut encoder = Encoder::new(Role::Client);
        encoder.frame(Cow::Borrowed(prepared.frame()));
        encoder.frame(Cow::Borrowed(prepared.frame()));
        let bytes = taken(&mut encoder);
        let (first, second) = bytes.split_at(bytes.len() / 2);
        assert!(first != second, "one key for two frames");
        let outcome = decode_in_pieces(Role::Server, Limits::default(), &bytes, true, || usize::MAX);
        assert_eq!(outcome.events, [Event::Message(message.clone()), Event::Message(message.clone())]);
        assert_eq!(*prepared.message(), message);
    }
}

#[cfg(feature = "deflate")]
mod compressed {
    use std::sync::Barrier;

    use super::super::Random;
    use super::super::deflate::{inflated, setting};
    use super::*;
    use crate::protocol::{Setting, compress};

    /// A message that is large when it is compressed, too.
    fn large() -> Message {
        let mut random = Random(5);
        Message::from((0..20_000).map(|_| random.pick(b"abcd")).collect::<Vec<_>>())
    }

    /// The address of the payload that a server has queued.
    fn queued(prepared: &PreparedMessage, setting: Setting) -> *const u8 {
        let mut encoder = Encoder::new(Role::Server);
        encoder.frame(prepared.compressed(setting).expect("shorter"));
        large_payload(&encoder)
    }

    #[test]
    fn a_prepared_message_is_compressed_once_for_each_setting() {
        let prepared = PreparedMessage::new(large());
        let widest = queued(&prepared, setting(6, None));
        let narrow = queued(&prepared, setting(6, Some(10)));
        let fast = queued(&prepared, setting(1, None));
        assert!(widest != narrow && narrow != fast && fast != widest);
        for _ in 0..3 {
            assert_eq!(queued(&prepared.clone(), setting(6, None)), widest);
            assert_eq!(
                queued(&prepared, setting(6, Some(15))),
                widest,
                "the same window, asked for by its size"
            );
            assert_eq!(queued(&prepared, setting(6, Some(10))), narrow);
            assert_eq!(queued(&prepared, setting(1, None)), fast);
        }
    }

    #[test]
    fn simultaneous_senders_compress_it_once() {
        let prepared = PreparedMessage::new(large());
        let barrier = Barrier::new(4);
        let places = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        queued(&prepared, setting(9, None)) as usize
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(places, [places[0]; 4]);
    }

    #[test]
    fn each_setting_gets_the_bytes_of_an_ordinary_message() {
        let message = large();
        let prepared = PreparedMessage::new(message.clone());
        // more settings than are kept; the second round needs those that were not
        for _ in 0..2 {
            for level in [2, 9] {
                for bits in 9..=15 {
                    let setting = setting(level, Some(bits));
                    let ordinary = taken(&mut holding(&compress(&message, setting).expect("shorter")));
                    let frame = prepared.compressed(setting).expect("shorter");
                    assert!(inflated(&frame.payload, bits) == message.as_bytes(), "{level} {bits}");
                    assert!(taken(&mut holding(&frame)) == ordinary, "{level} {bits}");
                }
            }
        }
    }

    #[test]
    fn all_windows_of_one_layer_are_kept_and_not_more() {
        let prepared = PreparedMessage::new(large());
        let is_kept = |level, bits| {
            let frame = prepared.compressed(setting(level, Some(bits)));
            matches!(frame.expect("shorter"), Cow::Borrowed(_))
        };
        assert!((9..=15).all(|bits| is_kept(6, bits)));
        assert!((9..=15).all(|bits| !is_kept(1, bits)));
        assert!((9..=15).all(|bits| is_kept(6, bits)));
    }

    #[test]
    fn a_prepared_message_that_does_not_become_shorter_stays_as_it_is() {
        for message in [Message::from(""), Message::from(Random(7).bytes(5000))] {
            let prepared = PreparedMessage::new(message);
            for _ in 0..2 {
                assert!(prepared.compressed(setting(6, None)).is_none());
            }
        }
    }
}

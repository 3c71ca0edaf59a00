//! Compressed messages (RFC 7692). Payloads are compressed here by flate2 itself, or are those of the RFC.

use std::borrow::Cow;

use bytes::Buf;
use flate2::{Compress, Decompress, FlushCompress, FlushDecompress};

use super::{
    BINARY, CONTINUE, FINAL, Outcome, PING, PONG, Random, Setup, TEXT, bare_frame, decode_step, frame, header,
};
use crate::close::CloseCode;
use crate::compression::Compression;
use crate::config::{Deflate, Limits, Negotiated};
use crate::error::ProtocolError;
use crate::message::Message;
use crate::protocol::{Decoder, Encoder, Event, Role, Setting, compress};

const COMPRESSED: u8 = 0x40;
/// "Hello" in one block (section 7.2.3.1).
const HELLO: [u8; 7] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];

fn deflate(level: u8, window_bits: Option<u8>) -> Deflate {
    Deflate { compression: Compression::new().level(level), window_bits }
}

pub(super) fn setting(level: u8, window_bits: Option<u8>) -> Setting {
    deflate(level, window_bits).into()
}

pub(super) fn setup(role: Role, limits: Limits) -> Setup {
    Setup { role, limits, negotiated: Negotiated { deflate: Some(deflate(6, None)) } }
}

fn decoder(role: Role, limits: Limits) -> Decoder {
    Decoder::new(role, limits).with(setup(role, limits).negotiated)
}

/// `bytes`, compressed as they are on the wire.
fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(bytes.len() + 1000);
    Compress::new(flate2::Compression::new(6), false)
        .compress_vec(bytes, &mut payload, FlushCompress::Sync)
        .unwrap();
    assert!(payload.ends_with(&[0, 0, 0xff, 0xff]));
    payload.truncate(payload.len() - 4);
    payload
}

/// Decompresses with a window of this size.
pub(super) fn inflated(payload: &[u8], window_bits: u8) -> Vec<u8> {
    let mut stream = Decompress::new_with_window_bits(false, window_bits);
    let (mut bytes, mut rest) = (Vec::new(), [payload, &[0, 0, 0xff, 0xff]].concat());
    loop {
        // in small steps, so that references are to the window and not to the output buffer
        let (mut piece, before) = (Vec::with_capacity(100), stream.total_in());
        stream.decompress_vec(&rest, &mut piece, FlushDecompress::None).unwrap();
        rest.drain(..usize::try_from(stream.total_in() - before).unwrap());
        bytes.extend_from_slice(&piece);
        if piece.len() < 100 && rest.is_empty() {
            return bytes;
        }
    }
}

fn decode_in_pieces(role: Role, limits: Limits, stream: &[u8], piece: impl FnMut() -> usize) -> Outcome {
    setup(role, limits).decode_in_pieces(stream, false, piece)
}

/// Decodes `stream` whole, byte by byte, in two pieces cut at each byte if it is short, and in random pieces, which must
/// all come to the same.
fn decode(role: Role, limits: Limits, stream: &[u8]) -> Outcome {
    let whole = decode_in_pieces(role, limits, stream, || usize::MAX);
    assert_eq!(decode_in_pieces(role, limits, stream, || 1), whole, "byte by byte");
    for cut in 1..stream.len().min(100) {
        let mut pieces = [cut, usize::MAX].into_iter();
        let outcome = decode_in_pieces(role, limits, stream, || pieces.next().unwrap_or(1));
        assert_eq!(outcome, whole, "cut at {cut}");
    }
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for _ in 0..10 {
        let most = 2 + random.below(stream.len() + 1);
        let outcome = decode_in_pieces(role, limits, stream, || 1 + random.below(most));
        assert_eq!(outcome, whole, "in random pieces");
    }
    whole
}

fn serve(stream: &[u8]) -> Outcome {
    decode(Role::Server, Limits::default(), stream)
}

fn texts(texts: &[&str]) -> Outcome {
    Outcome { events: texts.iter().map(|&text| Event::Message(text.into())).collect(), error: None }
}

fn refused(error: ProtocolError) -> Outcome {
    Outcome { events: vec![], error: Some(error) }
}

/// How many bytes of `stream` it takes until a server with these limits refuses it.
fn refused_after(limits: Limits, stream: &[u8]) -> (usize, ProtocolError) {
    let mut decoder = decoder(Role::Server, limits);
    for (index, byte) in stream.iter().enumerate() {
        if let Err(error) = decode_step(&mut decoder, &mut [*byte]) {
            assert_eq!(decoder.capacity(), 0);
            return (index + 1, error);
        }
    }
    panic!("not refused");
}

#[test]
fn the_examples_of_the_rfc_are_read() {
    let payloads: [(&[u8], &str); 6] = [
        (&HELLO, "Hello"),
        // a block that is not compressed (section 7.2.3.3)
        (&[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00], "Hello"),
        // a block that says that it is the last (section 7.2.3.4)
        (&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00], "Hello"),
        // two blocks (section 7.2.3.5)
        (&[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00], "Hello"),
        // none but the one that is cut off (section 7.2.3.6)
        (&[0x00], ""),
        (&[0x02, 0x00], ""),
    ];
    for (payload, text) in payloads {
        assert_eq!(serve(&frame(FINAL | COMPRESSED | TEXT, payload)), texts(&[text]), "{payload:x?}");
        let stream = bare_frame(FINAL | COMPRESSED | TEXT, payload);
        assert_eq!(decode(Role::Client, Limits::default(), &stream), texts(&[text]));
    }
    let fragments = [frame(COMPRESSED | TEXT, &HELLO[..3]), frame(FINAL, &HELLO[3..])].concat();
    assert_eq!(serve(&fragments), texts(&["Hello"]));
    let empty_end = [frame(COMPRESSED | TEXT, &HELLO), frame(FINAL, b"")].concat();
    assert_eq!(serve(&empty_end), texts(&["Hello"]));
}

#[test]
fn a_block_that_says_that_it_is_the_last_may_be_followed_by_others() {
    let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let twice = [&last[..], &HELLO].concat();
    assert_eq!(serve(&frame(FINAL | COMPRESSED | TEXT, &twice)), texts(&["HelloHello"]));
    let many = [[0x03, 0x00].repeat(5000), last.to_vec()].concat();
    assert_eq!(serve(&frame(FINAL | COMPRESSED | TEXT, &many)), texts(&["Hello"]));
    // not by the letter, since an empty block should follow, but nothing is missing
    assert_eq!(serve(&frame(FINAL | COMPRESSED | TEXT, &last)), texts(&["Hello"]));
}

#[test]
fn a_compressed_message_without_a_byte_is_empty() {
    assert_eq!(serve(&frame(FINAL | COMPRESSED | TEXT, b"")), texts(&[""]));
    let fragments = [frame(COMPRESSED | TEXT, b""), frame(CONTINUE, b""), frame(FINAL, &HELLO)].concat();
    assert_eq!(serve(&fragments), texts(&["Hello"]));
}

#[test]
fn a_message_is_inflated_by_itself() {
    // "Hello" as a reference to the message before (section 7.2.3.2), which context takeover would allow
    let stream = [
        frame(FINAL | COMPRESSED | TEXT, &HELLO),
        frame(FINAL | COMPRESSED | TEXT, &[0xf2, 0x00, 0x11, 0x00, 0x00]),
    ];
    let outcome = Outcome { error: Some(ProtocolError::InvalidDeflate), ..texts(&["Hello"]) };
    assert_eq!(serve(&stream.concat()), outcome);
}

#[test]
fn compressed_messages_and_others_take_turns() {
    let stream = [
        frame(FINAL | COMPRESSED | TEXT, &HELLO),
        frame(FINAL | TEXT, b"plain"),
        frame(FINAL | COMPRESSED | TEXT, &HELLO),
        frame(TEXT, b"in "),
        frame(FINAL, b"pieces"),
    ];
    assert_eq!(serve(&stream.concat()), texts(&["Hello", "plain", "Hello", "in pieces"]));
}

#[test]
fn control_frames_between_compressed_fragments_are_not_compressed() {
    let stream = [
        frame(COMPRESSED | TEXT, &HELLO[..2]),
        frame(PING, b"one"),
        frame(CONTINUE, &HELLO[2..5]),
        frame(PONG, b""),
        frame(FINAL, &HELLO[5..]),
    ];
    let events = vec![Event::Ping("one".into()), Event::Pong("".into()), Event::Message("Hello".into())];
    assert_eq!(serve(&stream.concat()), Outcome { events, error: None });
}

#[test]
fn only_the_first_frame_of_a_message_says_that_it_is_compressed() {
    let begun = frame(COMPRESSED | TEXT, &HELLO[..3]);
    let plain = frame(TEXT, b"Hel");
    for (before, first) in [
        (&[][..], COMPRESSED | PING),
        (&[], COMPRESSED | PONG),
        (&[], COMPRESSED | super::CLOSE),
        (&begun, COMPRESSED | FINAL),
        (&begun, COMPRESSED | CONTINUE),
        (&plain, COMPRESSED | FINAL),
        (&[], 0x20 | FINAL | TEXT),
        (&[], COMPRESSED | 0x10 | FINAL | TEXT),
        (&[], COMPRESSED | FINAL | 0x3),
    ] {
        let stream = [before, &frame(first, &HELLO[3..])].concat();
        assert_eq!(serve(&stream), refused(ProtocolError::ReservedBit), "{first:x}");
        let expected = (before.len() + 1, ProtocolError::ReservedBit);
        assert_eq!(refused_after(Limits::default(), &stream), expected, "{first:x}");
    }
    let inside = [begun, frame(FINAL | COMPRESSED | TEXT, &HELLO)].concat();
    assert_eq!(serve(&inside), refused(ProtocolError::ExpectedContinuation));
}

#[test]
fn without_negotiation_nothing_is_compressed() {
    let stream = frame(FINAL | COMPRESSED | TEXT, &HELLO);
    assert_eq!(super::serve(&stream), refused(ProtocolError::ReservedBit));
}

#[test]
fn data_that_is_not_deflate_is_refused_with_1007() {
    for payload in [
        // a type of block that does not exist
        &[0x06][..],
        &[0xff; 20],
        b"not compressed",
        // a length that does not agree with its complement
        &[0x00, 0x05, 0x00, 0xfa, 0xfe, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
        // a reference to before the start
        &[0xf2, 0x00, 0x11, 0x00, 0x00],
        &[&HELLO[..], &[0xff]].concat(),
    ] {
        let stream = frame(FINAL | COMPRESSED | BINARY, payload);
        assert_eq!(serve(&stream), refused(ProtocolError::InvalidDeflate), "{payload:x?}");
    }
    assert_eq!(ProtocolError::InvalidDeflate.close_code(), CloseCode::INVALID_FRAME_PAYLOAD_DATA);
    let mut begun = header(COMPRESSED | BINARY, 1000);
    begun.push(0x06 ^ super::KEY[0]);
    assert_eq!(refused_after(Limits::default(), &begun), (begun.len(), ProtocolError::InvalidDeflate));
}

#[test]
fn a_message_that_ends_inside_of_a_block_is_refused() {
    let text = "to be, or not to be: that is the question ".repeat(20);
    let payload = deflated(text.as_bytes());
    for end in 1..payload.len() {
        let stream = frame(FINAL | COMPRESSED | BINARY, &payload[..end]);
        let outcome = decode_in_pieces(Role::Server, Limits::default(), &stream, || usize::MAX);
        assert_eq!(outcome, refused(ProtocolError::InvalidDeflate), "{end}");
    }
}

#[test]
fn random_data_is_a_message_or_an_error() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let limits = Limits { max_message_size: 100, ..Limits::default() };
    for _ in 0..2000 {
        let mut payload = if random.below(2) == 0 {
            let length = random.below(30);
            random.bytes(length)
        } else {
            let code_points = random.below(60);
            deflated(random.text(code_points).as_bytes())
        };
        if !payload.is_empty() {
            let index = random.below(payload.len());
            payload[index] ^= random.bytes(1)[0];
        }
        let (front, back) = payload.split_at(random.below(payload.len() + 1));
        decode(
            Role::Server,
            limits,
            &[frame(COMPRESSED | random.pick(&[TEXT, BINARY]), front), frame(FINAL, back)].concat(),
        );
    }
}

#[test]
fn text_is_validated_as_it_is_inflated() {
    let good = "κόσμε 😀".repeat(100);
    let stream = frame(FINAL | COMPRESSED | TEXT, &deflated(good.as_bytes()));
    assert_eq!(serve(&stream), texts(&[&good]));

    let bad = deflated(b"ab\xffcd");
    assert_eq!(serve(&frame(FINAL | COMPRESSED | TEXT, &bad)), refused(ProtocolError::InvalidUtf8));
    let bytes = Event::Message(Message::from(&b"ab\xffcd"[..]));
    let outcome = Outcome { events: vec![bytes], error: None };
    assert_eq!(serve(&frame(FINAL | COMPRESSED | BINARY, &bad)), outcome);

    let cut = deflated(&"€".as_bytes()[..2]);
    assert_eq!(serve(&frame(FINAL | COMPRESSED | TEXT, &cut)), refused(ProtocolError::InvalidUtf8));
}

#[test]
fn text_fails_at_its_first_bad_byte_in_an_unfinished_message() {
    // a stored block, in which each byte of the payload is a byte of the text
    let stored = [&[0x00, 0xe8, 0x03, 0x17, 0xfc][..], b"ab\xff"].concat();
    let mut stream = header(COMPRESSED | TEXT, 2000);
    let header_len = stream.len();
    stream.extend(&frame(0, &stored)[6..]);
    stream.extend([0; 100]);
    let expected = (header_len + stored.len(), ProtocolError::InvalidUtf8);
    assert_eq!(refused_after(Limits::default(), &stream), expected);
}

#[test]
fn the_limit_of_a_message_counts_what_is_inflated() {
    let limits = Limits { max_message_size: 100_000, max_frame_size: 1000, max_fragments: 4 };
    let zeros = |length| deflated(&vec![0; length]);
    let message = Event::Message(Message::from(vec![0; 100_000]));
    let outcome = Outcome { events: vec![message], error: None };
    assert_eq!(decode(Role::Server, limits, &frame(FINAL | COMPRESSED | BINARY, &zeros(100_000))), outcome);

    let error = ProtocolError::MessageTooBig { limit: 100_000 };
    let stream = frame(FINAL | COMPRESSED | BINARY, &zeros(100_001));
    assert_eq!(decode(Role::Server, limits, &stream), refused(error));
    let fragments = [frame(COMPRESSED | BINARY, &zeros(60_000)), frame(FINAL, b"")].concat();
    assert_eq!(decode(Role::Server, limits, &fragments).error, None);
    assert_eq!(error.close_code(), CloseCode::MESSAGE_TOO_BIG);
}

#[test]
fn a_bomb_is_refused_before_it_has_its_size() {
    // 16 MiB in 16 KiB
    let bomb = deflated(&vec![0; 16 << 20]);
    let stream = frame(COMPRESSED | BINARY, &bomb);
    // asserts what memory is held between the pieces
    let error = ProtocolError::MessageTooBig { limit: 1 << 20 };
    let outcome = decode_in_pieces(Role::Server, Limits::default(), &stream, || 100);
    assert_eq!(outcome, refused(error));
    let (bytes, _) = refused_after(Limits::default(), &stream);
    assert!(bytes < stream.len() / 10, "{bytes}");
}

#[test]
fn the_limit_of_a_frame_counts_what_is_on_the_wire() {
    let random = Random(1).bytes(1000);
    // compression makes it longer
    let payload = deflated(&random);
    assert!(payload.len() > 1000);
    let stream = frame(FINAL | COMPRESSED | BINARY, &payload);
    let limits = Limits { max_message_size: 1000, max_frame_size: payload.len(), max_fragments: 1 };
    let outcome = Outcome { events: vec![Event::Message(Message::from(random))], error: None };
    assert_eq!(decode(Role::Server, limits, &stream), outcome);

    let limit = payload.len() - 1;
    let limits = Limits { max_frame_size: limit, ..limits };
    assert_eq!(decode(Role::Server, limits, &stream), refused(ProtocolError::FrameTooBig { limit }));
}

#[test]
fn compressed_fragments_are_counted() {
    let limits = Limits { max_fragments: 3, ..Limits::default() };
    let three = [frame(COMPRESSED | TEXT, b""), frame(CONTINUE, b""), frame(CONTINUE, b"")].concat();
    let stream = [three, frame(FINAL, &HELLO)].concat();
    assert_eq!(decode(Role::Server, limits, &stream), refused(ProtocolError::TooManyFragments { limit: 3 }));
}

#[test]
fn a_compressed_message_is_not_read_straight() {
    let mut decoder = decoder(Role::Server, Limits::default());
    decode_step(&mut decoder, &mut header(FINAL | COMPRESSED | BINARY, 100_000)).unwrap();
    assert!(decoder.take_payload(0).is_none());
    assert!(decoder.in_message());
}

#[test]
fn a_decoder_between_compressed_messages_is_small_and_holds_no_memory() {
    assert!(size_of::<Decoder>() <= 48, "{}", size_of::<Decoder>());
    let mut decoder = decoder(Role::Server, Limits::default());
    let payload = deflated(&vec![7; 100_000]);
    let (front, back) = payload.split_at(payload.len() / 2);
    for _ in 0..3 {
        assert_eq!(decoder.capacity(), 0);
        decode_step(&mut decoder, &mut frame(COMPRESSED | BINARY, front)).unwrap();
        assert!(decoder.capacity() > 0 && decoder.in_message());
        let (_, event) = decode_step(&mut decoder, &mut frame(FINAL, back)).unwrap();
        assert_eq!(event, Some(Event::Message(Message::from(vec![7; 100_000]))));
        assert_eq!(decoder.capacity(), 0);
        assert!(!decoder.in_message());
    }
}

#[test]
fn messages_under_way_at_once_do_not_share_a_context() {
    let texts: Vec<_> = (0..5).map(|index| format!("message {index} ").repeat(50)).collect();
    let payloads: Vec<_> = texts.iter().map(|text| deflated(text.as_bytes())).collect();
    let mut decoders: Vec<_> = texts.iter().map(|_| decoder(Role::Server, Limits::default())).collect();
    for (decoder, payload) in decoders.iter_mut().zip(&payloads) {
        decode_step(decoder, &mut frame(COMPRESSED | TEXT, &payload[..10])).unwrap();
    }
    for ((decoder, payload), text) in decoders.iter_mut().zip(&payloads).zip(&texts) {
        let (_, event) = decode_step(decoder, &mut frame(FINAL, &payload[10..])).unwrap();
        assert_eq!(event, Some(Event::Message(text.as_str().into())));
    }
}

#[test]
fn a_small_message_has_memory_of_its_own_length() {
    let stream = frame(FINAL | COMPRESSED | BINARY, &deflated(&[7; 5000]));
    let mut outcome = serve(&stream);
    let Some(Event::Message(message)) = outcome.events.pop() else { panic!("no message") };
    assert_eq!(Vec::from(message.into_bytes()).capacity(), 5000);
}

#[test]
fn a_compressed_message_is_one_frame_that_says_so() {
    let message = Message::from("Hello, hello, hello, hello, hello");
    for level in 1..=9 {
        let mut encoder = Encoder::new(Role::Server);
        encoder.frame(Cow::Owned(compress(&message, setting(level, None)).expect("shorter")));
        let stream = encoder.copy_to_bytes(encoder.remaining());
        assert_eq!(stream[0], FINAL | COMPRESSED | TEXT);
        assert_eq!(usize::from(stream[1]), stream.len() - 2);
        assert!(stream.len() < message.len());
        assert_eq!(inflated(&stream[2..], 15), message.as_bytes());
        assert_eq!(encoder.capacity(), 0);
    }
}

#[test]
fn what_does_not_become_shorter_is_not_compressed() {
    let mut random = Random(7);
    for length in [0, 1, 5, 100, 1000, 100_000] {
        let message = Message::from(random.bytes(length));
        assert!(compress(&message, setting(6, None)).is_none(), "{length}");
    }
    // and no state is kept for the next message
    let message = Message::from(vec![7; 1000]);
    let payload = compress(&message, setting(6, None)).expect("shorter").payload;
    assert_eq!(inflated(&payload, 15), message.as_bytes());
}

#[test]
fn the_window_that_was_promised_is_kept() {
    let mut random = Random(3);
    // repetitions at distances of some hundred to some ten thousand bytes
    let words: Vec<_> = (0..4000).map(|_| random.bytes(8)).collect();
    let bytes: Vec<u8> = (0..20_000_usize)
        .flat_map(|_| {
            let range = random.pick(&[10, 100, 1000, 4000]);
            words[random.below(range)].clone()
        })
        .collect();
    let message = Message::from(bytes);
    for bits in 9..=15 {
        for level in 1..=9 {
            let payload = compress(&message, setting(level, Some(bits))).expect("shorter").payload;
            assert!(inflated(&payload, bits) == message.as_bytes(), "{bits} {level}");
        }
    }
}

#[test]
fn the_decoder_reads_what_was_compressed_here() {
    let mut random = Random(0x0123_4567_89ab_cdef);
    for (sender, receiver) in [(Role::Client, Role::Server), (Role::Server, Role::Client)] {
        let mut encoder = Encoder::new(sender);
        let mut expected = Vec::new();
        for round in 0..100 {
            let longest = random.pick(&[100, 1000, 10_000, 100_000]);
            let code_points = 20 + random.below(longest);
            let text = random.text(code_points);
            let message = if round % 2 == 0 { Message::from(text) } else { Message::from(text.into_bytes()) };
            let level = u8::try_from(1 + random.below(9)).unwrap();
            let bits = random.pick(&[None, Some(9), Some(15)]);
            let compressed = compress(&message, setting(level, bits));
            encoder.frame(Cow::Owned(compressed.unwrap_or_else(|| message.clone().into())));
            expected.push(Event::Message(message));
        }
        let stream = encoder.copy_to_bytes(encoder.remaining());
        for most in [100, 10_000] {
            let outcome = decode_in_pieces(receiver, Limits::default(), &stream, || 1 + random.below(most));
            assert!(outcome.events == expected);
            assert_eq!(outcome.error, None);
        }
    }
}

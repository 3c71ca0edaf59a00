use bytes::BufMut;

use super::{
    BINARY, CLOSE, CONTINUE, FINAL, Outcome, PING, PONG, Random, TEXT, bare_frame, decode, decode_step,
    frame, header, refused_after, serve,
};
use crate::close::{CloseCode, CloseFrame};
use crate::config::Limits;
use crate::error::ProtocolError;
use crate::message::Message;
use crate::protocol::{Decoder, Event, Role};

/// No allocation can be larger.
const LARGEST: u64 = isize::MAX.cast_unsigned() as u64;

fn text(text: &str) -> Event {
    Event::Message(Message::from(text))
}

fn binary(bytes: &[u8]) -> Event {
    Event::Message(Message::from(bytes))
}

fn ping(payload: &'static [u8]) -> Event {
    Event::Ping(payload.into())
}

fn server() -> Decoder {
    Decoder::new(Role::Server, Limits::default())
}

fn small_limits() -> Limits {
    Limits { max_message_size: 100, max_frame_size: 60, max_fragments: 4 }
}

fn fine(events: Vec<Event>) -> Outcome {
    Outcome { events, error: None }
}

fn refused(error: ProtocolError) -> Outcome {
    Outcome { events: vec![], error: Some(error) }
}

#[test]
fn payloads_at_the_bounds_of_the_length_forms_arrive() {
    for length in [0, 1, 125, 126, 127, 65_535, 65_536] {
        let payload = "x".repeat(length);
        assert_eq!(serve(&frame(FINAL | TEXT, payload.as_bytes())), fine(vec![text(&payload)]));
        assert_eq!(serve(&frame(FINAL | BINARY, payload.as_bytes())), fine(vec![binary(payload.as_bytes())]));
    }
}

#[test]
fn a_length_in_a_longer_form_than_needed_is_understood() {
    let mut stream = vec![FINAL | BINARY, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0];
    stream.extend(b"ab");
    assert_eq!(serve(&stream), fine(vec![binary(b"ab")]));
}

#[test]
fn frames_of_one_read_are_events_in_their_order() {
    let stream = [
        frame(FINAL | TEXT, "eins €".as_bytes()),
        frame(PING, b"1"),
        frame(FINAL | BINARY, b"two"),
        frame(PONG, b""),
        frame(FINAL | TEXT, b""),
    ]
    .concat();
    let events = vec![text("eins €"), ping(b"1"), binary(b"two"), Event::Pong("".into()), text("")];
    assert_eq!(serve(&stream), fine(events));
}

#[test]
fn a_ping_between_fragments_comes_before_the_message() {
    let stream =
        [frame(TEXT, b"one "), frame(CONTINUE, b"two "), frame(PING, b"!"), frame(FINAL, b"three")].concat();
    assert_eq!(serve(&stream), fine(vec![ping(b"!"), text("one two three")]));
}

#[test]
fn empty_fragments_are_joined() {
    let stream = [frame(BINARY, b""), frame(CONTINUE, b""), frame(FINAL, b"")].concat();
    assert_eq!(serve(&stream), fine(vec![binary(b"")]));
    let stream = [frame(TEXT, b""), frame(CONTINUE, b"text"), frame(FINAL, b"")].concat();
    assert_eq!(serve(&stream), fine(vec![text("text")]));
}

#[test]
fn pings_and_pongs_of_every_length_arrive() {
    for length in 0..=125 {
        let payload = vec![7; length];
        let stream = [frame(PING, &payload), frame(PONG, &payload)].concat();
        let events = vec![Event::Ping(payload.clone().into()), Event::Pong(payload.into())];
        assert_eq!(serve(&stream), fine(events));
    }
}

#[test]
fn a_client_takes_frames_without_mask_and_refuses_others() {
    let stream = [bare_frame(FINAL | TEXT, b"hi"), bare_frame(PING, b"!")].concat();
    assert_eq!(decode(Role::Client, Limits::default(), &stream), fine(vec![text("hi"), ping(b"!")]));
    let masked = frame(FINAL | TEXT, b"hi");
    assert_eq!(decode(Role::Client, Limits::default(), &masked), refused(ProtocolError::Masked));
}

#[test]
fn a_broken_rule_is_an_error_at_the_byte_that_breaks_it() {
    use ProtocolError::{
        ControlTooLong, ExpectedContinuation, FragmentedControl, ReservedBit, ReservedOpcode,
        UnexpectedContinuation, Unmasked,
    };
    let begun = frame(TEXT, b"ab");
    let inside = |next: Vec<u8>| [begun.clone(), next].concat();
    let first = begun.len() + 1;
    let table = [
        (bare_frame(FINAL | TEXT, b"hi"), 2, Unmasked),
        (bare_frame(PING, b""), 2, Unmasked),
        (frame(FINAL | TEXT | 0x40, b"hi"), 1, ReservedBit),
        (frame(FINAL | TEXT | 0x20, b"hi"), 1, ReservedBit),
        (frame(PING | 0x10, b"hi"), 1, ReservedBit),
        (frame(FINAL | 0x3, b""), 1, ReservedOpcode(0x3)),
        (frame(0x7, b""), 1, ReservedOpcode(0x7)),
        (frame(FINAL | 0xb, b""), 1, ReservedOpcode(0xb)),
        (frame(FINAL | 0xf, b""), 1, ReservedOpcode(0xf)),
        (frame(0x8, b""), 1, FragmentedControl),
        (frame(0x9, b"hi"), 1, FragmentedControl),
        (frame(0xa, b"hi"), 1, FragmentedControl),
        (frame(PING, &[0; 126]), 2, ControlTooLong),
        (frame(PONG, &[0; 126]), 2, ControlTooLong),
        (frame(CLOSE, &vec![0; 70_000]), 2, ControlTooLong),
        (frame(FINAL, b"hi"), 1, UnexpectedContinuation),
        (frame(CONTINUE, b"hi"), 1, UnexpectedContinuation),
        (inside(frame(FINAL | TEXT, b"hi")), first, ExpectedContinuation),
        (inside(frame(BINARY, b"hi")), first, ExpectedContinuation),
    ];
    for (stream, bytes, error) in table {
        assert_eq!(serve(&stream), refused(error), "{stream:x?}");
        assert_eq!(refused_after(Limits::default(), &stream), (bytes, error), "{stream:x?}");
        assert_eq!(error.close_code(), CloseCode::PROTOCOL_ERROR);
    }
}

#[test]
fn a_continuation_after_the_last_fragment_is_an_error() {
    let stream = [frame(TEXT, b"a"), frame(FINAL, b"b"), frame(FINAL, b"c")].concat();
    let error = Some(ProtocolError::UnexpectedContinuation);
    assert_eq!(serve(&stream), Outcome { events: vec![text("ab")], error });
}

#[test]
fn events_before_an_error_are_not_lost() {
    let stream = [frame(FINAL | TEXT, b"fine"), frame(PING, b"too"), frame(FINAL | TEXT, b"\xff")].concat();
    let error = Some(ProtocolError::InvalidUtf8);
    assert_eq!(serve(&stream), Outcome { events: vec![text("fine"), ping(b"too")], error });
}

#[test]
fn text_fails_at_its_first_bad_byte_in_an_unfinished_frame() {
    let table: [(&[u8], usize); 7] = [
        (b"ab\xffcd", 3),
        (b"\xc0\x80", 1),             // overlong
        (b"\xe0\x80\x80", 2),         // overlong
        (b"a\xed\xa0\x80", 3),        // surrogate
        (b"\xf4\x90\x80\x80", 2),     // beyond the last code point
        (b"\xce\xba\xe1\xbd\x41", 5), // broken off by the next character
        (b"\x80", 1),                 // no start
    ];
    for (payload, bad) in table {
        let mut stream = header(FINAL | TEXT, 1000);
        let header_len = stream.len();
        stream.extend(&frame(FINAL | TEXT, payload)[6..]);
        assert_eq!(serve(&stream), refused(ProtocolError::InvalidUtf8));
        let expected = (header_len + bad, ProtocolError::InvalidUtf8);
        assert_eq!(refused_after(Limits::default(), &stream), expected, "{payload:x?}");
    }
}

#[test]
fn text_is_validated_across_fragments() {
    let code_point = "😀".as_bytes();
    for split in 0..=4 {
        let (front, back) = code_point.split_at(split);
        let stream = [frame(TEXT, front), frame(PING, b""), frame(FINAL, back)].concat();
        assert_eq!(serve(&stream), fine(vec![ping(b""), text("😀")]));
    }
    // 0xf4 may go on, but not with 0x90: known with the first byte of the second fragment, which is not the
    // last
    let stream = [frame(TEXT, b"\xf4"), frame(CONTINUE, b"\x90"), frame(FINAL, b"")].concat();
    assert_eq!(serve(&stream), refused(ProtocolError::InvalidUtf8));
    let (bytes, _) = refused_after(Limits::default(), &stream);
    assert_eq!(bytes, 14);
}

#[test]
fn a_code_point_cut_off_at_the_end_of_the_message_is_an_error() {
    let cut = &"ab€".as_bytes()[..4];
    assert_eq!(serve(&frame(FINAL | TEXT, cut)), refused(ProtocolError::InvalidUtf8));
    for last in [&cut[2..], b""] {
        let stream = [frame(TEXT, &cut[..4 - last.len()]), frame(FINAL, last)].concat();
        assert_eq!(serve(&stream), refused(ProtocolError::InvalidUtf8));
    }
}

#[test]
fn bytes_need_not_be_text() {
    let stream = [frame(BINARY, b"\xff"), frame(FINAL, b"\xc0")].concat();
    assert_eq!(serve(&stream), fine(vec![binary(b"\xff\xc0")]));
}

#[test]
fn what_is_just_at_the_limits_arrives() {
    let stream = [frame(BINARY, &[1; 60]), frame(CONTINUE, &[1; 30]), frame(FINAL, &[1; 10])].concat();
    assert_eq!(decode(Role::Server, small_limits(), &stream), fine(vec![binary(&[1; 100])]));
}

#[test]
fn a_frame_over_the_limit_is_refused_when_it_is_announced() {
    let error = ProtocolError::FrameTooBig { limit: 60 };
    for (length, bytes) in [(61, 2), (126, 4), (65_536, 10), (1 << 63, 10), (u64::MAX, 10)] {
        let stream = header(FINAL | BINARY, length);
        assert_eq!(decode(Role::Server, small_limits(), &stream), refused(error));
        assert_eq!(refused_after(small_limits(), &stream), (bytes, error), "{length}");
    }
    assert_eq!(error.close_code(), CloseCode::MESSAGE_TOO_BIG);
}

#[test]
fn a_message_over_the_limit_is_refused_when_its_last_frame_is_announced() {
    let error = ProtocolError::MessageTooBig { limit: 100 };
    let begun = frame(TEXT, &[b'a'; 60]);
    let stream = [begun.clone(), header(FINAL, 41)].concat();
    assert_eq!(decode(Role::Server, small_limits(), &stream), refused(error));
    assert_eq!(refused_after(small_limits(), &stream), (begun.len() + 2, error));
    assert_eq!(error.close_code(), CloseCode::MESSAGE_TOO_BIG);

    let limits = Limits { max_frame_size: usize::MAX, ..small_limits() };
    for length in [101, 1 << 32, 1 << 63, u64::MAX] {
        let stream = header(FINAL | BINARY, length);
        let refused_by_frame = length > LARGEST;
        let outcome = decode(Role::Server, limits, &stream);
        assert_eq!(outcome.error.unwrap().close_code(), CloseCode::MESSAGE_TOO_BIG);
        assert_eq!(outcome == refused(error), !refused_by_frame);
    }
}

#[test]
fn without_limits_a_length_that_no_memory_could_hold_is_refused() {
    let limits =
        Limits { max_message_size: usize::MAX, max_frame_size: usize::MAX, max_fragments: usize::MAX };
    for length in [1 << 63, u64::MAX] {
        let outcome = decode(Role::Server, limits, &header(BINARY, length));
        assert_eq!(outcome.error.unwrap().close_code(), CloseCode::MESSAGE_TOO_BIG);
    }
    let stream = [frame(BINARY, b"1"), header(FINAL, LARGEST)].concat();
    let outcome = decode(Role::Server, limits, &stream);
    assert_eq!(outcome.error.unwrap().close_code(), CloseCode::MESSAGE_TOO_BIG);
    // the longest announced length; memory is allocated as the bytes come
    let mut stream = header(FINAL | BINARY, LARGEST);
    stream.extend([0; 100]);
    assert_eq!(decode(Role::Server, limits, &stream), fine(vec![]));
}

#[test]
fn control_frames_are_not_under_the_limits_of_messages() {
    let limits = Limits { max_message_size: 1, max_frame_size: 1, max_fragments: 1 };
    let outcome = decode(Role::Server, limits, &frame(PING, &[1; 125]));
    assert_eq!(outcome, fine(vec![Event::Ping(vec![1; 125].into())]));
}

#[test]
fn more_fragments_than_the_limit_are_refused_empty_ones_included() {
    let error = ProtocolError::TooManyFragments { limit: 4 };
    let three = [frame(BINARY, b""), frame(PING, b""), frame(CONTINUE, b""), frame(CONTINUE, b"")].concat();
    let stream = [three.clone(), frame(FINAL, b"4")].concat();
    assert_eq!(decode(Role::Server, small_limits(), &stream), fine(vec![ping(b""), binary(b"4")]));

    let four = [three, frame(CONTINUE, b"")].concat();
    let stream = [four.clone(), frame(FINAL, b"5")].concat();
    let outcome = Outcome { events: vec![ping(b"")], error: Some(error) };
    assert_eq!(decode(Role::Server, small_limits(), &stream), outcome);
    assert_eq!(
        refused_after(small_limits(), &frame(BINARY, b"").repeat(2)).1,
        ProtocolError::ExpectedContinuation
    );
    assert_eq!(error.close_code(), CloseCode::POLICY_VIOLATION);
}

#[test]
fn fragments_are_counted_for_each_message() {
    let message =
        [frame(TEXT, b"a"), frame(CONTINUE, b"b"), frame(CONTINUE, b"c"), frame(FINAL, b"d")].concat();
    let outcome = decode(Role::Server, small_limits(), &message.repeat(3));
    assert_eq!(outcome, fine(vec![text("abcd"), text("abcd"), text("abcd")]));
}

#[test]
fn close_codes_that_may_be_sent_arrive_and_others_are_refused() {
    for code in 0..=u16::MAX {
        let payload = [&code.to_be_bytes(), "tschüß".as_bytes()].concat();
        let (_, event) = match decode_step(&mut server(), &mut frame(CLOSE, &payload)) {
            Ok(taken) => taken,
            Err(error) => {
                assert_eq!(error, ProtocolError::CloseCode(code.into()));
                assert_eq!(error.close_code(), CloseCode::PROTOCOL_ERROR);
                assert!(!CloseCode::from(code).is_sendable());
                continue;
            }
        };
        assert_eq!(event, Some(Event::Close(Some(CloseFrame::new(code, "tschüß")))));
        assert!(CloseCode::from(code).is_sendable());
    }
}

#[test]
fn a_close_frame_has_a_code_and_a_reason_or_neither() {
    let close = |payload: &[u8]| serve(&frame(CLOSE, payload));
    assert_eq!(close(b""), fine(vec![Event::Close(None)]));
    assert_eq!(close(b"\x03\xe8"), fine(vec![Event::Close(Some(CloseFrame::new(1000, "")))]));
    let longest = "x".repeat(123);
    let payload = [b"\x0f\xa1", longest.as_bytes()].concat();
    assert_eq!(close(&payload), fine(vec![Event::Close(Some(CloseFrame::new(4001, longest)))]));
    assert_eq!(close(b"\x03"), refused(ProtocolError::CloseTooShort));
    assert_eq!(close(b"\x03\xe8\xff"), refused(ProtocolError::InvalidUtf8));
    assert_eq!(close(b"\x03\xe8\xe2\x82"), refused(ProtocolError::InvalidUtf8));
}

#[test]
fn data_after_close_is_ignored() {
    let stream = [frame(CLOSE, b""), frame(FINAL | TEXT, b"late"), vec![0xff; 50]].concat();
    assert_eq!(serve(&stream), fine(vec![Event::Close(None)]));
}

#[test]
fn close_inside_of_a_fragmented_message_is_the_last_event() {
    let stream = [frame(TEXT, b"never"), frame(CLOSE, b""), frame(FINAL, b" complete")].concat();
    assert_eq!(serve(&stream), fine(vec![Event::Close(None)]));
}

#[test]
fn a_million_empty_fragments_do_not_keep_the_caller() {
    let mut stream = [frame(BINARY, b""), frame(CONTINUE, b"").repeat(1_000_000)].concat();
    let error = ProtocolError::TooManyFragments { limit: 4096 };
    assert_eq!(decode_step(&mut server(), &mut stream), Err(error));
    assert_eq!(refused_after(Limits::default(), &stream), (4096 * 6 + 1, error));
}

#[test]
fn an_idle_decoder_is_small_and_holds_no_memory() {
    assert!(size_of::<Decoder>() <= 48, "{}", size_of::<Decoder>());
    let mut decoder = server();
    for payload in [vec![7], vec![7; 100_000]] {
        let stream = [frame(BINARY, &payload), frame(PING, b"12"), frame(FINAL, &payload)].concat();
        assert_eq!(decoder.capacity(), 0);
        for chunk in stream.chunks(1000) {
            super::decode_all(&mut decoder, &mut chunk.to_vec(), &mut vec![]).unwrap();
        }
        assert_eq!(decoder.capacity(), 0);
        assert!(!decoder.in_message());
    }
}

#[test]
fn an_announced_length_is_not_allocated_before_the_bytes_arrive() {
    // more than is ever kept for the next message
    const LENGTH: usize = 64 * 1024 * 1024;
    let limits = Limits { max_message_size: LENGTH, max_frame_size: LENGTH, ..Limits::default() };
    let mut decoder = Decoder::new(Role::Server, limits);
    let mut stream = header(FINAL | BINARY, LENGTH as u64);
    stream.extend([0; 10]);
    assert_eq!(decode_step(&mut decoder, &mut stream), Ok((stream.len(), None)));
    assert!(decoder.capacity() < 32 * 1024);
    assert!(read_straight(&mut decoder, 1, 0).unwrap() < 32 * 1024);
    assert!(decoder.capacity() < 32 * 1024);
}

#[test]
fn a_message_of_one_frame_has_memory_of_its_own_length() {
    for length in [0, 1, 100, 5000, 30_000] {
        for piece in [10_000, usize::MAX] {
            let stream = frame(FINAL | BINARY, &vec![1; length]);
            for straight in [false, true] {
                let limits = Limits::default();
                let mut outcome = super::decode_in_pieces(Role::Server, limits, &stream, straight, || piece);
                let Some(Event::Message(message)) = outcome.events.pop() else { panic!("no message") };
                // no other handle shares the allocation, so this returns it unchanged
                assert_eq!(Vec::from(message.into_bytes()).capacity(), length);
            }
        }
    }
}

#[test]
fn a_fragmented_message_has_little_memory_that_it_does_not_use() {
    let fragments = [frame(BINARY, &[1; 1000]), frame(CONTINUE, &[1; 1000]).repeat(16), frame(FINAL, b"")];
    let mut outcome = serve(&fragments.concat());
    let Some(Event::Message(message)) = outcome.events.pop() else { panic!("no message") };
    assert_eq!(message.len(), 17_000);
    assert!(Vec::from(message.into_bytes()).capacity() <= 17_000 * 5 / 4);
}

#[test]
fn a_message_in_frames_of_one_read_has_memory_of_its_own_length() {
    let mut stream = [frame(BINARY, &[1; 1000]), frame(CONTINUE, &[1; 10]), frame(FINAL, b"1")].concat();
    let Ok((_, Some(Event::Message(message)))) = decode_step(&mut server(), &mut stream) else {
        panic!("no message")
    };
    assert_eq!(Vec::from(message.into_bytes()).capacity(), 1011);
}

#[test]
fn no_more_frames_of_one_read_are_taken_than_the_budget_allows() {
    for frames in [vec![frame(FINAL | BINARY, b"1"); 10], vec![frame(BINARY, b"1"), frame(FINAL, b"1")]] {
        let mut budget = u32::MAX;
        server().decode(&mut frames[0].clone(), true, &mut budget);
        let cost = u32::MAX - budget;
        assert!(cost > 0);

        for most in 0..frames.len() {
            let (mut decoder, mut stream) = (server(), frames.concat());
            let (mut taken, mut budget) = (0, cost * u32::try_from(most).unwrap());
            while budget > 0 {
                taken += decoder.decode(&mut stream[taken..], true, &mut budget).0;
            }
            assert_eq!(taken, most * frames[0].len());
            assert_eq!(decoder.decode(&mut stream[taken..], true, &mut budget), (0, None));
        }
    }
}

#[test]
fn many_small_fragments_do_not_reallocate_each_time() {
    let limits = Limits { max_fragments: usize::MAX, ..Limits::default() };
    let mut decoder = Decoder::new(Role::Server, limits);
    let mut capacities = std::collections::HashSet::new();
    decode_step(&mut decoder, &mut frame(BINARY, b"1")).unwrap();
    for _ in 0..100_000 {
        decode_step(&mut decoder, &mut frame(CONTINUE, b"1")).unwrap();
        capacities.insert(decoder.capacity());
    }
    assert!(capacities.len() < 20, "{}", capacities.len());
}

#[test]
fn a_message_has_begun_with_its_first_byte_and_goes_on_between_its_frames() {
    let mut decoder = server();
    assert!(!decoder.in_message());
    let stream = [frame(TEXT, b"a"), frame(PING, b"b"), frame(FINAL, b"c")].concat();
    let (last, begun) = stream.split_last().unwrap();
    for byte in begun {
        decode_step(&mut decoder, &mut [*byte]).unwrap();
        assert!(decoder.in_message());
    }
    assert_eq!(decode_step(&mut decoder, &mut [*last]), Ok((1, Some(text("ac")))));
    assert!(!decoder.in_message());

    let ping = frame(PING, b"b");
    for byte in &ping[..ping.len() - 1] {
        decode_step(&mut decoder, &mut [*byte]).unwrap();
        assert!(decoder.in_message());
    }
}

/// How many of the next `n` bytes may be read straight to the message's own memory.
fn read_straight(decoder: &mut Decoder, threshold: usize, n: usize) -> Option<usize> {
    let (mut payload, room) = decoder.take_payload(threshold)?;
    payload.append_limited(room).put_slice(&vec![0; n]);
    assert_eq!(decoder.put_payload(payload, n), None);
    Some(room)
}

#[test]
fn only_the_rest_of_a_data_frame_is_read_straight() {
    let mut decoder = server();
    assert_eq!(read_straight(&mut decoder, 0, 0), None);
    decode_step(&mut decoder, &mut header(PING, 100)).unwrap();
    assert_eq!(read_straight(&mut decoder, 0, 0), None);

    let mut decoder = server();
    decode_step(&mut decoder, &mut header(FINAL | BINARY, 1000)).unwrap();
    assert_eq!(read_straight(&mut decoder, 1001, 0), None);
    assert_eq!(read_straight(&mut decoder, 1000, 0), Some(1000));
    assert_eq!(read_straight(&mut decoder, 1000, 600), Some(1000));
    assert_eq!(read_straight(&mut decoder, 401, 0), None);
    assert_eq!(read_straight(&mut decoder, 400, 0), Some(400));
    assert_eq!(decoder.capacity(), 1000);
}

#[test]
#[should_panic(expected = "no more is taken than was read")]
fn more_than_was_read_is_not_taken() {
    let mut decoder = server();
    decode_step(&mut decoder, &mut header(FINAL | BINARY, 1000)).unwrap();
    let (payload, _) = decoder.take_payload(1).unwrap();
    let _ = decoder.put_payload(payload, 1);
}

#[test]
fn random_streams_are_the_same_however_they_are_cut() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..300 {
        let mut stream = Vec::new();
        for _ in 0..random.below(12) {
            let first = random.pick(&[TEXT, FINAL | TEXT, BINARY, CONTINUE, CONTINUE, FINAL, PING, PONG]);
            let characters = random.below(40);
            stream.extend(frame(first, random.text(characters).as_bytes()));
        }
        // most of the time one byte is wrong
        if !stream.is_empty() && random.below(4) > 0 {
            let index = random.below(stream.len());
            stream[index] ^= random.bytes(1)[0];
        }
        let role = random.pick(&[Role::Server, Role::Server, Role::Server, Role::Client]);
        decode(role, random.pick(&[small_limits(), Limits::default()]), &stream);
    }
    for length in 0..300 {
        decode(random.pick(&[Role::Server, Role::Client]), small_limits(), &random.bytes(length));
    }
}

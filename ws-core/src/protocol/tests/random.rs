//! Random streams. proptest shortens those that fail.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::{
    BINARY, CLOSE, CONTINUE, FINAL, PING, PONG, Random, Role, Setup, TEXT, bare_frame, frame, tungstenite,
};
use crate::config::Limits;
use crate::protocol::mask::Mask;
use crate::utf8::PayloadBuffer;

fn role() -> impl Strategy<Value = Role> {
    select(&[Role::Server, Role::Client])
}

/// Small, so that streams reach them. tungstenite applies them to control frames as well, which have up to 125 bytes.
fn limits() -> impl Strategy<Value = Limits> {
    (125..400_usize, 125..300_usize, select(&[1, 3, usize::MAX])).prop_map(
        |(max_message_size, max_frame_size, max_fragments)| Limits {
            max_message_size,
            max_frame_size,
            max_fragments,
        },
    )
}

/// With and without compression, where there is any.
fn setup() -> impl Strategy<Value = Setup> {
    (role(), limits(), any::<bool>()).prop_map(|(role, limits, compressed)| match compressed {
        #[cfg(feature = "deflate")]
        true => super::deflate::setup(role, limits),
        _ => Setup::plain(role, limits),
    })
}

fn first_byte() -> impl Strategy<Value = u8> {
    prop_oneof![
        12 => select(&[TEXT, FINAL | TEXT, FINAL | BINARY, BINARY, CONTINUE, CONTINUE, FINAL, PING, PONG]),
        3 => select(&[0x40 | TEXT, 0x40 | FINAL | TEXT, 0x40 | FINAL | BINARY]),
        1 => Just(CLOSE),
        1 => any::<u8>(),
    ]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => text().prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..140),
        // a Close frame's
        1 => (select(&[1000, 1002, 1004, 1014, 1015, 2999, 4000, 5000_u16]), text())
            .prop_map(|(code, reason)| [&code.to_be_bytes(), reason.as_bytes()].concat()),
        // "Hello", compressed
        2 => Just(vec![0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]),
    ]
}

fn text() -> impl Strategy<Value = String> {
    vec(select(&['a', 'ß', '€', '😀']), 0..40).prop_map(String::from_iter)
}

/// Frames, most of them valid. The stream may be cut off, and a byte may be changed.
fn stream(role: Role) -> impl Strategy<Value = Vec<u8>> {
    let frames = vec((first_byte(), payload()), 0..8).prop_map(move |frames| {
        let frame = match role {
            Role::Server => frame,
            Role::Client => bare_frame,
        };
        frames.iter().flat_map(|(first, payload)| frame(*first, payload)).collect::<Vec<_>>()
    });
    let change = proptest::option::weighted(0.2, (any::<prop::sample::Index>(), any::<u8>()));
    let cut = proptest::option::weighted(0.2, any::<prop::sample::Index>());
    (frames, change, cut).prop_map(|(mut stream, change, cut)| {
        if let Some((at, byte)) = change
            && !stream.is_empty()
        {
            let at = at.index(stream.len());
            stream[at] = byte;
        }
        if let Some(end) = cut {
            stream.truncate(end.index(stream.len() + 1));
        }
        stream
    })
}

fn setup_and_stream() -> impl Strategy<Value = (Setup, Vec<u8>)> {
    setup().prop_flat_map(|setup| (Just(setup), stream(setup.role)))
}

proptest! {
    #[test]
    fn how_a_stream_is_cut_changes_nothing(
        (setup, stream) in setup_and_stream(),
        straight: bool,
        most in 1..200_usize,
        seed in 1..u64::MAX,
    ) {
        let mut random = Random(seed);
        setup.check_pieces(&stream, straight, || 1 + random.below(most));
    }

    #[test]
    fn any_bytes_are_a_stream(setup in setup(), stream in vec(any::<u8>(), 0..300)) {
        setup.check_pieces(&stream, true, || 1);
        setup.check_round_trip(&stream);
        tungstenite::check(setup.role, setup.limits, &stream);
    }

    #[test]
    fn tungstenite_agrees((setup, stream) in setup_and_stream()) {
        tungstenite::check(setup.role, setup.limits, &stream);
    }

    #[test]
    fn what_is_read_can_be_sent_on((setup, stream) in setup_and_stream()) {
        setup.check_round_trip(&stream);
    }

    #[cfg(feature = "deflate")]
    #[test]
    fn compression_changes_compressed_messages_only((setup, stream) in setup_and_stream()) {
        setup.check_compression_apart(&stream);
    }

    #[test]
    fn a_mask_is_that_of_the_rfc(key: [u8; 4], bytes in vec(any::<u8>(), 0..300), cut: prop::sample::Index) {
        let mut masked = bytes.clone();
        let (front, back) = masked.split_at_mut(cut.index(bytes.len() + 1));
        let mut mask = Mask::new(key);
        mask.apply(front);
        mask.apply(back);
        let expected: Vec<u8> = bytes.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        prop_assert_eq!(masked, expected);
    }

    #[test]
    fn text_in_pieces_is_what_the_standard_library_takes_for_text(
        bytes in prop_oneof![vec(any::<u8>(), 0..12), payload()],
        piece in 1..20_usize,
    ) {
        let mut buffer = PayloadBuffer::default();
        let mut validated = Ok(());
        let mut arrived = 0;
        for piece in bytes.chunks(piece) {
            buffer.extend_from_slice(piece);
            arrived += piece.len();
            validated = validated.and_then(|()| buffer.validate());
            let is_bad = str::from_utf8(&bytes[..arrived]).is_err_and(|error| error.error_len().is_some());
            prop_assert_eq!(validated.is_err(), is_bad);
        }
        let text = validated.and_then(|()| buffer.into_text());
        prop_assert_eq!(text.as_deref().ok(), str::from_utf8(&bytes).ok());
    }
}

//! The messages of a scenario, with their frames, made before anything is measured.

use super::frame::{BINARY, CONTINUATION, TEXT, encode};

/// What a message is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Payload {
    /// Bytes of every value.
    Binary,
    /// Text of one byte per character.
    Ascii,
    /// Text of one to four bytes per character, most of two and three.
    NonAscii,
}

/// Messages that differ in payload and mask, so that an answer in another order is seen, in a ring.
pub(crate) struct Traffic {
    opcode: u8,
    payloads: Vec<Vec<u8>>,
    /// The frames of the ring once, and then as many again as are sent at once: any number of messages up to the window,
    /// from anywhere in the ring, is one slice.
    frames: Vec<u8>,
    stride: usize,
}

impl Traffic {
    /// Messages of `size` bytes in `fragments` frames each, of which up to `window` are sent at once.
    pub(crate) fn new(payload: Payload, size: usize, fragments: usize, window: usize) -> Self {
        // so many that the next ones differ, and so few that a processor's cache holds them
        let variants = if size < 1 << 20 { 4 } else { 2 };
        let mut random = fastrand::Rng::with_seed(6455);
        let opcode = if payload == Payload::Binary { BINARY } else { TEXT };
        let payloads: Vec<Vec<u8>> =
            (0..variants).map(|_| make_payload(payload, size, &mut random)).collect();
        let mut frames = Vec::new();
        for payload in &payloads {
            for fragment in 0..fragments {
                let part = &payload[size * fragment / fragments..size * (fragment + 1) / fragments];
                let opcode = if fragment == 0 { opcode } else { CONTINUATION };
                encode(&mut frames, fragment + 1 == fragments, opcode, random.u32(..).to_ne_bytes(), part);
            }
        }
        let stride = frames.len() / variants;
        while frames.len() < stride * (variants + window - 1) {
            frames
                .extend_from_within(frames.len() - stride * variants..frames.len() - stride * (variants - 1));
        }
        Self { opcode, payloads, frames, stride }
    }

    pub(crate) fn opcode(&self) -> u8 {
        self.opcode
    }

    pub(crate) fn payload(&self, message: usize) -> &[u8] {
        &self.payloads[message]
    }

    /// The message that comes after `message`.
    pub(crate) fn after(&self, message: usize) -> usize {
        self.skip(message, 1)
    }

    /// The message that comes `count` after `message`.
    pub(crate) fn skip(&self, message: usize, count: usize) -> usize {
        (message + count) % self.payloads.len()
    }

    /// The frames of `count` messages from `message` on.
    pub(crate) fn frames(&self, message: usize, count: usize) -> &[u8] {
        &self.frames[message * self.stride..(message + count) * self.stride]
    }

    /// How many bytes the frames of one message are.
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }
}

fn make_payload(payload: Payload, size: usize, random: &mut fastrand::Rng) -> Vec<u8> {
    match payload {
        Payload::Binary => (0..size).map(|_| random.u8(..)).collect(),
        Payload::Ascii => (0..size).map(|_| random.u8(b' '..=b'~')).collect(),
        Payload::NonAscii => {
            let mut text = String::with_capacity(size);
            while text.len() < size {
                let character = match random.u8(..16) {
                    0 | 1 => random.char('a'..='z'),
                    2..9 => random.char('\u{430}'..='\u{44f}'),
                    9..15 => random.char('\u{4e00}'..='\u{9fff}'),
                    _ => random.char('\u{1f600}'..='\u{1f64f}'),
                };
                text.push(if text.len() + character.len_utf8() > size { '.' } else { character });
            }
            text.into_bytes()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_window_from_anywhere_is_the_messages_in_turn() {
        let traffic = Traffic::new(Payload::Binary, 16, 1, 32);
        for first in 0..traffic.payloads.len() {
            let window: Vec<u8> =
                (0..32).flat_map(|count| traffic.frames(traffic.skip(first, count), 1).to_vec()).collect();
            assert_eq!(traffic.frames(first, 32), window);
        }
    }

    #[test]
    fn the_messages_of_a_ring_differ() {
        let traffic = Traffic::new(Payload::Ascii, 16, 1, 1);
        assert_ne!(traffic.payload(0), traffic.payload(1));
    }

    #[test]
    fn non_ascii_text_is_valid_and_exactly_as_long_as_asked() {
        for size in [1, 2, 3, 1024, 1025] {
            let text =
                String::from_utf8(make_payload(Payload::NonAscii, size, &mut fastrand::Rng::with_seed(1)));
            assert_eq!(text.unwrap().len(), size);
        }
    }

    #[test]
    fn fragments_are_frames_of_which_only_the_last_is_final() {
        let traffic = Traffic::new(Payload::Binary, 1024, 16, 1);
        assert_eq!(traffic.stride(), 16 * (2 + 4 + 64));
        let first_bytes: Vec<u8> = traffic.frames(0, 1).chunks(70).map(|frame| frame[0]).collect();
        assert_eq!(first_bytes[0], BINARY);
        assert!(first_bytes[1..15].iter().all(|byte| *byte == CONTINUATION));
        assert_eq!(first_bytes[15], 0x80 | CONTINUATION);
    }
}

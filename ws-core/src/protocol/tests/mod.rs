//! Tests of the decoder and the encoder from outside, and helpers that build streams and cut them into pieces.
//!
//! The helpers do not use the encoder, so that decoder and encoder cannot agree on a mistake.

mod decoding;
#[cfg(feature = "deflate")]
mod deflate;
mod encoding;
mod oracle;
mod prepared;
mod random;

use super::properties::{Outcome, Setup, decode_all, decode_step, tungstenite};
use super::{Decoder, Role};
use crate::config::Limits;
use crate::error::ProtocolError;

const FINAL: u8 = 0x80;
const CONTINUE: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = FINAL | 0x8;
const PING: u8 = FINAL | 0x9;
const PONG: u8 = FINAL | 0xa;

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Deterministic, so that a failure can be repeated (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_le_bytes()[3]).collect()
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Random text with code points of one to four bytes.
    fn text(&mut self, code_points: usize) -> String {
        (0..code_points).map(|_| self.pick(&['a', 'ß', '€', '😀'])).collect()
    }
}

/// A header in the shortest form, without mask.
fn bare_header(first: u8, length: u64) -> Vec<u8> {
    let mut header = vec![first];
    match length {
        0..=125 => header.push(u8::try_from(length).unwrap()),
        126..=0xffff => {
            header.push(126);
            header.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        _ => {
            header.push(127);
            header.extend(length.to_be_bytes());
        }
    }
    header
}

/// A client's header.
fn header(first: u8, length: u64) -> Vec<u8> {
    let mut header = bare_header(first, length);
    header[1] |= 0x80;
    header.extend(KEY);
    header
}

/// A client's frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, payload.len() as u64);
    frame.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// A server's frame.
fn bare_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = bare_header(first, payload.len() as u64);
    frame.extend(payload);
    frame
}

/// Decodes `stream` in pieces, without compression.
fn decode_in_pieces(
    role: Role,
    limits: Limits,
    stream: &[u8],
    straight: bool,
    piece: impl FnMut() -> usize,
) -> Outcome {
    Setup::plain(role, limits).decode_in_pieces(stream, straight, piece)
}

/// Decodes `stream` whole, byte by byte and in random pieces, which must all come to the same.
fn decode(role: Role, limits: Limits, stream: &[u8]) -> Outcome {
    let whole = decode_in_pieces(role, limits, stream, false, || usize::MAX);
    let same = |straight, piece: &mut dyn FnMut() -> usize, how| {
        assert_eq!(decode_in_pieces(role, limits, stream, straight, piece), whole, "{how}");
    };
    same(true, &mut || usize::MAX, "as much as there is room for");
    same(false, &mut || 1, "byte by byte");
    same(true, &mut || 1, "byte by byte, straight");
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for round in 0..20 {
        let most = 2 + random.below(if round % 2 == 0 { 20 } else { stream.len() + 1 });
        same(round % 4 < 2, &mut || 1 + random.below(most), "in random pieces");
    }
    whole
}

/// As [`decode`], at a server with the default limits.
fn serve(stream: &[u8]) -> Outcome {
    decode(Role::Server, Limits::default(), stream)
}

/// How many bytes of `stream` it takes until a server with these limits refuses it.
fn refused_after(limits: Limits, stream: &[u8]) -> (usize, ProtocolError) {
    let mut decoder = Decoder::new(Role::Server, limits);
    for (index, byte) in stream.iter().enumerate() {
        if let Err(error) = decode_step(&mut decoder, &mut [*byte]) {
            return (index + 1, error);
        }
    }
    panic!("not refused");
}

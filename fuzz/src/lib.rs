//! What several of the fuzzers use.

pub mod grammar;
pub mod server;
pub mod wire;

use ws_core::fuzzing::Decoding;

/// Numbers that depend on a seed only (xorshift).
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Each seed has numbers of its own.
    #[must_use]
    pub fn new(seed: u8) -> Self {
        Self(0x2545_f491_4f6c_dd1d ^ u64::from(seed) << 32)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 32).unwrap_or_default() % end
    }
}

/// How a stream is decoded: the bits of a byte say it, so that the rest of the fuzzer's bytes are the stream, and its
/// dictionary and seeds are frames.
#[must_use]
pub fn decoding(choice: u8) -> Decoding {
    let pick = |shift: u8, from: [usize; 4]| from[usize::from(choice >> shift & 3)];
    Decoding {
        client: choice & 1 != 0,
        deflate: choice & 2 != 0,
        max_message_size: pick(2, [70_000, 1000, 125, 3000]),
        max_frame_size: pick(4, [70_000, 1000, 125, 3000]),
        max_fragments: pick(6, [usize::MAX, 5, 1, 2]),
    }
}

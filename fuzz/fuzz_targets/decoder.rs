//! Any bytes, in any pieces: no panic, bounded memory, and the same events and errors however they are cut; and what was
//! read can be sent on.
//!
//! Input: a byte for the limits, a seed for the cuts, then the stream.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ws_fuzz::{Random, decoding};

fuzz_target!(|input: &[u8]| {
    let [choice, seed, stream @ ..] = input else { return };
    let decoding = decoding(*choice);
    let mut random = Random::new(*seed);
    // mostly short ones, which is where the cuts are that matter
    let most = 1 + random.below([4, 20, 300, 20_000][usize::from(seed >> 1 & 3)]);
    decoding.check_pieces(stream, seed & 1 != 0, || 1 + random.below(most));
    decoding.check_pieces(stream, seed & 1 == 0, || 1);
    decoding.check_round_trip(stream);
});

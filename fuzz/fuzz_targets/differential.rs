//! Any bytes, read by us and by tungstenite: the same messages, and the same verdict. What differs, and why, is in the
//! table of `ws-core/src/protocol/properties/tungstenite.rs`.
//!
//! Input: a byte for the limits, then the stream.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ws_fuzz::decoding;

fuzz_target!(|input: &[u8]| {
    let [choice, stream @ ..] = input else { return };
    decoding(*choice).check_against_tungstenite(stream);
});

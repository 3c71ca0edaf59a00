//! A client's frames become messages.

use divan::{Bencher, black_box, counter::BytesCount};
use ws_bench_micro::{Kind, ascii, binary, fragments, frame, non_ascii};
use ws_core::benchmarking::Decoder;

const LENGTHS: [usize; 4] = [16, 125, 1024, 64 * 1024];

#[divan::bench(name = "binary", args = LENGTHS)]
fn binary_messages(bencher: Bencher<'_, '_>, length: usize) {
    decode(bencher, length, &frame(Kind::Binary, &binary(length)));
}

#[divan::bench(name = "ascii", args = LENGTHS)]
fn ascii_texts(bencher: Bencher<'_, '_>, length: usize) {
    decode(bencher, length, &frame(Kind::Text, ascii(length).as_bytes()));
}

#[divan::bench(name = "non_ascii", args = LENGTHS)]
fn non_ascii_texts(bencher: Bencher<'_, '_>, length: usize) {
    decode(bencher, length, &frame(Kind::Text, non_ascii(length).as_bytes()));
}

#[divan::bench(args = [1024, 64 * 1024])]
fn sixteen_fragments(bencher: Bencher<'_, '_>, length: usize) {
    decode(bencher, length, &fragments(&binary(length), 16));
}

fn decode(bencher: Bencher<'_, '_>, length: usize, frames: &[u8]) {
    let mut decoder = Decoder::server();
    // decoding unmasks in place, so that each time needs a copy
    bencher.counter(BytesCount::new(length)).with_inputs(|| frames.to_vec()).bench_local_refs(|input| {
        decoder.decode(input, |message| drop(black_box(message)));
    });
}

//! A client's frames become messages, with a copy of the frames to begin with.

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
    let mut input = frames.to_vec();
    bencher.counter(BytesCount::new(length)).bench_local(|| {
        // decoding unmasks in place. Made anew in one place, as reading does, the input is where the cache has it
        input.copy_from_slice(black_box(frames));
        decoder.decode(&mut input, |message| drop(black_box(message)));
    });
}

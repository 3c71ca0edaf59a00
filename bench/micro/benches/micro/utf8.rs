//! Whether 1 KiB of text is UTF-8, with the standard library's opinion beside ours.

use std::str::from_utf8;

use bytes::Bytes;
use divan::{Bencher, black_box, counter::BytesCount};
use ws_bench_micro::{ascii, non_ascii};
use ws_core::Utf8Bytes;
use ws_core::benchmarking::assemble;

const LENGTH: usize = 1024;

#[divan::bench(args = ["ascii", "mixed"])]
fn one_piece(bencher: Bencher<'_, '_>, script: &str) {
    let text = Bytes::from(text(script));
    bencher
        .counter(BytesCount::new(LENGTH))
        .with_inputs(|| text.clone())
        .bench_values(|text| Utf8Bytes::try_from(text).expect("valid text"));
}

#[divan::bench(args = ["ascii", "mixed"])]
fn standard_library(bencher: Bencher<'_, '_>, script: &str) {
    let text = text(script);
    bencher
        .counter(BytesCount::new(LENGTH))
        .bench(|| from_utf8(black_box(text.as_bytes())).expect("valid text").len());
}

/// As fragments come, which are copied to where the message is assembled.
#[divan::bench(args = ["ascii", "mixed"])]
fn four_pieces(bencher: Bencher<'_, '_>, script: &str) {
    let text = text(script);
    bencher
        .counter(BytesCount::new(LENGTH))
        .bench(|| assemble(black_box(text.as_bytes()).chunks(LENGTH / 4)).expect("valid text"));
}

fn text(script: &str) -> String {
    match script {
        "ascii" => ascii(LENGTH),
        _ => non_ascii(LENGTH),
    }
}

//! Messages become frames, which all leave at once.

use bytes::Bytes;
use divan::{Bencher, counter::BytesCount};
use ws_bench_micro::binary;
use ws_core::Message;
use ws_core::benchmarking::Encoder;

#[divan::bench(args = [16, 1024, 64 * 1024])]
fn server(bencher: Bencher<'_, '_>, length: usize) {
    encode(bencher, length, Encoder::server());
}

#[divan::bench(args = [1024])]
fn client(bencher: Bencher<'_, '_>, length: usize) {
    encode(bencher, length, Encoder::client());
}

fn encode(bencher: Bencher<'_, '_>, length: usize, mut encoder: Encoder) {
    let payload = Bytes::from(binary(length));
    bencher
        .counter(BytesCount::new(length))
        .with_inputs(|| Message::Binary(payload.clone()))
        .bench_local_values(|message| {
            encoder.encode(message);
            encoder.write()
        });
}

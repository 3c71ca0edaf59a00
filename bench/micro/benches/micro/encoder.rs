//! Messages become frames, which all leave at once. By time alone: a large payload is passed on and not copied, so that
//! bytes per second would say nothing.

use bytes::Bytes;
use divan::Bencher;
use ws_bench_micro::binary;
use ws_core::Message;
use ws_core::benchmarking::Encoder;

#[divan::bench(args = [16, 1024, 64 * 1024])]
fn server(bencher: Bencher<'_, '_>, length: usize) {
    encode(bencher, &binary(length), Encoder::server());
}

#[divan::bench(args = [1024])]
fn client(bencher: Bencher<'_, '_>, length: usize) {
    encode(bencher, &binary(length), Encoder::client());
}

fn encode(bencher: Bencher<'_, '_>, payload: &[u8], mut encoder: Encoder) {
    let payload = Bytes::copy_from_slice(payload);
    bencher.with_inputs(|| Message::Binary(payload.clone())).bench_local_values(|message| {
        encoder.encode(message);
        encoder.write()
    });
}

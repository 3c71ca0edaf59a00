//! The XOR of a client's payload.

use divan::{Bencher, black_box, counter::BytesCount};
use ws_bench_micro::{KEY, binary};
use ws_core::benchmarking::apply_mask;

const LENGTHS: [usize; 4] = [16, 1024, 64 * 1024, 1024 * 1024];

#[divan::bench(args = LENGTHS)]
fn aligned(bencher: Bencher<'_, '_>, length: usize) {
    apply(bencher, length, 0);
}

/// As behind a header of a frame, which is of any length.
#[divan::bench(args = LENGTHS)]
fn unaligned(bencher: Bencher<'_, '_>, length: usize) {
    apply(bencher, length, 1);
}

/// Applies the mask to `length` bytes from `offset` on, counted from an address that a vector register is aligned to.
fn apply(bencher: Bencher<'_, '_>, length: usize, offset: usize) {
    const ALIGNMENT: usize = 64;
    let mut bytes = binary(length + 2 * ALIGNMENT);
    let start = bytes.as_ptr().align_offset(ALIGNMENT) + offset;
    let payload = &mut bytes[start..start + length];
    // what is masked twice is what it was
    bencher.counter(BytesCount::new(length)).bench_local(|| apply_mask(KEY, black_box(payload)));
}

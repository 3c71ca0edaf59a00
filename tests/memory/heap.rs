//! The heap of this process, counted: every allocation of the server's and of the test's.

use std::alloc::System;

use peakmem_alloc::{PeakMemAlloc, PeakMemAllocTrait as _};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

/// One counts what there is, the other the most there was at once.
#[global_allocator]
static HEAP: PeakMemAlloc<&StatsAlloc<System>> = PeakMemAlloc::new(&INSTRUMENTED_SYSTEM);

/// Bytes that are allocated now.
pub(crate) fn live() -> usize {
    let stats = INSTRUMENTED_SYSTEM.stats();
    stats.bytes_allocated.saturating_sub(stats.bytes_deallocated)
}

/// Begins to look for the most growth anew.
pub(crate) fn reset_growth() {
    HEAP.reset_peak_memory();
}

/// By how many bytes the heap has been larger than at [`reset_growth`], at the most.
pub(crate) fn growth() -> usize {
    HEAP.get_peak_memory()
}

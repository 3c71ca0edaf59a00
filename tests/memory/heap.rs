//! The heap of this process, counted: every allocation of the server's and of the test's.
#![expect(
    unsafe_code,
    reason = "an allocator cannot be written without; it hands every call on to the system's"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What no connection at rest may hold: a buffer.
const LARGE: usize = 4 * 1024;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static LARGE_ONES: AtomicUsize = AtomicUsize::new(0);

struct Counting;

#[global_allocator]
static HEAP: Counting = Counting;

/// Bytes that are allocated now.
pub(crate) fn live() -> usize {
    LIVE.load(Ordering::SeqCst)
}

/// Allocations of 4 KiB or more that are alive now.
pub(crate) fn large_ones() -> usize {
    LARGE_ONES.load(Ordering::SeqCst)
}

/// Begins to look for a new peak.
pub(crate) fn reset_peak() {
    PEAK.store(live(), Ordering::SeqCst);
}

/// The most bytes that were allocated at once since [`reset_peak`].
pub(crate) fn peak() -> usize {
    PEAK.load(Ordering::SeqCst)
}

fn count(size: usize) {
    let live = LIVE.fetch_add(size, Ordering::SeqCst) + size;
    PEAK.fetch_max(live, Ordering::SeqCst);
    LARGE_ONES.fetch_add(usize::from(size >= LARGE), Ordering::SeqCst);
}

fn uncount(size: usize) {
    LIVE.fetch_sub(size, Ordering::SeqCst);
    LARGE_ONES.fetch_sub(usize::from(size >= LARGE), Ordering::SeqCst);
}

// SAFETY: each method hands its arguments on to `System`, which keeps the contract; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as the caller's
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        uncount(layout.size());
        // SAFETY: as the caller's
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        uncount(layout.size());
        // SAFETY: as the caller's
        unsafe { System.realloc(pointer, layout, size) }
    }
}

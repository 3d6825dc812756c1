//! An allocator that counts the bytes alive when asked to.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering::Relaxed};

static COUNTS: AtomicBool = AtomicBool::new(false);
static ALIVE: AtomicIsize = AtomicIsize::new(0);
static PEAK: AtomicIsize = AtomicIsize::new(0);

/// Counts what passes through another allocator. Switched off, as it is at first, it costs one
/// relaxed load an allocation.
pub struct Counting<A>(pub A);

/// Starts to count.
pub fn start() {
    COUNTS.store(true, Relaxed);
}

/// Bytes allocated less bytes freed since the start.
pub fn alive() -> isize {
    ALIVE.load(Relaxed)
}

/// Runs `work` and returns the most bytes that were alive meanwhile, with its result.
pub fn peak<T>(work: impl FnOnce() -> T) -> (isize, T) {
    PEAK.store(alive(), Relaxed);
    let result = work();
    (PEAK.load(Relaxed), result)
}

fn count(bytes: isize) {
    if COUNTS.load(Relaxed) {
        let alive = ALIVE.fetch_add(bytes, Relaxed) + bytes;
        PEAK.fetch_max(alive, Relaxed);
    }
}

// SAFETY: every call goes to the inner allocator unchanged; counting touches atomics alone.
#[allow(unsafe_code, reason = "an allocator is unsafe by its contract")]
unsafe impl<A: GlobalAlloc> GlobalAlloc for Counting<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: `place` came from the inner allocator with this layout.
        unsafe { self.0.dealloc(place, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: `place` came from the inner allocator with this layout.
        unsafe { self.0.realloc(place, layout, size) }
    }
}

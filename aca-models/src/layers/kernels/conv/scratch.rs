//! Working memory of a thread, kept between calls: fresh memory of this size costs a page fault every
//! four kilobytes.

use std::cell::RefCell;

use pulp::bytemuck;

use super::lanes::Lanes;

thread_local! {
    static KEPT: RefCell<Vec<Vec<u64>>> = const { RefCell::new(Vec::new()) };
}

/// Runs `body`, which may call this again, on `size` elements of any content, which start at a cache line.
pub(super) fn with<T: Lanes, R>(size: usize, body: impl FnOnce(&mut [T]) -> R) -> R {
    let mut kept = KEPT.with_borrow_mut(Vec::pop).unwrap_or_default();
    let words = (size * size_of::<T>()).div_ceil(8) + 8;
    if kept.len() < words {
        kept = vec![0; words];
    }
    let elements: &mut [T] = bytemuck::cast_slice_mut(&mut kept);
    let start = elements.as_ptr().align_offset(64).min(64 / size_of::<T>());
    let result = body(&mut elements[start..start + size]);
    KEPT.with_borrow_mut(|all| all.push(kept));
    result
}

//! Tasks among threads, and slices that they write in parts which are disjoint but not contiguous.
#![allow(unsafe_code, reason = "tasks share an output whose parts interleave")]

use std::marker::PhantomData;

use rayon::prelude::*;

/// Runs `count` tasks, among rayon's threads if `shared`.
pub(crate) fn each(count: usize, shared: bool, task: impl Fn(usize) + Send + Sync) {
    if shared && count > 1 {
        (0..count).into_par_iter().for_each(task);
    } else {
        (0..count).for_each(task);
    }
}

/// Memory of elements that tasks write side by side.
pub(crate) struct Scatter<'a, T> {
    start: *mut T,
    size: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: the pointer stands for an exclusive borrow, and `row` asks that rows of tasks are disjoint.
unsafe impl<T: Send> Sync for Scatter<'_, T> {}

impl<'a, T: Copy> Scatter<'a, T> {
    /// Shares `slice`.
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), size: slice.len(), slice: PhantomData }
    }

    /// Writes the elements from `at` on.
    ///
    /// # Safety
    /// Nobody else touches them at the same time.
    #[inline(always)]
    pub(crate) unsafe fn write(&self, at: usize, from: &[T]) {
        assert!(at + from.len() <= self.size, "a row ends beyond its slice");
        // SAFETY: the row lies inside the slice by the line above, and is the caller's by its promise.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), self.start.add(at), from.len()) }
    }

    /// The elements `at..at + size`.
    ///
    /// # Safety
    /// They were written before, and while the result lives nobody else touches them.
    #[inline(always)]
    #[allow(clippy::mut_from_ref, reason = "the caller promises that rows do not overlap")]
    pub(crate) unsafe fn row(&self, at: usize, size: usize) -> &mut [T] {
        assert!(at + size <= self.size, "a row ends beyond its slice");
        // SAFETY: the row lies inside the slice by the line above; by the caller's promise it is alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(at), size) }
    }
}

/// A vector of `size` elements that `write` writes without exception: clearing it first would be one more
/// pass over memory.
///
/// # Safety
/// `write` writes every element before it returns, and takes no [`row`](Scatter::row).
pub(crate) unsafe fn written<T: Copy>(size: usize, write: impl FnOnce(&Scatter<'_, T>)) -> Vec<T> {
    let mut out = Vec::with_capacity(size);
    write(&Scatter { start: out.as_mut_ptr(), size, slice: PhantomData });
    // SAFETY: the capacity is `size`, and the caller promises that all elements are written.
    unsafe { out.set_len(size) };
    out
}

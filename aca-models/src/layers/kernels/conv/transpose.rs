//! Squares of elements turned over: how images with channels first meet vectors of channels.
#![allow(unsafe_code, reason = "rows of a scattered slice")]

use pulp::Arch;

use super::lanes::{GROUP, Lanes};
use crate::layers::kernels::scatter::{Scatter, each};

/// Elements from which squares are shared among threads: 20 us on one, where handing work to rayon's threads
/// takes 15 us.
const SHARED: usize = 1 << 18;

/// The elements of a square, row by row.
pub(super) type Square<T> = [T; GROUP * GROUP];

/// Writes the first elements of `from`, a square, to `to` with rows and columns exchanged.
///
/// In base 4 the place of an element has two digits of its row and two of its column; moving the first
/// digit to the end twice exchanges them, and each move is an interleaving that compilers know.
#[inline(always)]
pub(super) fn transpose<T: Copy>(from: &[T], spare: &mut Square<T>, to: &mut Square<T>) {
    interleave(from, spare);
    interleave(spare, to);
}

#[inline(always)]
fn interleave<T: Copy>(from: &[T], to: &mut Square<T>) {
    let from = &from[..GROUP * GROUP];
    for at in 0..64 {
        to[4 * at] = from[at];
        to[4 * at + 1] = from[at + 64];
        to[4 * at + 2] = from[at + 128];
        to[4 * at + 3] = from[at + 192];
    }
}

/// Writes a row-major matrix with rows of `columns` turned over.
pub(super) fn turn<T: Lanes>(from: &[T], columns: usize, to: &mut [T]) {
    let rows = from.len() / columns;
    let out = Scatter::new(&mut to[..from.len()]);
    each(rows.div_ceil(GROUP), from.len() >= SHARED, |group| {
        Arch::new().dispatch(
            #[inline(always)]
            || turn_rows(from, columns, group * GROUP, &out),
        );
    });
}

/// Turns at most [`GROUP`] rows over.
#[inline(always)]
fn turn_rows<T: Lanes>(from: &[T], columns: usize, row: usize, out: &Scatter<'_, T>) {
    let rows = from.len() / columns;
    let count = GROUP.min(rows - row);
    let [mut square, mut spare, mut turned] = [[T::zero(); GROUP * GROUP]; 3];
    for column in (0..columns).step_by(GROUP) {
        let width = GROUP.min(columns - column);
        for (line, to) in square.chunks_exact_mut(GROUP).take(count).enumerate() {
            to[..width].copy_from_slice(&from[(row + line) * columns + column..][..width]);
        }
        transpose(&square, &mut spare, &mut turned);
        for (line, from) in turned.chunks_exact(GROUP).take(width).enumerate() {
            // SAFETY: the caller's task has these columns of the result to itself.
            unsafe { out.write((column + line) * rows + row, &from[..count]) };
        }
    }
}

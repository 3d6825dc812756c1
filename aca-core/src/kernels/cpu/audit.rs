//! Bodies for a backward walk that looks at what it replays.

use std::ops::Range;

use rayon::prelude::*;

use super::{Element, TASK, Terms, add_terms, vectorised};

/// See [`super::super::Products`], as a list.
type Sums = [f64; 4];

/// Entries per block: small, since the buffer of the error is cleared for every one.
const BLOCK: usize = 64;

/// See [`super::super::products_slices`].
pub(crate) fn products<T: Element>(
    out: &mut [Sums],
    arriving: &[T],
    leaving: &[T],
    terms: &Terms<'_, T>,
) {
    let length = arriving.len() / out.len();
    if length <= BLOCK {
        return vectorised(
            #[inline(always)]
            || short_rows(out, length, arriving, leaving, terms),
        );
    }
    let task = |start: usize, end: usize| {
        vectorised(
            #[inline(always)]
            || long_row(start..end, arriving, leaving, terms),
        )
    };
    for (row, out) in out.iter_mut().enumerate() {
        let (start, end) = (row * length, (row + 1) * length);
        *out = match length < 2 * TASK {
            true => task(start, end),
            false => {
                let starts: Vec<usize> = (start..end).step_by(TASK).collect();
                let sums = starts.par_iter().map(|&at| task(at, (at + TASK).min(end)));
                let sums: Vec<Sums> = sums.collect();
                sums.iter().fold([0.0; 4], |all, sums| std::array::from_fn(|i| all[i] + sums[i]))
            }
        };
    }
}

/// Products of rows that share blocks.
#[inline(always)]
fn short_rows<T: Element>(
    out: &mut [Sums],
    length: usize,
    arriving: &[T],
    leaving: &[T],
    terms: &Terms<'_, T>,
) {
    let rows = BLOCK / length;
    for (block, out) in out.chunks_mut(rows).enumerate() {
        let first = block * rows * length;
        let range = first..first + out.len() * length;
        let mut error = [T::zero(); BLOCK];
        let error = &mut error[..range.len()];
        add_terms(error, range.clone(), terms);
        let a = arriving[range.clone()].chunks_exact(length);
        let rows = a.zip(leaving[range].chunks_exact(length)).zip(error.chunks_exact(length));
        for (out, ((a, l), e)) in out.iter_mut().zip(rows) {
            let mut sums = [0.0; 4];
            for ((a, l), e) in a.iter().zip(l).zip(e) {
                let (a, l, e) = (a.to_f64(), l.to_f64(), e.to_f64());
                let product = a * e;
                sums[0] += product;
                sums[1] += product.abs();
                sums[2] += a * a;
                sums[3] += l * l;
            }
            *out = sums;
        }
    }
}

/// Products of one row, in eight lanes, which the compiler turns into vectors.
#[inline(always)]
fn long_row<T: Element>(
    range: Range<usize>,
    arriving: &[T],
    leaving: &[T],
    terms: &Terms<'_, T>,
) -> Sums {
    let (mut signed, mut magnitude) = ([0.0; 8], [0.0; 8]);
    let (mut arrived, mut left) = ([0.0; 8], [0.0; 8]);
    let mut first = range.start;
    while first < range.end {
        let block = first..(first + BLOCK).min(range.end);
        let mut error = [T::zero(); BLOCK];
        let error = &mut error[..block.len()];
        add_terms(error, block.clone(), terms);
        let (a, l) = (&arriving[block.clone()], &leaving[block.clone()]);
        for ((a, l), e) in a.chunks(8).zip(l.chunks(8)).zip(error.chunks(8)) {
            for (lane, ((a, l), e)) in a.iter().zip(l).zip(e).enumerate() {
                let (a, l, e) = (a.to_f64(), l.to_f64(), e.to_f64());
                let product = a * e;
                signed[lane] += product;
                magnitude[lane] += product.abs();
                arrived[lane] += a * a;
                left[lane] += l * l;
            }
        }
        first = block.end;
    }
    [signed, magnitude, arrived, left].map(|lanes| lanes.iter().sum())
}

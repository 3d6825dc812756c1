//! Bodies for batches whose rows have factors of their own.

use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;
use smallvec::SmallVec;

use super::super::slices::with_terms;
use super::{
    BUFFER, Element, Scale, TASK, Terms, add_terms, begin, combine_blocks, divide_by_scale,
    sum_of_products, sum_of_squares, unwritten, vectorised, written,
};

/// Rows of at least so many entries are worth a pass of their own; shorter ones share blocks.
const LONG: usize = 64;

/// See [`super::super::combine_each`].
pub(crate) fn combine_each<T: Element>(
    size: usize,
    base: Option<&[T]>,
    h: &[f64],
    terms: &[(f64, &[T])],
) -> Vec<T> {
    written(size, |out| combine_each_into(out, base, h, terms))
}

/// See [`super::super::combine_slices_each`].
pub(crate) fn combine_each_over<T: Element>(
    out: &mut [T],
    base: Option<&[T]>,
    h: &[f64],
    terms: &[(f64, &[T])],
) {
    combine_each_into(unwritten(out), base, h, terms);
}

fn combine_each_into<T: Element>(
    out: &mut [MaybeUninit<T>],
    base: Option<&[T]>,
    h: &[f64],
    terms: &[(f64, &[T])],
) {
    let length = out.len() / h.len().max(1);
    if length < LONG {
        return vectorised(
            #[inline(always)]
            || combine_short(out, length, base, h, terms),
        );
    }
    for (row, &h) in h.iter().enumerate() {
        let out = &mut out[row * length..][..length];
        let scaled = terms.iter().map(|&(w, x)| (T::from_f64(h * w), &x[row * length..]));
        let scaled: SmallVec<[_; 16]> = scaled.collect();
        let base = base.map(|base| &base[row * length..]);
        vectorised(
            #[inline(always)]
            || combine_blocks(out, 0, base, &scaled),
        );
    }
}

/// Short rows, block by block, with the factors spread over their entries.
#[inline(always)]
fn combine_short<T: Element>(
    out: &mut [MaybeUninit<T>],
    length: usize,
    base: Option<&[T]>,
    h: &[f64],
    terms: &[(f64, &[T])],
) {
    let mut factors = [0.0; BUFFER];
    let rows = BUFFER / length;
    for (block, (out, h)) in out.chunks_mut(rows * length).zip(h.chunks(rows)).enumerate() {
        for (factors, &h) in factors.chunks_exact_mut(length).zip(h) {
            factors.fill(h);
        }
        let first = block * rows * length;
        let range = first..first + out.len();
        let out = begin(out, base.map(|base| &base[range.clone()]));
        add_scaled_terms(out, range, &factors, terms);
    }
}

/// [`add_terms`] with weights `factor * weight`, rounded in the same order.
#[inline(always)]
fn add_scaled_terms<T: Element>(
    out: &mut [T],
    range: Range<usize>,
    factors: &[f64],
    terms: &[(f64, &[T])],
) {
    let mut fours = terms.chunks_exact(4);
    for four in &mut fours {
        let (a, b, c, d) = (four[0], four[1], four[2], four[3]);
        let xs = a.1[range.clone()].iter().zip(&b.1[range.clone()]);
        let xs = xs.zip(&c.1[range.clone()]).zip(&d.1[range.clone()]);
        for ((out, h), (((xa, xb), xc), xd)) in out.iter_mut().zip(factors).zip(xs) {
            let weight = |w: f64| T::from_f64(h * w);
            *out +=
                (weight(a.0) * *xa + weight(b.0) * *xb) + (weight(c.0) * *xc + weight(d.0) * *xd);
        }
    }
    for &(w, x) in fours.remainder() {
        for ((out, h), x) in out.iter_mut().zip(factors).zip(&x[range.clone()]) {
            *out += T::from_f64(h * w) * *x;
        }
    }
}

/// See [`super::super::combine_picked`].
pub(crate) fn combine_picked<T: Element>(
    base: &[T],
    length: usize,
    rows: &[usize],
    weights: &[f64],
    xs: &[&[T]],
) -> Vec<T> {
    written(rows.len() * length, |out| {
        let weights = weights.chunks_exact(xs.len());
        for ((out, &row), weights) in out.chunks_exact_mut(length).zip(rows).zip(weights) {
            let start = row * length;
            let terms = weights.iter().zip(xs).map(|(&w, x)| (w, &x[start..]));
            with_terms(terms, |terms| {
                vectorised(
                    #[inline(always)]
                    || combine_blocks(out, 0, Some(&base[start..]), terms),
                );
            });
        }
    })
}

/// Entries per block of rows that share one in [`difference_squares`].
const DIFFERENCE: usize = 64;

/// See [`super::super::difference_squares_slices`].
pub(crate) fn difference_squares<T: Element>(
    out: &mut [[f64; 2]],
    states: (&[T], &[T]),
    scale: Scale<'_, T>,
    differences: [&Terms<'_, T>; 2],
) {
    let length = states.0.len() / out.len();
    if length <= DIFFERENCE {
        vectorised(
            #[inline(always)]
            || short_rows(out, length, states, scale, differences),
        );
    } else if states.0.len() < 2 * TASK {
        for (row, out) in out.iter_mut().enumerate() {
            *out = long_row(row * length, length, states, scale, differences);
        }
    } else {
        out.par_iter_mut().enumerate().for_each(|(row, out)| {
            *out = long_row(row * length, length, states, scale, differences);
        });
    }
}

/// Both sums of squares of rows that share blocks.
#[inline(always)]
fn short_rows<T: Element>(
    out: &mut [[f64; 2]],
    length: usize,
    states: (&[T], &[T]),
    scale: Scale<'_, T>,
    differences: [&Terms<'_, T>; 2],
) {
    let rows = DIFFERENCE / length;
    for (block, out) in out.chunks_mut(rows).enumerate() {
        let (mut a, mut b) = ([T::zero(); DIFFERENCE], [T::zero(); DIFFERENCE]);
        let first = block * rows * length;
        let range = first..first + out.len() * length;
        let (a, b) = (&mut a[..range.len()], &mut b[..range.len()]);
        write_differences(a, b, range, states, scale, differences);
        for ((a, b), out) in a.chunks_exact(length).zip(b.chunks_exact(length)).zip(out) {
            let mut sums = [0.0; 2];
            for (a, b) in a.iter().zip(b) {
                let (a, b) = (a.to_f64(), b.to_f64());
                sums[0] += a * a;
                sums[1] += b * b;
            }
            *out = sums;
        }
    }
}

/// Both sums of squares of a row that is longer than a block.
fn long_row<T: Element>(
    start: usize,
    length: usize,
    states: (&[T], &[T]),
    scale: Scale<'_, T>,
    differences: [&Terms<'_, T>; 2],
) -> [f64; 2] {
    vectorised(
        #[inline(always)]
        || {
            let mut sums = [0.0; 2];
            for first in (start..start + length).step_by(BUFFER) {
                let range = first..(first + BUFFER).min(start + length);
                let (mut a, mut b) = ([T::zero(); BUFFER], [T::zero(); BUFFER]);
                let (a, b) = (&mut a[..range.len()], &mut b[..range.len()]);
                write_differences(a, b, range, states, scale, differences);
                sums[0] += sum_of_products(a, a);
                sums[1] += sum_of_products(b, b);
            }
            sums
        },
    )
}

/// Writes the entries of both sums in `range`, divided by the error scale, over zeros.
#[inline(always)]
fn write_differences<T: Element>(
    a: &mut [T],
    b: &mut [T],
    range: Range<usize>,
    (y0, y1): (&[T], &[T]),
    scale: Scale<'_, T>,
    [slopes, states]: [&Terms<'_, T>; 2],
) {
    add_terms(a, range.clone(), slopes);
    add_terms(b, range.clone(), states);
    let ends = y0[range.clone()].iter().zip(&y1[range.clone()]);
    let entries = a.iter_mut().zip(b).zip(ends);
    let one = T::from_f64(1.0);
    match scale.row(range) {
        Scale::Uniform { rtol, atol } => {
            for ((a, b), (&y0, &y1)) in entries {
                let weight = one / (atol + rtol * y0.magnitude(y1));
                *a *= weight;
                *b *= weight;
            }
        }
        Scale::Each { rtol, atol } => {
            for (((a, b), (&y0, &y1)), (&rtol, &atol)) in entries.zip(rtol.iter().zip(atol)) {
                let weight = one / (atol + rtol * y0.magnitude(y1));
                *a *= weight;
                *b *= weight;
            }
        }
    }
}

/// [`sum_of_squares`] of every row of `length` entries.
pub(crate) fn sums_of_squares<T: Element>(
    (y0, y1): (&[T], &[T]),
    length: usize,
    scale: Scale<'_, T>,
    terms: &Terms<'_, T>,
) -> Vec<f64> {
    if length > BUFFER {
        let row = |start: usize| {
            let range = start..start + length;
            let terms: SmallVec<[_; 16]> =
                terms.iter().map(|&(w, x)| (w, &x[range.clone()])).collect();
            sum_of_squares(&y0[range.clone()], &y1[range.clone()], scale.row(range), &terms)
        };
        return (0..y0.len()).step_by(length).map(row).collect();
    }
    let mut sums = Vec::with_capacity(y0.len() / length);
    let step = BUFFER / length * length;
    vectorised(
        #[inline(always)]
        || {
            for first in (0..y0.len()).step_by(step) {
                let range = first..(first + step).min(y0.len());
                let mut error = [T::zero(); BUFFER];
                let error = &mut error[..range.len()];
                add_terms(error, range.clone(), terms);
                divide_by_scale(error, &y0[range.clone()], &y1[range.clone()], scale, range);
                // Not `extend`: see `reduce`.
                for row in error.chunks_exact(length) {
                    sums.push(sum_of_products(row, row));
                }
            }
        },
    );
    sums
}

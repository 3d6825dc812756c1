//! CPU bodies: blocks that stay in the first-level cache, vectorised by run-time dispatch, shared
//! among rayon's threads above a measured size.
//!
//! No fused multiply-add: the same bits come out on every instruction set.
#![allow(unsafe_code, reason = "results are written once, into memory that nobody cleared")]

use std::mem::MaybeUninit;
use std::ops::Range;

use candle_core::WithDType;
use pulp::Arch;
use rayon::prelude::*;
use smallvec::SmallVec;

mod audit;
mod rows;

pub(super) use audit::{products, products_of_slopes};
pub(super) use rows::{
    combine_each, combine_each_over, combine_picked, difference_squares, sums_of_squares,
};

/// Entries per block: 16 KiB of `f64`, so that the sum stays in the cache while terms stream.
const BLOCK: usize = 2048;

/// Entries per block of a reduction, whose terms go through a buffer: small, since the buffer is cleared
/// for states of any size.
const BUFFER: usize = 256;

/// Entries per task, a multiple of [`BLOCK`]; states below twice this run on the calling thread.
///
/// Measured on 2 cores of an AVX-512 server with seven terms of `f64`: 65 536 entries take 80 us on the
/// calling thread and 65 us shared, 131 072 take 275 us and 115 us; below there is nothing to win.
const TASK: usize = 16 * BLOCK;

/// Element types of states on the CPU: `f32` and `f64`.
pub trait Element: WithDType {
    /// The larger magnitude of the two.
    fn magnitude(self, other: Self) -> Self;
}

impl Element for f32 {
    #[inline]
    fn magnitude(self, other: Self) -> Self {
        self.abs().max(other.abs())
    }
}

impl Element for f64 {
    #[inline]
    fn magnitude(self, other: Self) -> Self {
        self.abs().max(other.abs())
    }
}

/// See [`super::Scale`].
#[derive(Clone, Copy)]
pub(super) enum Scale<'a, T> {
    Uniform { rtol: T, atol: T },
    Each { rtol: &'a [T], atol: &'a [T] },
}

impl<T> Scale<'_, T> {
    /// The scale of some entries alone.
    fn row(self, range: Range<usize>) -> Self {
        match self {
            Self::Each { rtol, atol } => {
                Self::Each { rtol: &rtol[range.clone()], atol: &atol[range] }
            }
            uniform => uniform,
        }
    }
}

/// A list of `weight * slice`.
type Terms<'a, T> = [(T, &'a [T])];

/// See [`super::combine`].
pub(super) fn combine<T: Element>(size: usize, base: Option<&[T]>, terms: &Terms<'_, T>) -> Vec<T> {
    written(size, |out| combine_into(out, base, terms))
}

/// See [`super::combine_rows`].
pub(super) fn combine_rows<T: Element>(base: &[T], weights: &[T], xs: &[&[T]]) -> Vec<T> {
    let rows = weights.len() / xs.len().max(1);
    let row = |(out, weights): (&mut [MaybeUninit<T>], &[T])| {
        let terms: SmallVec<[_; 16]> = weights.iter().copied().zip(xs.iter().copied()).collect();
        combine_into(out, Some(base), &terms);
    };
    written(rows * base.len(), |out| {
        if out.len() >= 2 * TASK && base.len() < 2 * TASK {
            out.par_chunks_mut(base.len()).zip(weights.par_chunks(xs.len())).for_each(row);
        } else {
            out.chunks_mut(base.len()).zip(weights.chunks(xs.len())).for_each(row);
        }
    })
}

/// Returns a vector that `write`, which must write every entry, fills: clearing it first would be one
/// more pass over memory.
fn written<T: Element>(size: usize, write: impl FnOnce(&mut [MaybeUninit<T>])) -> Vec<T> {
    let mut out = Vec::with_capacity(size);
    write(&mut out.spare_capacity_mut()[..size]);
    // SAFETY: the capacity is at least `size`, and both callers write whole blocks up to `size`.
    unsafe { out.set_len(size) };
    out
}

fn combine_into<T: Element>(out: &mut [MaybeUninit<T>], base: Option<&[T]>, terms: &Terms<'_, T>) {
    if out.len() < 2 * TASK {
        return vectorised(
            #[inline(always)]
            || combine_blocks(out, 0, base, terms),
        );
    }
    out.par_chunks_mut(TASK).enumerate().for_each(|(task, out)| {
        vectorised(
            #[inline(always)]
            || combine_blocks(out, task * TASK, base, terms),
        );
    });
}

/// See [`super::combine_slices`].
pub(super) fn combine_over<T: Element>(out: &mut [T], base: Option<&[T]>, terms: &Terms<'_, T>) {
    combine_into(unwritten(out), base, terms);
}

/// Numbers to be overwritten, for bodies that write every entry without a look at it.
fn unwritten<T: Element>(out: &mut [T]) -> &mut [MaybeUninit<T>] {
    // SAFETY: `MaybeUninit<T>` has the layout of `T`, and the bodies write numbers alone.
    unsafe { &mut *(std::ptr::from_mut(out) as *mut [MaybeUninit<T>]) }
}

/// Runs `work` compiled for the widest vectors of this processor. A closure is compiled so only where
/// it is marked `#[inline(always)]`, and so is all that it calls.
#[inline(always)]
fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(work)
}

#[inline(always)]
fn combine_blocks<T: Element>(
    out: &mut [MaybeUninit<T>],
    start: usize,
    base: Option<&[T]>,
    terms: &Terms<'_, T>,
) {
    for (block, out) in out.chunks_mut(BLOCK).enumerate() {
        let first = start + block * BLOCK;
        let range = first..first + out.len();
        let out = begin(out, base.map(|base| &base[range.clone()]));
        add_terms(out, range, terms);
    }
}

/// Writes the base, or zeros, to a block.
#[inline(always)]
fn begin<'a, T: Element>(out: &'a mut [MaybeUninit<T>], base: Option<&[T]>) -> &'a mut [T] {
    match base {
        Some(base) => {
            assert_eq!(out.len(), base.len());
            for (out, base) in out.iter_mut().zip(base) {
                out.write(*base);
            }
        }
        None => out.fill(MaybeUninit::new(T::zero())),
    }
    // SAFETY: every entry was written above, and `MaybeUninit<T>` has the layout of `T`.
    unsafe { &mut *(std::ptr::from_mut(out) as *mut [T]) }
}

/// Adds the terms' entries of `range` to `out`, four terms a pass.
#[inline(always)]
fn add_terms<T: Element>(out: &mut [T], range: Range<usize>, terms: &Terms<'_, T>) {
    let mut fours = terms.chunks_exact(4);
    for four in &mut fours {
        let (a, b, c, d) = (four[0], four[1], four[2], four[3]);
        let xs = a.1[range.clone()].iter().zip(&b.1[range.clone()]);
        let xs = xs.zip(&c.1[range.clone()]).zip(&d.1[range.clone()]);
        for (out, (((xa, xb), xc), xd)) in out.iter_mut().zip(xs) {
            *out += (a.0 * *xa + b.0 * *xb) + (c.0 * *xc + d.0 * *xd);
        }
    }
    for &(w, x) in fours.remainder() {
        for (out, x) in out.iter_mut().zip(&x[range.clone()]) {
            *out += w * *x;
        }
    }
}

/// See [`super::combine_slopes`]: states of one block, whose terms need no list.
pub(super) fn combine_slopes<T: Element>(
    out: &mut [T],
    base: Option<&[T]>,
    h: f64,
    weights: &[f64],
    k: &[T],
) -> bool {
    if out.len() > BLOCK {
        return false;
    }
    vectorised(
        #[inline(always)]
        || {
            let size = out.len();
            add_slopes(begin(unwritten(out), base), h, weights, (k, size, 0));
        },
    );
    true
}

/// [`add_terms`] of the slopes in `k`, of so many entries each, whose weight is not zero: those from `first` on.
#[inline(always)]
fn add_slopes<T: Element>(
    out: &mut [T],
    h: f64,
    weights: &[f64],
    (k, stride, first): (&[T], usize, usize),
) {
    let size = out.len();
    let (mut four, mut count) = ([(T::zero(), 0); 4], 0);
    for (i, &w) in weights.iter().enumerate() {
        if w == 0.0 {
            continue;
        }
        four[count] = (T::from_f64(h * w), i * stride + first);
        count += 1;
        if count == 4 {
            let [(a, xa), (b, xb), (c, xc), (d, xd)] = four;
            let xs = k[xa..xa + size].iter().zip(&k[xb..xb + size]);
            let xs = xs.zip(&k[xc..xc + size]).zip(&k[xd..xd + size]);
            for (out, (((xa, xb), xc), xd)) in out.iter_mut().zip(xs) {
                *out += (a * *xa + b * *xb) + (c * *xc + d * *xd);
            }
            count = 0;
        }
    }
    for &(w, x) in &four[..count] {
        for (out, x) in out.iter_mut().zip(&k[x..x + size]) {
            *out += w * *x;
        }
    }
}

/// [`sum_of_squares`] of slopes one after the other; `None` for states of more than one buffer.
pub(super) fn sum_of_squares_of_slopes<T: Element>(
    y0: &[T],
    y1: &[T],
    scale: Scale<'_, T>,
    weights: &[f64],
    k: &[T],
) -> Option<f64> {
    if y0.len() > BUFFER {
        return None;
    }
    Some(vectorised(
        #[inline(always)]
        || {
            let mut error = [T::zero(); BUFFER];
            let error = &mut error[..y0.len()];
            add_slopes(error, 1.0, weights, (k, y0.len(), 0));
            divide_by_scale(error, y0, y1, scale, 0..y0.len());
            sum_of_products(error, error)
        },
    ))
}

/// Sum over all entries of `(sum(e_i k_i) / scale)^2`, NaN when `y1` has an entry that is not finite.
pub(super) fn sum_of_squares<T: Element>(
    y0: &[T],
    y1: &[T],
    scale: Scale<'_, T>,
    terms: &Terms<'_, T>,
) -> f64 {
    reduce(
        y0.len(),
        #[inline(always)]
        |range: Range<usize>| {
            let mut error = [T::zero(); BUFFER];
            let error = &mut error[..range.len()];
            add_terms(error, range.clone(), terms);
            divide_by_scale(error, &y0[range.clone()], &y1[range.clone()], scale, range);
            sum_of_products(error, error)
        },
    )
}

#[inline(always)]
#[allow(clippy::eq_op, reason = "x - x is NaN where x is not finite")]
fn divide_by_scale<T: Element>(
    e: &mut [T],
    y0: &[T],
    y1: &[T],
    scale: Scale<'_, T>,
    range: Range<usize>,
) {
    // y1 - y1 is zero, or NaN where y1 is not finite: an infinite scale must not hide the error.
    match scale {
        Scale::Uniform { rtol, atol } => {
            for ((e, &y0), &y1) in e.iter_mut().zip(y0).zip(y1) {
                *e = *e / (atol + rtol * y0.magnitude(y1)) + (y1 - y1);
            }
        }
        Scale::Each { rtol, atol } => {
            let tolerances = rtol[range.clone()].iter().zip(&atol[range]);
            for (((e, &y0), &y1), (&rtol, &atol)) in e.iter_mut().zip(y0).zip(y1).zip(tolerances) {
                *e = *e / (atol + rtol * y0.magnitude(y1)) + (y1 - y1);
            }
        }
    }
}

/// See [`super::dot`].
pub(super) fn dot<T: Element>(a: &[T], b: &[T]) -> f64 {
    reduce(
        a.len(),
        #[inline(always)]
        |range: Range<usize>| sum_of_products(&a[range.clone()], &b[range]),
    )
}

/// `sum(a_i b_i)` in eight interleaved sums, which the compiler turns into vectors.
#[inline(always)]
fn sum_of_products<T: Element>(a: &[T], b: &[T]) -> f64 {
    let mut sums = [0.0; 8];
    let (heads, tail) = a.as_chunks::<8>();
    let (b_heads, b_tail) = b.as_chunks::<8>();
    for (a, b) in heads.iter().zip(b_heads) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a.to_f64() * b.to_f64();
        }
    }
    let tail: f64 = tail.iter().zip(b_tail).map(|(a, b)| a.to_f64() * b.to_f64()).sum();
    sums.iter().sum::<f64>() + tail
}

/// Sums `block` over the buffers of `0..size`; the order of the sum depends on `size` alone.
fn reduce(size: usize, block: impl Fn(Range<usize>) -> f64 + Sync) -> f64 {
    let task = |start: usize, end: usize| {
        vectorised(
            #[inline(always)]
            || {
                // Not the `sum` of an iterator: what that calls is not compiled for wide vectors unless the
                // optimiser happens to inline it. Minus zero is what changes no number that is added.
                let mut sum = -0.0;
                for at in (start..end).step_by(BUFFER) {
                    sum += block(at..(at + BUFFER).min(end));
                }
                sum
            },
        )
    };
    if size < 2 * TASK {
        return task(0, size);
    }
    let starts: Vec<usize> = (0..size).step_by(TASK).collect();
    let sums: Vec<f64> = starts.par_iter().map(|&at| task(at, (at + TASK).min(size))).collect();
    sums.iter().sum()
}

/// See [`super::extremes`].
pub(super) fn extremes<T: Element>(x: &[T]) -> [f64; 2] {
    let fold = |[low, high]: [f64; 2], x: f64| {
        if x.is_nan() || low.is_nan() { [f64::NAN; 2] } else { [low.min(x), high.max(x)] }
    };
    x.iter().map(|x| x.to_f64()).fold([f64::INFINITY, f64::NEG_INFINITY], fold)
}

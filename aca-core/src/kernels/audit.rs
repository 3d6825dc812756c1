//! Passes of a backward walk that looks at what it replays.

#[cfg(feature = "cuda")]
use candle_core::Device;
use candle_core::{DType, Tensor};
use smallvec::SmallVec;

#[cfg(feature = "cuda")]
use super::combine;
use super::{Element, Term, View, combine_slices, cpu};
use crate::{Error, Result};

/// Inner products of one row of a step, whose error estimate is `e`, with the cotangents that arrive at its end and
/// leave at its start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Products {
    /// `a . e`, of the arriving cotangent `a`.
    pub error: f64,
    /// `sum |a_i e_i|`.
    pub magnitude: f64,
    /// `a . a`.
    pub arriving: f64,
    /// `l . l`, of the leaving cotangent `l`.
    pub leaving: f64,
    /// `y . y`, of the state at the start.
    pub state: f64,
}

impl From<[f64; 5]> for Products {
    fn from([error, magnitude, arriving, leaving, state]: [f64; 5]) -> Self {
        Self { error, magnitude, arriving, leaving, state }
    }
}

/// Products of every row.
pub type RowProducts = SmallVec<[Products; 1]>;

/// Returns the [`Products`] of states that are taken for so many rows, with `e = sum(w_i x_i)`, in one pass.
///
/// # Shapes
/// What arrives, what leaves, the state and every `x_i`: the same shape and dtype.
pub fn products(rows: usize, ends: [&Tensor; 3], terms: &[Term<'_>]) -> Result<RowProducts> {
    on_gpu!(ends[0], _gpu => products_by_candle(rows, ends, terms));
    let [arriving, leaving, state] = ends.map(Tensor::contiguous);
    let (arriving, leaving, state) = (arriving?, leaving?, state?);
    let copies = contiguous(terms)?;
    with_element!(arriving.dtype(), T => {
        let ends = [&arriving, &leaving, &state].map(View::held);
        let views: SmallVec<[_; 8]> = copies.iter().map(|(_, x)| View::held(x)).collect();
        let mut slices = SmallVec::<[(T, &[T]); 16]>::new();
        for ((w, _), view) in copies.iter().zip(&views) {
            slices.push((*w as T, view.slice()?));
        }
        let mut sums = SmallVec::<[[f64; 5]; 1]>::from_elem([0.0; 5], rows);
        cpu::products(&mut sums, [ends[0].slice()?, ends[1].slice()?, ends[2].slice()?], &slices);
        Ok(sums.into_iter().map(Products::from).collect())
    })
}

/// [`products`] where kernels of our own do not reach.
#[cfg(feature = "cuda")]
fn products_by_candle(rows: usize, ends: [&Tensor; 3], terms: &[Term<'_>]) -> Result<RowProducts> {
    let flat = |x: &Tensor| x.to_dtype(DType::F64)?.reshape((rows, ()));
    let [a, l, y] = ends.map(flat);
    let a = a?;
    let e = if terms.is_empty() { a.zeros_like()? } else { flat(&combine(None, terms)?)? };
    let signed = a.mul(&e)?;
    let sums = [&signed, &signed.abs()?, &a.sqr()?, &l?.sqr()?, &y?.sqr()?];
    let sums = sums.map(|x| x.sum(1)?.to_vec1::<f64>());
    let sums = sums.into_iter().collect::<candle_core::Result<Vec<_>>>()?;
    let row = |row: usize| Products::from(std::array::from_fn(|i| sums[i][row]));
    Ok((0..rows).map(row).collect())
}

/// [`products`] of slices, with `e = sum(w_i k_i)` of slopes one after the other.
///
/// # Panics
/// When a slice is shorter than what arrives.
pub fn products_slopes<T: Element>(
    rows: usize,
    ends: [&[T]; 3],
    weights: &[f64],
    k: &[T],
) -> RowProducts {
    let mut sums = SmallVec::<[[f64; 5]; 1]>::from_elem([0.0; 5], rows);
    cpu::products_of_slopes(&mut sums, ends, weights, k);
    sums.into_iter().map(Products::from).collect()
}

/// Numbers of a large state that [`differences`] looks at.
const WINDOW: usize = 4096;

/// Relative distances, one per row.
pub type RowDifferences = SmallVec<[f64; 1]>;

/// Returns by how much `base + h sum(w_i x_i)` differs from `expected` in every row, relative to the largest of both and
/// the base: 0 where both have the same bits.
///
/// Of a large state some 4096 numbers are looked at, those of number `window` (modulo how many there are): a walk that
/// counts it up looks at all of them in turn.
///
/// # Shapes
/// All tensors: the same shape and dtype; they are taken for as many rows as there are step sizes `h`.
pub fn differences(
    expected: &Tensor,
    base: &Tensor,
    h: &[f64],
    terms: &[Term<'_>],
    window: usize,
) -> Result<RowDifferences> {
    on_gpu!(expected, _gpu => differences_on_gpu((expected, base), h, terms, window));
    let (expected, base) = (expected.contiguous()?, base.contiguous()?);
    let copies = contiguous(terms)?;
    with_element!(expected.dtype(), T => {
        let (expected, base) = (View::held(&expected), View::held(&base));
        let views: SmallVec<[_; 8]> = copies.iter().map(|(_, x)| View::held(x)).collect();
        let mut slices = SmallVec::<[(f64, &[T]); 16]>::new();
        for ((w, _), view) in copies.iter().zip(&views) {
            slices.push((*w, view.slice()?));
        }
        let mut out = RowDifferences::from_elem(0.0, h.len());
        let ends = (expected.slice::<T>()?, base.slice::<T>()?);
        differences_slices::<T, WINDOW>(&mut out, ends, h, &slices, window);
        Ok(out)
    })
}

/// [`differences`] where kernels for slices do not reach: of a whole state in its window, of rows in full.
#[cfg(feature = "cuda")]
fn differences_on_gpu(
    (expected, base): (&Tensor, &Tensor),
    h: &[f64],
    terms: &[Term<'_>],
    window: usize,
) -> Result<RowDifferences> {
    let size = expected.elem_count();
    if h.len() == 1 && size > WINDOW {
        let first = window % size.div_ceil(WINDOW) * WINDOW;
        let cut = |x: &Tensor| -> Result<Tensor> {
            Ok(x.flatten_all()?.narrow(0, first, WINDOW.min(size - first))?)
        };
        let parts = terms.iter().map(|&(w, x)| Ok((w, cut(x)?)));
        let parts = parts.collect::<Result<SmallVec<[(f64, Tensor); 8]>>>()?;
        let terms: super::Terms<'_> = parts.iter().map(|(w, x)| (*w, x)).collect();
        return differences_on_gpu((&cut(expected)?, &cut(base)?), h, &terms, 0);
    }
    let end = super::combine_steps(Some(base), h, terms)?;
    let off = combine(Some(&end), &[(-1.0, expected)])?;
    let squares = |x: &Tensor| super::dots(h.len(), x, x);
    let (off, end) = (squares(&off)?, squares(&end)?);
    let (expected, base) = (squares(expected)?, squares(base)?);
    let relative = |row: usize| match off[row] {
        0.0 => 0.0,
        off => (off / expected[row].max(base[row]).max(end[row])).sqrt(),
    };
    Ok((0..h.len()).map(relative).collect())
}

/// [`differences`] of slices, of `LIMIT` numbers at the most: whole rows, or a part of one that is longer.
///
/// # Panics
/// When a slice is shorter than `expected`.
pub fn differences_slices<T: Element, const LIMIT: usize>(
    out: &mut [f64],
    (expected, base): (&[T], &[T]),
    h: &[f64],
    terms: &[(f64, &[T])],
    window: usize,
) {
    let (size, rows) = (expected.len(), out.len());
    let length = size / rows;
    let unit = if length > LIMIT { LIMIT } else { LIMIT / length * length };
    let first = window % size.div_ceil(unit) * unit;
    let own = first..(first + unit).min(size);
    let mut parts = SmallVec::<[(f64, &[T]); 16]>::new();
    for (w, x) in terms {
        parts.push((*w, &x[own.clone()]));
    }
    let mut end = [T::zero(); LIMIT];
    let end = &mut end[..own.len()];
    let (expected, base) = (&expected[own.clone()], &base[own.clone()]);
    let h = if rows == 1 { h } else { &h[own.start / length..own.end / length] };
    combine_slices(end, Some(base), h, &parts);
    if *end == *expected {
        return;
    }
    for (row, out) in out.iter_mut().enumerate() {
        let part = (row * length).max(own.start)..((row + 1) * length).min(own.end);
        if part.start < part.end {
            let part = part.start - own.start..part.end - own.start;
            let (end, expected, base) = (&end[part.clone()], &expected[part.clone()], &base[part]);
            let off = end.iter().zip(expected).map(|(a, b)| (a.to_f64() - b.to_f64()).powi(2));
            let off = off.sum::<f64>().sqrt();
            let norm = |x: &[T]| cpu::dot(x, x).sqrt();
            *out =
                if off == 0.0 { 0.0 } else { off / norm(end).max(norm(expected)).max(norm(base)) };
        }
    }
}

fn contiguous(terms: &[Term<'_>]) -> Result<SmallVec<[(f64, Tensor); 8]>> {
    terms.iter().map(|&(w, x)| Ok((w, x.contiguous()?))).collect()
}

/// [`dot`](super::dot) of slices.
///
/// # Panics
/// When `b` is shorter than `a`.
pub fn dot_slices<T: Element>(a: &[T], b: &[T]) -> f64 {
    cpu::dot(a, b)
}

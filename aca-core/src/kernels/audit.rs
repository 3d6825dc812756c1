//! Passes of a backward walk that looks at what it replays.

#[cfg(feature = "cuda")]
use candle_core::Device;
use candle_core::{DType, Tensor};
use smallvec::SmallVec;

use super::{Element, Term, Terms, View, combine, cpu, dot};
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
}

impl From<[f64; 4]> for Products {
    fn from([error, magnitude, arriving, leaving]: [f64; 4]) -> Self {
        Self { error, magnitude, arriving, leaving }
    }
}

/// Products of every row.
pub type RowProducts = SmallVec<[Products; 1]>;

/// Returns the [`Products`] of states that are taken for so many rows, with `e = sum(w_i x_i)`, in one pass.
///
/// # Shapes
/// `arriving`, `leaving` and every `x_i`: the same shape and dtype.
pub fn products(
    rows: usize,
    arriving: &Tensor,
    leaving: &Tensor,
    terms: &[Term<'_>],
) -> Result<RowProducts> {
    on_gpu!(arriving, _gpu => products_by_candle(rows, arriving, leaving, terms));
    let (arriving, leaving) = (arriving.contiguous()?, leaving.contiguous()?);
    let copies = contiguous(terms)?;
    with_element!(arriving.dtype(), T => {
        let (arriving, leaving) = (View::held(&arriving), View::held(&leaving));
        let views: SmallVec<[_; 8]> = copies.iter().map(|(_, x)| View::held(x)).collect();
        let mut slices = SmallVec::<[(T, &[T]); 16]>::new();
        for ((w, _), view) in copies.iter().zip(&views) {
            slices.push((*w as T, view.slice()?));
        }
        Ok(products_slices(rows, arriving.slice()?, leaving.slice()?, &slices))
    })
}

/// [`products`] where kernels of our own do not reach.
#[cfg(feature = "cuda")]
fn products_by_candle(
    rows: usize,
    arriving: &Tensor,
    leaving: &Tensor,
    terms: &[Term<'_>],
) -> Result<RowProducts> {
    let flat = |x: &Tensor| x.to_dtype(DType::F64)?.reshape((rows, ()));
    let (a, l) = (flat(arriving)?, flat(leaving)?);
    let e = if terms.is_empty() { a.zeros_like()? } else { flat(&combine(None, terms)?)? };
    let signed = a.mul(&e)?;
    let sums = [&signed, &signed.abs()?, &a.sqr()?, &l.sqr()?];
    let sums = sums.map(|x| x.sum(1)?.to_vec1::<f64>());
    let [signed, magnitude, arriving, leaving] = sums;
    let (signed, magnitude, arriving, leaving) = (signed?, magnitude?, arriving?, leaving?);
    Ok((0..rows)
        .map(|row| [signed[row], magnitude[row], arriving[row], leaving[row]].into())
        .collect())
}

/// [`products`] of slices.
///
/// # Panics
/// When a slice is shorter than `arriving`.
pub fn products_slices<T: Element>(
    rows: usize,
    arriving: &[T],
    leaving: &[T],
    terms: &[(T, &[T])],
) -> RowProducts {
    let mut sums = SmallVec::<[[f64; 4]; 1]>::from_elem([0.0; 4], rows);
    cpu::products(&mut sums, arriving, leaving, terms);
    sums.into_iter().map(Products::from).collect()
}

/// Numbers that [`difference`] looks at.
const WINDOW: usize = 4096;

/// Returns by how much `base + sum(w_i x_i)` differs from `expected`, relative to the largest of both and the base: 0
/// where both ends have the same bits.
///
/// Of a large state 4096 numbers are looked at, those of number `window` (modulo how many there are): a walk that counts
/// it up looks at all of them in turn.
///
/// # Shapes
/// All tensors: the same shape and dtype.
pub fn difference(
    expected: &Tensor,
    base: &Tensor,
    terms: &[Term<'_>],
    window: usize,
) -> Result<f64> {
    let size = expected.elem_count();
    if size > WINDOW {
        let first = window % size.div_ceil(WINDOW) * WINDOW;
        let cut = |x: &Tensor| -> Result<Tensor> {
            Ok(x.flatten_all()?.narrow(0, first, WINDOW.min(size - first))?)
        };
        let parts = terms.iter().map(|&(w, x)| Ok((w, cut(x)?)));
        let parts = parts.collect::<Result<SmallVec<[(f64, Tensor); 8]>>>()?;
        let terms: Terms<'_> = parts.iter().map(|(w, x)| (*w, x)).collect();
        return difference(&cut(expected)?, &cut(base)?, &terms, 0);
    }
    let sum = combine(Some(base), terms)?;
    let off = combine(Some(&sum), &[(-1.0, expected)])?;
    let off = dot(&off, &off)?.sqrt();
    if off == 0.0 {
        return Ok(0.0);
    }
    let largest = dot(expected, expected)?.max(dot(base, base)?).max(dot(&sum, &sum)?);
    Ok(off / largest.sqrt())
}

fn contiguous(terms: &[Term<'_>]) -> Result<SmallVec<[(f64, Tensor); 8]>> {
    terms.iter().map(|&(w, x)| Ok((w, x.contiguous()?))).collect()
}

/// [`dot`] of slices.
///
/// # Panics
/// When `b` is shorter than `a`.
pub fn dot_slices<T: Element>(a: &[T], b: &[T]) -> f64 {
    cpu::dot(a, b)
}

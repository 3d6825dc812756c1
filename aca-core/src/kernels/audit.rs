//! Passes of a backward walk that looks at what it replays.

#[cfg(feature = "cuda")]
use candle_core::Device;
use candle_core::{DType, Tensor, WithDType};
use smallvec::SmallVec;

use super::{Element, Term, Terms, View, combine, cpu, dot};
use crate::{Error, Result};

/// Returns `a . sum(w_i x_i)`, and the same with the magnitude of every entry's product, in one pass without the sum as
/// a tensor.
///
/// # Shapes
/// `a` and every `x_i`: the same shape and dtype.
pub fn dot_with_sum(a: &Tensor, terms: &[Term<'_>]) -> Result<[f64; 2]> {
    if terms.is_empty() {
        return Ok([0.0; 2]);
    }
    on_gpu!(a, _gpu => Ok(products_each(&a.unsqueeze(0)?, &combine(None, terms)?.unsqueeze(0)?)?[0]));
    let a = a.contiguous()?;
    let copies = terms.iter().map(|&(w, x)| Ok((w, x.contiguous()?)));
    let copies = copies.collect::<Result<SmallVec<[(f64, Tensor); 8]>>>()?;
    with_element!(a.dtype(), T => {
        let a = View::held(&a);
        let views: SmallVec<[_; 8]> = copies.iter().map(|(_, x)| View::held(x)).collect();
        let mut slices = SmallVec::<[(T, &[T]); 16]>::new();
        for ((w, _), view) in copies.iter().zip(&views) {
            slices.push((*w as T, view.slice()?));
        }
        Ok(cpu::dot_with_sum(a.slice()?, &slices))
    })
}

/// Returns the inner product of each pair of rows, and the same with the magnitude of every entry's product.
///
/// # Shapes
/// `a`, `b`: `[rows, ..state]`.
pub fn products_each(a: &Tensor, b: &Tensor) -> Result<Vec<[f64; 2]>> {
    let rows = a.dims()[0];
    on_gpu!(a, _gpu => {
        let products = a.mul(b)?.to_dtype(DType::F64)?.reshape((rows, ()))?;
        let sums = [products.sum(1)?.to_vec1::<f64>()?, products.abs()?.sum(1)?.to_vec1()?];
        Ok((0..rows).map(|row| [sums[0][row], sums[1][row]]).collect())
    });
    let (a, b) = (a.contiguous()?, b.contiguous()?);
    let length = a.elem_count() / rows;
    with_element!(a.dtype(), T => {
        let (a, b) = (View::held(&a), View::held(&b));
        let one = T::from_f64(1.0);
        let rows = a.slice::<T>()?.chunks_exact(length).zip(b.slice::<T>()?.chunks_exact(length));
        Ok(rows.map(|(a, b)| cpu::dot_with_sum(a, &[(one, b)])).collect())
    })
}

/// Returns by how much `base + sum(w_i x_i)` differs from `expected`, relative to its size: 0 where both have the
/// same bits.
///
/// A state of more than a hundred thousand numbers is looked at in one block of 2048 out of sixteen.
///
/// # Shapes
/// All tensors: the same shape and dtype.
pub fn difference(expected: &Tensor, base: &Tensor, terms: &[Term<'_>]) -> Result<f64> {
    on_gpu!(base, _gpu => relative_difference(expected, &combine(Some(base), terms)?));
    let (expected, base) = (expected.contiguous()?, base.contiguous()?);
    let copies = terms.iter().map(|&(w, x)| Ok((w, x.contiguous()?)));
    let copies = copies.collect::<Result<SmallVec<[(f64, Tensor); 8]>>>()?;
    let same = with_element!(base.dtype(), T => {
        let (expected, base) = (View::held(&expected), View::held(&base));
        let views: SmallVec<[_; 8]> = copies.iter().map(|(_, x)| View::held(x)).collect();
        let mut slices = SmallVec::<[(T, &[T]); 16]>::new();
        for ((w, _), view) in copies.iter().zip(&views) {
            slices.push((*w as T, view.slice()?));
        }
        Ok::<_, Error>(cpu::is_sum(expected.slice()?, base.slice()?, &slices))
    })?;
    if same {
        return Ok(0.0);
    }
    let terms: Terms<'_> = copies.iter().map(|(w, x)| (*w, x)).collect();
    relative_difference(&expected, &combine(Some(&base), &terms)?)
}

/// The distance of two states relative to the size of the larger.
fn relative_difference(expected: &Tensor, other: &Tensor) -> Result<f64> {
    let off = combine(Some(other), &[(-1.0, expected)])?;
    let largest = dot(expected, expected)?.max(dot(other, other)?).sqrt();
    let off = dot(&off, &off)?.sqrt();
    Ok(if off == 0.0 { 0.0 } else { off / largest })
}

/// [`dot_with_sum`] of slices.
///
/// # Panics
/// When a slice is shorter than `a`.
pub fn dot_with_sum_slices<T: Element>(a: &[T], terms: &[(T, &[T])]) -> [f64; 2] {
    cpu::dot_with_sum(a, terms)
}

/// [`dot`] of slices.
///
/// # Panics
/// When `b` is shorter than `a`.
pub fn dot_slices<T: Element>(a: &[T], b: &[T]) -> f64 {
    cpu::dot(a, b)
}

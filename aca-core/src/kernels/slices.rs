//! The same operations on slices, for steps that make no tensors.

use smallvec::SmallVec;

use super::{Element, Scale, cpu};
use crate::Result;

/// Writes `base + sum(w_i x_i)`, or the sum alone without a base, to `out`: what
/// [`combine`](super::combine) does, to the same bits.
///
/// # Panics
/// When a slice is shorter than `out`.
pub fn combine_slices<T: Element>(out: &mut [T], base: Option<&[T]>, terms: &[(T, &[T])]) {
    cpu::combine_over(out, base, terms);
}

/// [`scaled_norms`](super::scaled_norms) of slices.
///
/// # Errors
/// When tolerances of each entry are of another type.
pub fn scaled_norms_slices<T: Element>(
    y0: &[T],
    y1: &[T],
    scale: &Scale,
    k: &[&[T]],
    weights: &[Vec<f64>],
) -> Result<SmallVec<[f64; 2]>> {
    let tolerances = scale.views()?;
    let scale = scale.body::<T>(&tolerances)?;
    let norm = |e: &Vec<f64>| {
        let terms = e.iter().zip(k).filter(|(e, _)| **e != 0.0);
        let terms: SmallVec<[_; 8]> = terms.map(|(&e, &k)| (T::from_f64(e), k)).collect();
        (cpu::sum_of_squares(y0, y1, scale, &terms) / y0.len() as f64).sqrt()
    };
    Ok(weights.iter().map(norm).collect())
}

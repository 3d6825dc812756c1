//! The same operations on slices, for steps that make no tensors.

use smallvec::{SmallVec, smallvec};

use super::{Differences, Element, RowTerm, Scale, cpu};
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

/// Writes `base + sum(h_r w_i x_i)`, where `h_r` belongs to the row, to `out`: what
/// [`combine_each`](super::combine_each) does, to the same bits.
///
/// # Panics
/// When a slice is shorter than `out`.
pub fn combine_slices_each<T: Element>(
    out: &mut [T],
    base: Option<&[T]>,
    h: &[f64],
    terms: &[(f64, &[T])],
) {
    cpu::combine_each_over(out, base, h, terms);
}

/// [`combine_picked`](super::combine_picked) of slices whose rows have `length` numbers.
///
/// # Panics
/// When a slice is shorter than the rows that are picked.
pub fn combine_slices_picked<T: Element>(
    base: &[T],
    length: usize,
    rows: &[usize],
    weights: &[f64],
    xs: &[&[T]],
) -> Vec<T> {
    cpu::combine_picked(base, length, rows, weights, xs)
}

/// [`scaled_norms_each`](super::scaled_norms_each) of slices.
///
/// # Errors
/// When tolerances of each entry are of another type.
pub fn scaled_norms_slices_each<T: Element>(
    rows: usize,
    states: (&[T], &[T]),
    scale: &Scale,
    k: &[&[T]],
    weights: &[Vec<f64>],
) -> Result<Vec<SmallVec<[f64; 2]>>> {
    let tolerances = scale.views()?;
    let scale = scale.body::<T>(&tolerances)?;
    let length = states.0.len() / rows;
    let norms_of = |e: &Vec<f64>| {
        let terms = e.iter().zip(k).filter(|(e, _)| **e != 0.0);
        let terms: SmallVec<[_; 8]> = terms.map(|(&e, &k)| (T::from_f64(e), k)).collect();
        let squares = cpu::sums_of_squares(states, length, scale, &terms).into_iter();
        squares.map(move |square| (square / length as f64).sqrt())
    };
    let Some((first, others)) = weights.split_first() else {
        return Ok(vec![SmallVec::new(); rows]);
    };
    let mut norms: Vec<SmallVec<_>> = norms_of(first).map(|norm| smallvec![norm]).collect();
    for e in others {
        norms.iter_mut().zip(norms_of(e)).for_each(|(norms, norm)| norms.push(norm));
    }
    Ok(norms)
}

/// Returns the sums of squares of `sum(slopes_i k_i) / scale` and `sum(states_i k_i) / scale` of every row.
///
/// # Errors
/// When tolerances of each entry are of another type.
pub(crate) fn difference_squares_slices<T: Element>(
    rows: usize,
    states: (&[T], &[T]),
    scale: &Scale,
    k: &[&[T]],
    weights: [&[f64]; 2],
) -> Result<Differences> {
    let tolerances = scale.views()?;
    let scale = scale.body::<T>(&tolerances)?;
    let [mut a, mut b] = [SmallVec::<[_; 16]>::new(), SmallVec::<[_; 16]>::new()];
    for (terms, weights) in [&mut a, &mut b].into_iter().zip(weights) {
        // Adapters of iterators are not inlined here in every profile.
        for (&w, &k) in weights.iter().zip(k) {
            if w != 0.0 {
                terms.push((T::from_f64(w), k));
            }
        }
    }
    let mut out = Differences::from_elem([0.0; 2], rows);
    cpu::difference_squares(&mut out, states, scale, [&a, &b]);
    Ok(out)
}

/// Adds weighted rows of `source` to rows of `out`, of which there are `rows`.
///
/// # Panics
/// When there is no such row.
pub fn add_slice_rows<T: Element>(
    out: &mut [T],
    rows: usize,
    terms: impl Iterator<Item = RowTerm>,
    source: &[T],
) {
    let length = out.len() / rows;
    for RowTerm { row, weight, source: from } in terms {
        let (weight, from) = (T::from_f64(weight), &source[from * length..][..length]);
        for (out, from) in out[row * length..][..length].iter_mut().zip(from) {
            *out += weight * *from;
        }
    }
}

//! The same operations on slices, for steps that create no tensors.

use smallvec::{SmallVec, smallvec};

use super::{Differences, Element, RowNorms, RowTerm, Scale, cpu};
use crate::Result;

/// Writes `base + h sum(w_i x_i)`, or the sum alone without a base, to `out`, with one `h` for all or one per row: what
/// [`combine_steps`](super::combine_steps) does, to the same bits.
///
/// # Panics
/// When a slice is shorter than `out`.
#[inline]
pub fn combine_slices<T: Element>(
    out: &mut [T],
    base: Option<&[T]>,
    h: &[f64],
    terms: &[(f64, &[T])],
) {
    match *h {
        [h] => with_terms(terms.iter().map(|&(w, x)| (h * w, x)), |terms| {
            cpu::combine_over(out, base, terms);
        }),
        _ => cpu::combine_each_over(out, base, h, terms),
    }
}

/// Terms of ordinary tableaux.
const FEW: usize = 16;

/// Hands over a list of weighted slices, in the type of their numbers.
#[inline(always)]
pub(super) fn with_terms<'a, T: Element, R>(
    terms: impl Iterator<Item = (f64, &'a [T])>,
    work: impl FnOnce(&[(T, &[T])]) -> R,
) -> R {
    let mut list = SmallVec::<[(T, &[T]); FEW]>::new();
    // Not `collect`: what that calls is not inlined here in every profile.
    for (w, x) in terms {
        list.push((T::from_f64(w), x));
    }
    work(&list)
}

/// [`combine_slices`] over the weights that are not zero, where `x_i` is row `i` of `k`.
///
/// # Panics
/// As [`combine_slices`].
#[inline]
pub fn combine_slopes<T: Element>(
    out: &mut [T],
    base: Option<&[T]>,
    h: &[f64],
    weights: &[f64],
    k: &[T],
) {
    if let [h] = *h
        && cpu::combine_slopes(out, base, h, weights, k)
    {
        return;
    }
    let size = out.len();
    let slopes = weights.iter().enumerate().filter(|(_, w)| **w != 0.0);
    let terms: SmallVec<[_; FEW]> = slopes.map(|(i, &w)| (w, &k[i * size..][..size])).collect();
    combine_slices(out, base, h, &terms);
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

/// [`scaled_norms`](super::scaled_norms) of slices.
///
/// # Errors
/// When tolerances of each entry are of another type.
pub fn scaled_norms_slices<T: Element>(
    (y0, y1): (&[T], &[T]),
    scale: &Scale,
    k: &[&[T]],
    weights: &[Vec<f64>],
) -> Result<SmallVec<[f64; 2]>> {
    let tolerances = scale.views()?;
    let scale = scale.body::<T>(&tolerances)?;
    let mut norms = SmallVec::new();
    for e in weights {
        let terms = e.iter().zip(k).filter(|(e, _)| **e != 0.0).map(|(&e, &k)| (e, k));
        let square = with_terms(terms, |terms| cpu::sum_of_squares(y0, y1, scale, terms));
        norms.push((square / y0.len() as f64).sqrt());
    }
    Ok(norms)
}

/// [`scaled_norms_slices`] of slopes one after the other.
///
/// # Errors
/// When tolerances of each entry are of another type.
pub fn scaled_norms_slopes<T: Element>(
    (y0, y1): (&[T], &[T]),
    scale: &Scale,
    k: &[T],
    weights: &[Vec<f64>],
) -> Result<SmallVec<[f64; 2]>> {
    let tolerances = scale.views()?;
    let body = scale.body::<T>(&tolerances)?;
    let mut norms = SmallVec::new();
    for e in weights {
        match cpu::sum_of_squares_of_slopes(y0, y1, body, e, k) {
            Some(square) => norms.push((square / y0.len() as f64).sqrt()),
            None => {
                let k: SmallVec<[&[T]; FEW]> = k.chunks_exact(y0.len()).collect();
                return scaled_norms_slices((y0, y1), scale, &k, weights);
            }
        }
    }
    Ok(norms)
}

/// [`scaled_norms_each`](super::scaled_norms_each) of slices that are taken as `rows` rows.
///
/// # Errors
/// When tolerances of each entry are of another type.
pub fn scaled_norms_slices_each<T: Element>(
    rows: usize,
    states: (&[T], &[T]),
    scale: &Scale,
    k: &[&[T]],
    weights: &[Vec<f64>],
) -> Result<RowNorms> {
    if rows == 1 {
        return Ok([scaled_norms_slices(states, scale, k, weights)?].into());
    }
    let tolerances = scale.views()?;
    let scale = scale.body::<T>(&tolerances)?;
    let length = states.0.len() / rows;
    let mut norms = RowNorms::with_capacity(rows);
    for (number, e) in weights.iter().enumerate() {
        let terms = e.iter().zip(k).filter(|(e, _)| **e != 0.0).map(|(&e, &k)| (e, k));
        let squares = with_terms(terms, |terms| cpu::sums_of_squares(states, length, scale, terms));
        let means = squares.into_iter().map(|square| (square / length as f64).sqrt());
        match number {
            0 => norms.extend(means.map(|norm| smallvec![norm])),
            _ => norms.iter_mut().zip(means).for_each(|(norms, norm)| norms.push(norm)),
        }
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
    let mut out = Differences::from_elem([0.0; 2], rows);
    let [a, b] = weights.map(|weights| {
        let terms = weights.iter().zip(k).filter(|(w, _)| **w != 0.0);
        terms.map(|(&w, &k)| (w, k))
    });
    with_terms(a, |a| {
        with_terms(b, |b| {
            cpu::difference_squares(&mut out, states, scale, [a, b]);
        });
    });
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

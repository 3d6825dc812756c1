//! The same passes over batches in which each row has its own step size.
//!
//! Each entry is rounded as in a pass over one state, so the steps of a sample do not depend on the other samples.

use candle_core::{DType, Device, Tensor};
use smallvec::SmallVec;

#[cfg(feature = "cuda")]
use super::cuda;
use super::{
    RowNorms, Scale, Term, Terms, View, add_slice_rows, combine, combine_slices_picked, cpu,
    difference_squares_slices, first_non_finite, scaled_norms_slices_each,
};
use crate::scheme::Half;
use crate::{Error, Result};

/// A weighted row to be added to a row of another tensor.
#[derive(Clone, Copy, Debug)]
pub struct RowTerm {
    /// The row that is added to.
    pub row: usize,
    /// The weight.
    pub weight: f64,
    /// The row of the source.
    pub source: usize,
}

/// Returns `base + h sum(w_i x_i)`, or the sum alone without a base, with one `h` for the whole state or one for each
/// row.
///
/// # Shapes
/// As [`combine`] and [`combine_each`].
pub fn combine_steps(base: Option<&Tensor>, h: &[f64], terms: &[Term<'_>]) -> Result<Tensor> {
    match *h {
        [h] => combine(base, &terms.iter().map(|&(w, x)| (h * w, x)).collect::<Terms<'_>>()),
        _ => combine_each(base, h, terms),
    }
}

/// Returns `base + sum(h_r w_i x_i)`, where `h_r` belongs to the row, or the sum alone.
///
/// Where candle tracks one of the tensors, the sum is made of candle's operations instead and stays
/// in its graph.
///
/// # Shapes
/// `h`: one per row; `base` and every `x_i`: `[rows, ..state]`; so is the result.
pub fn combine_each(base: Option<&Tensor>, h: &[f64], terms: &[Term<'_>]) -> Result<Tensor> {
    if base.into_iter().chain(terms.iter().map(|&(_, x)| x)).any(Tensor::track_op) {
        return combine_tracked(base, h, terms);
    }
    let base = base.map(Tensor::contiguous).transpose()?;
    let copies = terms.iter().map(|&(w, x)| Ok((w, x.contiguous()?)));
    let copies = copies.collect::<Result<SmallVec<[(f64, Tensor); 8]>>>()?;
    let Some(like) = base.as_ref().or(copies.first().map(|(_, x)| x)) else {
        return Err(candle_core::Error::msg("combine_each needs a tensor").into());
    };
    on_gpu!(like, gpu => {
        let weights: Vec<f64> =
            h.iter().flat_map(|h| terms.iter().map(move |(w, _)| h * w)).collect();
        let xs: SmallVec<[_; 8]> = copies.iter().map(|(_, x)| x).collect();
        cuda::combine_picked(gpu, base.as_ref(), None, &weights, &xs)
    });
    with_element!(like.dtype(), T => {
        let held = base.as_ref().map(View::held);
        let held = held.as_ref().map(View::slice::<T>).transpose()?;
        let views: SmallVec<[_; 8]> = copies.iter().map(|(_, x)| View::held(x)).collect();
        let mut slices = SmallVec::<[(f64, &[T]); 16]>::new();
        for ((w, _), view) in copies.iter().zip(&views) {
            slices.push((*w, view.slice()?));
        }
        let out = cpu::combine_each(like.elem_count(), held, h, &slices);
        Ok(Tensor::from_vec(out, like.shape(), &Device::Cpu)?)
    })
}

fn combine_tracked(base: Option<&Tensor>, h: &[f64], terms: &[Term<'_>]) -> Result<Tensor> {
    let mut sum = base.cloned();
    for &(w, x) in terms {
        let term = x.affine(w, 0.0)?.broadcast_mul(&column(h, x)?)?;
        sum = Some(match sum {
            Some(sum) => (sum + term)?,
            None => term,
        });
    }
    Ok(sum.ok_or_else(|| candle_core::Error::msg("combine_each needs a tensor"))?)
}

/// Numbers, one per row, as a tensor that broadcasts against `like`.
fn column(h: &[f64], like: &Tensor) -> Result<Tensor> {
    let mut shape = vec![1; like.rank()];
    shape[0] = h.len();
    Ok(Tensor::from_slice(h, shape, like.device())?.to_dtype(like.dtype())?)
}

/// Returns the rows `base[r_m] + sum(w_mi x_i[r_m])`: outputs of several samples' steps at once.
///
/// # Shapes
/// `rows`: the `r_m`; `weights`: row-major `[rows.len(), xs.len()]`; `base` and every `x_i`:
/// `[batch, ..state]`; result: `[rows.len(), ..state]`.
pub fn combine_picked(
    base: &Tensor,
    rows: &[usize],
    weights: &[f64],
    xs: &[&Tensor],
) -> Result<Tensor> {
    let base = base.contiguous()?;
    let xs = xs.iter().map(|x| Ok(x.contiguous()?)).collect::<Result<SmallVec<[_; 8]>>>()?;
    on_gpu!(base, gpu => {
        let xs: SmallVec<[_; 8]> = xs.iter().collect();
        cuda::combine_picked(gpu, Some(&base), Some(rows), weights, &xs)
    });
    with_element!(base.dtype(), T => {
        let held = View::held(&base);
        let views: SmallVec<[_; 8]> = xs.iter().map(View::held).collect();
        let slices = views.iter().map(View::slice::<T>).collect::<Result<SmallVec<[_; 8]>>>()?;
        let length = base.elem_count() / base.dims()[0];
        let out = combine_slices_picked(held.slice::<T>()?, length, rows, weights, &slices);
        Ok(Tensor::from_vec(out, row_shape(&base, rows.len()), &Device::Cpu)?)
    })
}

/// Returns [`scaled_norms`](super::scaled_norms) of every row: one list of results per row.
///
/// # Shapes
/// `y0`, `y1` and every `k_i`: `[rows, ..state]`; `weights`: one list of `k.len()` per result.
pub fn scaled_norms_each(
    y0: &Tensor,
    y1: &Tensor,
    scale: &Scale,
    k: &[&Tensor],
    weights: &[Vec<f64>],
) -> Result<RowNorms> {
    norms(y0.dims()[0], (y0, y1), scale, k, weights)
}

/// [`scaled_norms_each`] of states that are taken for so many rows.
pub(crate) fn norms(
    rows: usize,
    (y0, y1): (&Tensor, &Tensor),
    scale: &Scale,
    k: &[&Tensor],
    weights: &[Vec<f64>],
) -> Result<RowNorms> {
    let (y0, y1) = (y0.contiguous()?, y1.contiguous()?);
    let k = k.iter().map(|k| Ok(k.contiguous()?)).collect::<Result<SmallVec<[_; 8]>>>()?;
    on_gpu!(y0, gpu => {
        Ok(cuda::norms(gpu, (&y0, &y1), scale, (&k, weights), rows)?.into())
    });
    with_element!(y0.dtype(), T => {
        let (y0, y1) = (View::held(&y0), View::held(&y1));
        let states = (y0.slice::<T>()?, y1.slice::<T>()?);
        let views: SmallVec<[_; 8]> = k.iter().map(View::held).collect();
        let k = views.iter().map(View::slice::<T>).collect::<Result<SmallVec<[_; 8]>>>()?;
        scaled_norms_slices_each(rows, states, scale, &k, weights)
    })
}

/// Squares of two weighted sums of every row.
pub(crate) type Differences = SmallVec<[[f64; 2]; 1]>;

/// Returns the sums of squares of `sum(slopes_i k_i) / scale` and `sum(states_i k_i) / scale` of every row;
/// the states are taken for so many rows, whatever their first dimension.
pub(crate) fn difference_squares(
    rows: usize,
    (y0, y1): (&Tensor, &Tensor),
    scale: &Scale,
    k: &[Tensor],
    weights: [&[f64]; 2],
) -> Result<Differences> {
    let (y0, y1) = (y0.contiguous()?, y1.contiguous()?);
    let k = k.iter().map(|k| Ok(k.contiguous()?)).collect::<Result<SmallVec<[_; 8]>>>()?;
    on_gpu!(y0, gpu => {
        let lists = weights.map(<[f64]>::to_vec);
        let norms = cuda::norms(gpu, (&y0, &y1), scale, (&k, &lists), rows)?;
        let length = (y0.elem_count() / rows) as f64;
        let square = |norm: f64| norm * norm * length;
        Ok(norms.iter().map(|norms| [square(norms[0]), square(norms[1])]).collect())
    });
    with_element!(y0.dtype(), T => {
        let (y0, y1) = (View::held(&y0), View::held(&y1));
        let states = (y0.slice::<T>()?, y1.slice::<T>()?);
        let views: SmallVec<[_; 8]> = k.iter().map(View::held).collect();
        let k = views.iter().map(View::slice::<T>).collect::<Result<SmallVec<[_; 8]>>>()?;
        difference_squares_slices(rows, states, scale, &k, weights)
    })
}

/// Returns the inner products of corresponding rows of two tensors of the same shape and dtype, each taken as `rows`
/// rows.
pub fn dots(rows: usize, a: &Tensor, b: &Tensor) -> Result<SmallVec<[f64; 1]>> {
    let length = a.elem_count() / rows;
    let (a, b) = (a.contiguous()?, b.contiguous()?);
    on_gpu!(a, gpu => Ok(cuda::dots(gpu, &a, &b, rows)?.into()));
    with_element!(a.dtype(), T => {
        let (a, b) = (View::held(&a), View::held(&b));
        let rows = a.slice::<T>()?.chunks_exact(length).zip(b.slice::<T>()?.chunks_exact(length));
        Ok(rows.map(|(a, b)| cpu::dot(a, b)).collect())
    })
}

/// Returns the largest distance between corresponding rows of `a` and `b`, relative to their size; 0 for rows of zeros.
/// The tensors are taken as `rows` rows.
pub fn largest_move(rows: usize, a: &Tensor, b: &Tensor) -> Result<f64> {
    let off = combine(Some(b), &[(-1.0, a)])?;
    let squares = dots(rows, &off, &off)?.into_iter().zip(dots(rows, b, b)?);
    Ok(squares.map(|(off, size)| relative(off, size)).fold(0.0, f64::max))
}

/// [`largest_move`] of slices.
pub fn largest_move_of_slices<T: cpu::Element>(rows: usize, a: &[T], b: &[T]) -> f64 {
    let length = a.len() / rows;
    let pairs = a.chunks_exact(length).zip(b.chunks_exact(length));
    let squares = pairs.map(|(a, b)| {
        let numbers = a.iter().zip(b).map(|(a, b)| (a.to_f64(), b.to_f64()));
        numbers.fold((0.0, 0.0), |(off, size), (a, b)| (off + (b - a) * (b - a), size + b * b))
    });
    squares.map(|(off, size)| relative(off, size)).fold(0.0, f64::max)
}

/// The root of `off` over `size`; a move of a row of zeros is infinite, and so is one that is no number.
fn relative(off: f64, size: f64) -> f64 {
    match off == 0.0 {
        true => 0.0,
        false if (off / size).is_nan() => f64::INFINITY,
        false => (off / size).sqrt(),
    }
}

/// Returns `x` with one half of its last dimension set to zero; stays in candle's graph.
pub fn keep_half(x: &Tensor, half: Half) -> Result<Tensor> {
    let last = x.rank() - 1;
    let width = x.dims()[last] / 2;
    let (first, second) = (x.narrow(last, 0, width)?, x.narrow(last, width, width)?);
    Ok(match half {
        Half::First => Tensor::cat(&[&first, &second.zeros_like()?], last)?,
        Half::Second => Tensor::cat(&[&first.zeros_like()?, &second], last)?,
    })
}

/// [`keep_half`] of a slice of states `width` wide.
pub fn keep_half_of_slice<T: cpu::Element>(x: &mut [T], width: usize, half: Half) {
    for state in x.chunks_exact_mut(width) {
        let (first, second) = state.split_at_mut(width / 2);
        match half {
            Half::First => second.fill(T::zero()),
            Half::Second => first.fill(T::zero()),
        }
    }
}

/// Returns the index of the first entry of every row that is NaN or infinite.
pub fn non_finite_rows(x: &Tensor) -> Result<Vec<Option<usize>>> {
    if first_non_finite(x)?.is_none() {
        return Ok(vec![None; x.dims()[0]]);
    }
    (0..x.dims()[0]).map(|row| first_non_finite(&x.get(row)?)).collect()
}

/// Returns the given rows of several tensors, one below the other.
///
/// # Shapes
/// Every tensor: `[.., ..state]`; result: `[sources.len(), ..state]`. There is at least one.
pub fn gather_rows(sources: &[(&Tensor, usize)]) -> Result<Tensor> {
    let Some((first, _)) = sources.first() else {
        return Err(candle_core::Error::msg("gather_rows needs a row").into());
    };
    on_gpu!(first, gpu => cuda::gather_rows(gpu, sources));
    let length = first.elem_count() / first.dims()[0].max(1);
    with_element!(first.dtype(), T => {
        let mut out: Vec<T> = Vec::with_capacity(sources.len() * length);
        for same in sources.chunk_by(|a, b| a.0.id() == b.0.id()) {
            let source = same[0].0;
            let copy = if source.is_contiguous() { None } else { Some(source.contiguous()?) };
            let view = View::held(copy.as_ref().unwrap_or(source));
            let rows = view.slice::<T>()?;
            // Neighbours that stay neighbours travel together.
            for run in same.chunk_by(|a, b| a.1 + 1 == b.1) {
                out.extend_from_slice(&rows[run[0].1 * length..][..run.len() * length]);
            }
        }
        Ok(Tensor::from_vec(out, row_shape(first, sources.len()), &Device::Cpu)?)
    })
}

/// Returns these rows of a tensor.
pub fn pick_rows(x: &Tensor, rows: &[usize]) -> Result<Tensor> {
    gather_rows(&rows.iter().map(|&row| (x, row)).collect::<Vec<_>>())
}

/// Returns the rows of `a` where `mask` says so, of `b` elsewhere.
pub fn choose_rows(mask: &[bool], a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if mask.iter().all(|&mask| mask) {
        return Ok(a.clone());
    }
    let (a, b) = (a.contiguous()?, b.contiguous()?);
    on_gpu!(a, gpu => cuda::choose_rows(gpu, mask, &a, &b));
    let length = a.elem_count() / mask.len().max(1);
    with_element!(a.dtype(), T => {
        let (a_view, b_view) = (View::held(&a), View::held(&b));
        let (from_a, from_b) = (a_view.slice::<T>()?, b_view.slice::<T>()?);
        let mut out: Vec<T> = Vec::with_capacity(a.elem_count());
        for run in mask.chunk_by(|x, y| x == y) {
            let range = out.len()..out.len() + run.len() * length;
            out.extend_from_slice(if run[0] { &from_a[range] } else { &from_b[range] });
        }
        Ok(Tensor::from_vec(out, a.shape(), &Device::Cpu)?)
    })
}

/// Returns `x` with weighted rows of `source` added to rows of it.
pub fn add_rows(x: &Tensor, terms: &[RowTerm], source: &Tensor) -> Result<Tensor> {
    if terms.is_empty() {
        return Ok(x.clone());
    }
    let (x, source) = (x.contiguous()?, source.contiguous()?);
    on_gpu!(x, gpu => cuda::add_rows(gpu, &x, terms, &source));
    with_element!(x.dtype(), T => {
        let mut out = View::held(&x).slice::<T>()?.to_vec();
        let source = View::held(&source);
        add_slice_rows(&mut out, x.dims()[0], terms.iter().copied(), source.slice::<T>()?);
        Ok(Tensor::from_vec(out, x.shape(), &Device::Cpu)?)
    })
}

/// The shape of `rows` rows like those of `like`.
pub(super) fn row_shape(like: &Tensor, rows: usize) -> Vec<usize> {
    std::iter::once(rows).chain(like.dims()[1..].iter().copied()).collect()
}

//! The only place where the solver touches elements: fused passes over whole states.
//!
//! Each function names a mathematical operation; the body that runs it belongs to the device.
//! States are `f32` or `f64`, on a GPU `f16` and `bf16` too; sums over a state are accumulated in
//! `f64` in an order that depends on its size alone, so a solve repeats bit for bit whatever the
//! number of threads.

use candle_core::{DType, Device, Shape, Storage, StorageRef, Tensor, WithDType};
use smallvec::SmallVec;

use crate::{Error, Result};

mod cpu;
pub mod cuda;

/// Returns what `$work` gives on the GPU, where `$x` lives on one.
macro_rules! on_gpu {
    ($x:expr, $gpu:ident => $work:expr) => {
        #[cfg(feature = "cuda")]
        if let Device::Cuda($gpu) = $x.device() {
            return $work;
        }
    };
}

/// Whether there are kernels of our own for a device.
pub fn has_kernels(device: &Device) -> bool {
    device.is_cpu() || (cfg!(feature = "cuda") && device.is_cuda())
}

/// Runs `$body` with `$T` bound to the element type of `$dtype`.
macro_rules! with_element {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            DType::F32 => {
                type $T = f32;
                $body
            }
            DType::F64 => {
                type $T = f64;
                $body
            }
            dtype => Err(Error::UnsupportedDType { dtype }),
        }
    };
}

mod audit;
mod rows;
mod slices;

pub use audit::{
    Products, RowDifferences, RowProducts, differences, differences_slices, dot_slices, products,
    products_slopes,
};
pub use cpu::Element;
pub use rows::largest_move;
pub(crate) use rows::{Differences, difference_squares, norms};
pub use rows::{
    RowTerm, add_rows, choose_rows, combine_each, combine_picked, combine_steps, dots, gather_rows,
    keep_half, keep_half_of_slice, largest_move_of_slices, non_finite_rows, pick_rows,
    scaled_norms_each,
};
pub(crate) use slices::difference_squares_slices;
pub use slices::{
    add_slice_rows, combine_slices, combine_slices_picked, combine_slopes, scaled_norms_slices,
    scaled_norms_slices_each, scaled_norms_slopes,
};

/// The error scale `atol + rtol * max(|y0|, |y1|)` of every entry.
#[derive(Clone, Debug)]
pub enum Scale {
    /// The same tolerances for every entry.
    Uniform {
        /// Relative tolerance.
        rtol: f64,
        /// Absolute tolerance.
        atol: f64,
    },
    /// Tolerances of each entry: contiguous tensors of the state's shape and dtype.
    Each {
        /// Relative tolerances.
        rtol: Tensor,
        /// Absolute tolerances.
        atol: Tensor,
    },
}

impl Scale {
    fn views(&self) -> Result<Option<(View<'_>, View<'_>)>> {
        match self {
            Self::Each { rtol, atol } => Ok(Some((View::new(rtol)?, View::new(atol)?))),
            Self::Uniform { .. } => Ok(None),
        }
    }

    /// The scale as the bodies see it, over the views that it needs.
    fn body<'a, T: cpu::Element>(
        &self,
        views: &'a Option<(View<'_>, View<'_>)>,
    ) -> Result<cpu::Scale<'a, T>> {
        Ok(match (views, self) {
            (Some((rtol, atol)), _) => {
                cpu::Scale::Each { rtol: rtol.slice()?, atol: atol.slice()? }
            }
            (None, &Self::Uniform { rtol, atol }) => {
                cpu::Scale::Uniform { rtol: T::from_f64(rtol), atol: T::from_f64(atol) }
            }
            (None, Self::Each { .. }) => {
                return Err(candle_core::Error::msg("tolerances of each entry need views").into());
            }
        })
    }
}

/// A weighted tensor of a sum.
pub type Term<'a> = (f64, &'a Tensor);

/// A list of [`Term`]s that needs no allocation for ordinary tableaux.
pub type Terms<'a> = SmallVec<[Term<'a>; 8]>;

/// Returns `base + sum(w_i x_i)`, or the sum alone without a base, in one pass.
///
/// Where candle tracks one of the tensors, the sum is made of candle's operations instead and stays
/// in its graph.
///
/// # Shapes
/// `base` and every `x_i`: the same shape and dtype; so is the result. There is at least one.
pub fn combine(base: Option<&Tensor>, terms: &[Term<'_>]) -> Result<Tensor> {
    let mut all = base.into_iter().chain(terms.iter().map(|&(_, x)| x));
    if !all.any(Tensor::track_op) {
        return combine_with_rows(base, terms, None);
    }
    let mut terms = terms.iter();
    let first = match base {
        Some(base) => Some(base.clone()),
        None => terms.next().map(|&(w, x)| x.affine(w, 0.0)).transpose()?,
    };
    let sum = first.map(|first| terms.try_fold(first, |sum, &(w, x)| sum + x.affine(w, 0.0)?));
    Ok(sum.transpose()?.ok_or_else(|| candle_core::Error::msg("combine needs a tensor"))?)
}

/// Returns `base + sum(w_i x_i) + sum_m(v_m g_m)` with the rows `g_m` of one more tensor.
///
/// # Shapes
/// As [`combine`]; `rows`: the weights `v`, one per row, and `[rows, ..state]`.
pub fn combine_with_rows(
    base: Option<&Tensor>,
    terms: &[Term<'_>],
    rows: Option<(&[f64], &Tensor)>,
) -> Result<Tensor> {
    let all = base.into_iter().chain(terms.iter().map(|&(_, x)| x));
    if all.chain(rows.map(|(_, rows)| rows)).any(|x| !x.is_contiguous()) {
        return combine_copies(base, terms, rows);
    }
    let like = base.or(terms.first().map(|&(_, x)| x));
    let (like, shape) = match (like, rows) {
        (Some(like), _) => (like, like.shape().clone()),
        (None, Some((_, rows))) => (rows, Shape::from(&rows.dims()[1..])),
        (None, None) => return Err(candle_core::Error::msg("combine needs a tensor").into()),
    };
    on_gpu!(like, gpu => cuda::combine(gpu, base, terms, rows, shape));
    let size = shape.elem_count();
    with_element!(like.dtype(), T => {
        let base = base.map(View::held);
        let base = base.as_ref().map(View::slice::<T>).transpose()?;
        let views: SmallVec<[_; 8]> = terms.iter().map(|&(_, x)| View::held(x)).collect();
        let rows = rows.map(|(v, rows)| (v, View::held(rows)));
        let mut slices = SmallVec::<[(T, &[T]); 16]>::new();
        for (&(w, _), view) in terms.iter().zip(&views) {
            slices.push((w as T, view.slice()?));
        }
        if let Some((v, rows)) = &rows {
            slices.extend(v.iter().map(|&v| v as T).zip(rows.slice()?.chunks_exact(size)));
        }
        Ok(Tensor::from_vec(cpu::combine(size, base, &slices), shape, &Device::Cpu)?)
    })
}

/// [`combine_with_rows`] for tensors that are not all contiguous.
fn combine_copies(
    base: Option<&Tensor>,
    terms: &[Term<'_>],
    rows: Option<(&[f64], &Tensor)>,
) -> Result<Tensor> {
    let base = base.map(Tensor::contiguous).transpose()?;
    let copies =
        terms.iter().map(|&(w, x)| Ok((w, x.contiguous()?))).collect::<Result<Vec<_>>>()?;
    let terms: Terms<'_> = copies.iter().map(|(w, x)| (*w, x)).collect();
    let rows = rows.map(|(v, rows)| Ok::<_, Error>((v, rows.contiguous()?))).transpose()?;
    combine_with_rows(base.as_ref(), &terms, rows.as_ref().map(|(v, rows)| (*v, rows)))
}

/// Returns `base + sum(w_mi x_i)` for every row `m` of `weights`: many outputs of one step at once.
///
/// As with [`combine`], tracked tensors stay in candle's graph.
///
/// # Shapes
/// `weights`: row-major `[rows, terms]`; `base` and every `x_i`: `[..state]`; result:
/// `[rows, ..state]`.
pub fn combine_rows(base: &Tensor, weights: &[f64], xs: &[&Tensor]) -> Result<Tensor> {
    if base.track_op() || xs.iter().any(|x| x.track_op()) {
        let row = |weights: &[f64]| {
            let terms: Terms<'_> = weights.iter().copied().zip(xs.iter().copied()).collect();
            combine(Some(base), &terms)
        };
        let rows = weights.chunks_exact(xs.len()).map(row).collect::<Result<Vec<_>>>()?;
        return Ok(Tensor::stack(&rows, 0)?);
    }
    let base = base.contiguous()?;
    let xs = xs.iter().map(|x| Ok(x.contiguous()?)).collect::<Result<SmallVec<[_; 8]>>>()?;
    on_gpu!(base, gpu => cuda::combine_rows(gpu, &base, weights, &xs));
    let rows = weights.len() / xs.len().max(1);
    let shape: Vec<usize> = std::iter::once(rows).chain(base.dims().iter().copied()).collect();
    with_element!(base.dtype(), T => {
        let base = View::held(&base);
        let views: SmallVec<[_; 8]> = xs.iter().map(View::held).collect();
        let xs = views.iter().map(View::slice::<T>).collect::<Result<SmallVec<[_; 8]>>>()?;
        let weights: SmallVec<[T; 64]> = weights.iter().map(|&w| w as T).collect();
        let out = cpu::combine_rows(base.slice()?, &weights, &xs);
        Ok(Tensor::from_vec(out, shape, &Device::Cpu)?)
    })
}

/// Returns for each list of weights `e` the root mean square of `sum(e_i k_i) / scale`, all in one
/// pass without temporaries.
///
/// A result is NaN when an entry of `y1` is not finite.
///
/// # Shapes
/// `y0`, `y1` and every `k_i`: `[..state]`; `weights`: one list of `k.len()` per result.
pub fn scaled_norms(
    y0: &Tensor,
    y1: &Tensor,
    scale: &Scale,
    k: &[&Tensor],
    weights: &[Vec<f64>],
) -> Result<SmallVec<[f64; 2]>> {
    Ok(norms(1, (y0, y1), scale, k, weights)?.swap_remove(0))
}

/// Norms of every row: one list of results per row.
pub type RowNorms = SmallVec<[SmallVec<[f64; 2]>; 1]>;

/// Returns the inner product of two tensors of the same shape and dtype.
pub fn dot(a: &Tensor, b: &Tensor) -> Result<f64> {
    let (a, b) = (a.contiguous()?, b.contiguous()?);
    on_gpu!(a, gpu => Ok(cuda::dots(gpu, &a, &b, 1)?.swap_remove(0)));
    with_element!(a.dtype(), T => {
        let (a, b) = (View::held(&a), View::held(&b));
        Ok(cpu::dot(a.slice::<T>()?, b.slice::<T>()?))
    })
}

/// Returns the row-major index of the first entry that is NaN or infinite.
pub fn first_non_finite(x: &Tensor) -> Result<Option<usize>> {
    let x = x.contiguous()?;
    on_gpu!(x, gpu => cuda::first_non_finite(gpu, &x));
    with_element!(x.dtype(), T => {
        Ok(View::held(&x).slice::<T>()?.iter().position(|x| !x.is_finite()))
    })
}

/// Returns the smallest and the largest entry; NaN for both when an entry is NaN.
pub(crate) fn extremes(x: &Tensor) -> Result<[f64; 2]> {
    // Once a solve.
    let x = x.to_device(&Device::Cpu)?.contiguous()?;
    with_element!(x.dtype(), T => Ok(cpu::extremes(View::held(&x).slice::<T>()?)))
}

/// A contiguous CPU tensor whose storage is held for reading. Kernels outside this crate, such as those of layers, read
/// elements through it without copying them.
///
/// # Example
/// ```
/// use aca_core::kernels::View;
/// use candle_core::{Device, Tensor};
///
/// # fn main() -> aca_core::Result<()> {
/// let x = Tensor::new(&[[1.0f32, 2.0], [3.0, 4.0]], &Device::Cpu)?;
/// assert_eq!(View::new(&x.get(1)?)?.slice::<f32>()?, [3.0, 4.0]);
/// # Ok(())
/// # }
/// ```
pub struct View<'a> {
    storage: StorageRef<'a>,
    start: usize,
    end: usize,
}

impl<'a> View<'a> {
    /// Holds the storage of `x` for reading.
    ///
    /// # Errors
    /// When `x` is not contiguous.
    pub fn new(x: &'a Tensor) -> Result<Self> {
        if !x.is_contiguous() {
            let message = format!("a view needs a contiguous tensor, not strides {:?}", x.stride());
            return Err(candle_core::Error::msg(message).into());
        }
        Ok(Self::held(x))
    }

    /// [`View::new`] of a tensor that is known to be contiguous.
    fn held(x: &'a Tensor) -> Self {
        let (storage, layout) = x.storage_and_layout();
        let start = layout.start_offset();
        Self { storage, start, end: start + layout.shape().elem_count() }
    }

    /// The elements in row-major order.
    ///
    /// # Errors
    /// [`Error::UnsupportedDevice`] off the CPU; when `T` is not the tensor's dtype.
    pub fn slice<T: WithDType>(&self) -> Result<&[T]> {
        match &*self.storage {
            Storage::Cpu(storage) => Ok(&storage.as_slice::<T>()?[self.start..self.end]),
            other => {
                Err(Error::UnsupportedDevice { device: format!("{:?}", other.device().location()) })
            }
        }
    }
}

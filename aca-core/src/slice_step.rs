//! What a step on slices makes of its times and sizes.

use smallvec::SmallVec;

use crate::kernels::{self, Element};
use crate::{Method, RowSteps, SliceTime};

/// One step of a state on slices: of all of it, or of each row at times of its own.
#[derive(Clone, Copy, Debug)]
pub enum SliceStep<'a> {
    /// The whole state goes from `t0` to `t1`.
    Shared {
        /// Where the step starts.
        t0: f64,
        /// Where it ends.
        t1: f64,
    },
    /// Every row has a step of its own.
    Each(&'a RowSteps),
}

impl<'a> SliceStep<'a> {
    /// When stage `i` is evaluated.
    #[inline]
    pub fn time(self, method: &'a Method, i: usize) -> SliceTime<'a> {
        match self {
            Self::Shared { t0, t1 } => SliceTime::new(method.stage_time(t0, t1, i)),
            Self::Each(rows) => SliceTime::of_rows(method, rows, i),
        }
    }

    /// Writes `base + h sum(w_i x_i)`, or the sum alone without a base, to `out`: to the bits of the
    /// same sum of tensors.
    ///
    /// # Panics
    /// When a slice is shorter than `out`.
    pub fn write_sum<T: Element>(self, out: &mut [T], base: Option<&[T]>, terms: &[(f64, &[T])]) {
        self.write(out, base, terms.iter().copied());
    }

    /// [`SliceStep::write_sum`] of terms that are listed once, with the step's size in their weights.
    #[inline]
    fn write<'x, T: Element>(
        self,
        out: &mut [T],
        base: Option<&[T]>,
        terms: impl Iterator<Item = (f64, &'x [T])>,
    ) {
        match self {
            Self::Shared { t0, t1 } => {
                let h = t1 - t0;
                let terms = terms.map(|(w, x)| (T::from_f64(h * w), x));
                kernels::combine_slices(out, base, &terms.collect::<SmallVec<[_; 16]>>());
            }
            Self::Each(rows) => {
                let terms: SmallVec<[_; 16]> = terms.collect();
                kernels::combine_slices_each(out, base, rows.h(), &terms);
            }
        }
    }

    /// Writes `y0 + h sum(w_i k_i)` over the weights that are not zero, where slope `i` is row `i`
    /// of `k`.
    ///
    /// # Panics
    /// As [`SliceStep::write_sum`].
    pub fn write_state<T: Element>(self, out: &mut [T], y0: &[T], weights: &[f64], k: &[T]) {
        let terms = weights.iter().zip(k.chunks_exact(y0.len())).filter(|(w, _)| **w != 0.0);
        self.write(out, Some(y0), terms.map(|(w, k)| (*w, k)));
    }

    /// Writes the state at which stage `i` is evaluated.
    ///
    /// # Panics
    /// As [`SliceStep::write_sum`].
    pub fn write_stage_state<T: Element>(
        self,
        method: &Method,
        i: usize,
        out: &mut [T],
        y0: &[T],
        k: &[T],
    ) {
        self.write_state(out, y0, if i == 0 { &[] } else { method.a_row(i) }, k);
    }
}

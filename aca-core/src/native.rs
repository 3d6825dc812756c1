//! Fields on slices, for states so small that creating a tensor costs more than computing with it.

use candle_core::{Tensor, Var};

use crate::kernels::Element;
use crate::{Stepper, Steps, VectorField};

/// A field that works on slices, bound to the states of one solve.
///
/// A tensor of candle costs five allocations and a lock, which takes longer than adding a few hundred numbers. With
/// such a field a solve and its replay work in buffers that they reuse, and create tensors only for results. The steps
/// are the same, bit for bit.
pub trait NativeField<T: Element> {
    /// Writes `f(t, y)` to `dy`.
    fn eval(&mut self, t: NativeTime<'_>, y: &[T], dy: &mut [T]);

    /// Writes the cotangent of `y` to `y_bar` and adds that of the variables to `theta_bar`, for the
    /// cotangent `lambda` of `f(t, y)`; adds that of the time to `t_bar`, one number for each time that `t` holds, where
    /// the field depends on it.
    fn pull(
        &mut self,
        t: NativeTime<'_>,
        y: &[T],
        lambda: &[T],
        y_bar: &mut [T],
        theta_bar: &mut [T],
        t_bar: &mut [f64],
    );

    /// The variables whose cotangents lie one after the other in `theta_bar`.
    fn variables(&self) -> Vec<Var>;
}

/// The time at which a field on slices is evaluated: one time, or one for each row of the state.
#[derive(Clone, Copy, Debug)]
pub struct NativeTime<'a>(Moment<'a>);

#[derive(Clone, Copy, Debug)]
enum Moment<'a> {
    Whole(f64),
    /// At the fraction `c` of every row's step.
    Rows(&'a Stepper, &'a Steps, f64),
}

impl<'a> NativeTime<'a> {
    /// The same time for all of the state.
    #[inline]
    pub fn new(t: f64) -> Self {
        Self(Moment::Whole(t))
    }

    /// The time at the fraction `c` of a step.
    #[inline]
    pub fn of(method: &'a Stepper, steps: &'a Steps, c: f64) -> Self {
        match steps.is_whole() {
            true => Self::new(method.time(steps.ends(0), c)),
            false => Self(Moment::Rows(method, steps, c)),
        }
    }

    /// Number of rows that have their own time.
    #[inline]
    pub fn rows(self) -> usize {
        match self.0 {
            Moment::Whole(_) => 1,
            Moment::Rows(_, steps, _) => steps.rows(),
        }
    }

    /// The time of a row of the state.
    ///
    /// # Panics
    /// When there is no such row.
    #[inline]
    pub fn of_row(self, row: usize) -> f64 {
        match self.0 {
            Moment::Whole(t) => t,
            Moment::Rows(method, steps, c) => method.row_time(steps.ends(row), c),
        }
    }

    /// The samples of the batch that the rows hold, if each row has its own time: all of them in order, unless the
    /// field [takes rows](VectorField::supports_row_subset).
    #[inline]
    pub fn samples(self) -> Option<&'a [usize]> {
        match self.0 {
            Moment::Whole(_) => None,
            Moment::Rows(_, steps, _) => steps.samples().map(|samples| &samples[..]),
        }
    }
}

/// A [`NativeField`] of the state's type.
pub enum Native<'a> {
    /// For states of `f32`.
    F32(Box<dyn NativeField<f32> + 'a>),
    /// For states of `f64`.
    F64(Box<dyn NativeField<f64> + 'a>),
}

impl Native<'_> {
    /// Size of the largest state that is solved on slices. Measured with DOPRI5 on a core with 48 KiB of first-level
    /// cache: a step of 1000 numbers takes 3.8 us on slices and 7.1 us on tensors, one of 4000 takes 23 us and 20 us.
    pub const LARGEST: usize = 2048;

    /// The field on slices of states like `y`, if it offers itself and they are small.
    pub fn of<'a>(field: &'a dyn VectorField, y: &Tensor) -> Option<Native<'a>> {
        if y.elem_count() > Self::LARGEST { None } else { field.native(y) }
    }

    /// The same for states whose rows step on their own. Rows of single numbers stay on tensors, so that a field whose
    /// states are the last dimension can refuse them.
    #[inline]
    pub fn of_rows<'a>(field: &'a dyn VectorField, y: &Tensor) -> Option<Native<'a>> {
        if y.rank() < 2 { None } else { Self::of(field, y) }
    }
}

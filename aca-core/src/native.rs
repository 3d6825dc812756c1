//! Fields on slices, for states so small that a tensor costs more than its numbers.

use candle_core::{Tensor, Var};

use crate::kernels::Element;
use crate::{Stepper, Steps, VectorField};

/// A field beside the states of one solve, on slices of their numbers.
///
/// A tensor of candle costs five allocations and a lock; a state of a few hundred numbers is added up in
/// less. A solve, and the replay of its steps, that has such a field works in buffers that it keeps, and
/// makes tensors of what it hands out alone. It takes the same steps to the same bits.
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

/// When a field on slices is evaluated: at one time, or at one for each row of the state.
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

    /// Number of rows of the state that have a time each.
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

    /// The samples of the batch that the rows hold where each has a time of its own: all of them in order,
    /// unless the field [takes rows](VectorField::supports_row_subset).
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
    /// Numbers of the largest state that is worked on in slices. Measured with DOPRI5 on a core with 48 KiB of
    /// first-level cache: a step of 1000 numbers takes 3.8 us on slices and 7.1 us on tensors, one of 4000
    /// takes 23 us and 20 us, since all stages have places of their own.
    pub const LARGEST: usize = 2048;

    /// The field on slices of states like `y`, if it offers itself and they are small.
    pub fn of<'a>(field: &'a dyn VectorField, y: &Tensor) -> Option<Native<'a>> {
        if y.elem_count() > Self::LARGEST { None } else { field.native(y) }
    }

    /// The same for states whose rows step on their own. Rows of single numbers are left to tensors,
    /// where a field can refuse them that joins those numbers to one state.
    #[inline]
    pub fn of_rows<'a>(field: &'a dyn VectorField, y: &Tensor) -> Option<Native<'a>> {
        if y.rank() < 2 { None } else { Self::of(field, y) }
    }
}

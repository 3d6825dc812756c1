//! Fields on slices, for states so small that a tensor costs more than its numbers.

use candle_core::{Tensor, Var};

use crate::kernels::Element;
use crate::{Method, RowSteps, VectorField};

/// A field beside the states of one solve, on slices of their numbers.
///
/// A tensor of candle costs five allocations and a lock; a state of a few hundred numbers is added up in
/// less. A solve, and the replay of its steps, that has such a field works in buffers that it keeps, and
/// makes tensors of what it hands out alone. It takes the same steps to the same bits.
pub trait SliceField<T: Element> {
    /// Writes `f(t, y)` to `dy`.
    fn eval(&mut self, t: SliceTime<'_>, y: &[T], dy: &mut [T]);

    /// Writes the cotangent of `y` to `y_bar` and adds that of the variables to `theta_bar`, for the
    /// cotangent `lambda` of `f(t, y)`.
    fn pull(
        &mut self,
        t: SliceTime<'_>,
        y: &[T],
        lambda: &[T],
        y_bar: &mut [T],
        theta_bar: &mut [T],
    );

    /// The variables whose cotangents lie one after the other in `theta_bar`.
    fn variables(&self) -> Vec<Var>;
}

/// When a field on slices is evaluated: at one time, or at one for each row of the state.
#[derive(Clone, Copy, Debug)]
pub struct SliceTime<'a>(Moment<'a>);

#[derive(Clone, Copy, Debug)]
enum Moment<'a> {
    Shared(f64),
    /// A stage of a step of every row.
    Each(&'a Method, &'a RowSteps, usize),
}

impl<'a> SliceTime<'a> {
    /// The same time for all of the state.
    #[inline]
    pub fn new(t: f64) -> Self {
        Self(Moment::Shared(t))
    }

    #[inline]
    pub(crate) fn of_rows(method: &'a Method, rows: &'a RowSteps, stage: usize) -> Self {
        Self(Moment::Each(method, rows, stage))
    }

    /// The time of a row of the state.
    ///
    /// # Panics
    /// When there is no such row.
    #[inline]
    pub fn of_row(self, row: usize) -> f64 {
        match self.0 {
            Moment::Shared(t) => t,
            Moment::Each(method, rows, stage) => method.row_time(rows.ends(row), stage),
        }
    }

    /// The samples of the batch that the rows hold where each has a time of its own: all of them in order,
    /// unless the field [takes rows](VectorField::takes_rows).
    #[inline]
    pub fn samples(self) -> Option<&'a [usize]> {
        match self.0 {
            Moment::Shared(_) => None,
            Moment::Each(_, rows, _) => Some(rows.samples()),
        }
    }
}

/// A [`SliceField`] of the state's type.
pub enum OnSlices<'a> {
    /// For states of `f32`.
    F32(Box<dyn SliceField<f32> + 'a>),
    /// For states of `f64`.
    F64(Box<dyn SliceField<f64> + 'a>),
}

impl OnSlices<'_> {
    /// Numbers of the largest state that is worked on in slices. Measured with DOPRI5 on a core with 48 KiB of
    /// first-level cache: a step of 1000 numbers takes 3.8 us on slices and 7.1 us on tensors, one of 4000
    /// takes 23 us and 20 us, since all stages have places of their own.
    pub const LARGEST: usize = 2048;

    /// The field on slices of states like `y`, if it offers itself and they are small.
    pub fn of<'a>(field: &'a dyn VectorField, y: &Tensor) -> Option<OnSlices<'a>> {
        if y.elem_count() > Self::LARGEST { None } else { field.on_slices(y) }
    }

    /// The same for states whose rows have clocks of their own. Rows of single numbers are left to tensors,
    /// where a field can refuse them that joins those numbers to one state.
    #[inline]
    pub fn of_rows<'a>(field: &'a dyn VectorField, y: &Tensor) -> Option<OnSlices<'a>> {
        if y.rank() < 2 { None } else { Self::of(field, y) }
    }
}

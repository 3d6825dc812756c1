//! Where the numbers of a solve live.

use candle_core::Tensor;
use smallvec::SmallVec;

use crate::kernels::{Differences, Scale};
use crate::step_context::StepContext;
use crate::{Result, Steps};

mod slices;
mod tensors;

pub(crate) use slices::SliceSpace;
pub use slices::SliceStages;
pub(crate) use tensors::TensorSpace;
pub use tensors::{Point, TensorStages};

/// The step that a run tries or has taken.
#[derive(Clone, Copy)]
pub(crate) struct Trial<'a> {
    pub(crate) rules: &'a StepContext<'a>,
    pub(crate) steps: &'a Steps,
    /// State at the start, `[..state]` or `[rows, ..state]`.
    pub(crate) y0: &'a Tensor,
}

/// Numbers of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Register {
    Slope(usize),
    End,
}

/// The state of a run and the slopes of its present step, on tensors or on slices.
pub(crate) trait Space {
    /// How many slopes of the present step there are; the first is known before the step is tried.
    fn known(&self) -> usize;

    /// Appends slopes until there are `count`.
    fn fill(&mut self, trial: Trial<'_>, count: usize) -> Result<()>;

    /// Evaluates the first slope: the method's own, or the field's at the start where the method knows none before a
    /// step is tried.
    fn start(&mut self, trial: Trial<'_>) -> Result<()>;

    /// Forgets all slopes but the first and tries the step: its slopes and its end.
    fn attempt(&mut self, trial: Trial<'_>) -> Result<()>;

    /// Writes the error ratio of every row's step, by estimates of these weights.
    fn ratios(
        &self,
        trial: Trial<'_>,
        scale: &Scale,
        weights: &[Vec<f64>],
        out: &mut SmallVec<[f64; 1]>,
    ) -> Result<()>;

    /// Squares of the differences of slopes and of states, of so many rows, that show how far the step reaches.
    fn differences(
        &self,
        trial: Trial<'_>,
        rows: usize,
        weights: [&[f64]; 2],
        scale: &Scale,
    ) -> Result<Differences>;

    /// The first number that is not finite: of a row, or of all of them.
    fn first_non_finite(&self, register: Register, row: Option<usize>) -> Result<Option<usize>>;

    /// Lets rows that are not `moved` end where they start, and returns the ends.
    fn ends(&mut self, trial: Trial<'_>, moved: Option<&[bool]>) -> Result<Tensor>;

    /// A slope.
    fn slope(&self, i: usize) -> Result<Tensor>;

    /// `y0[r_m] + sum(w_mi k_i[r_m])` for every picked row `r_m`; the whole state is row 0. Without a start the sum alone.
    fn combine(
        &self,
        trial: Trial<'_>,
        rows: &[usize],
        weights: &[f64],
        from_start: bool,
    ) -> Result<Tensor>;

    /// Replaces the end of a row.
    fn set_end(&mut self, row: Option<usize>, y: &Tensor) -> Result<()>;

    /// Moves to the end of the step, where slope `end` starts the next if any does; rows that are not `moved` keep
    /// the one that they have.
    fn advance(&mut self, end: Option<usize>, moved: Option<&[bool]>) -> Result<()>;

    /// Forgets what is known of the next step: another method takes it.
    fn begin_anew(&mut self);

    /// Norm of the Jacobian at the start of the present step, where an implicit stage asked for it.
    fn jacobian_norm(&self) -> Option<f64>;

    /// Keeps these rows alone; `y` holds them.
    fn keep(&mut self, rows: &[usize], y: &Tensor) -> Result<()>;
}

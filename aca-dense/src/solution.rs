//! A solved ODE.

use aca_core::{
    Batching, Error, Result, Solver, Stats, Status, StepSink, Stepper, TimeSpan, VectorField,
};
use candle_core::Tensor;

use crate::{DenseOutput, Placement, SaveAt, Saver, solve_samples};

/// A solved ODE: what a [`SaveAt`] asked for, detached from candle's graph.
#[derive(Clone, Debug)]
pub struct Solution {
    /// Times of the outputs, in the span's direction.
    pub ts: Vec<f64>,
    /// Outputs, `[times, ..state]`; no rows when no times were asked for.
    pub ys: Tensor,
    /// State at the end of the span.
    pub y1: Tensor,
    /// What the solve cost.
    pub stats: Stats,
    placements: Vec<Placement>,
    dense: Option<DenseOutput>,
    samples: Samples,
}

/// What is known of samples that step on their own; nothing where they shared their steps.
#[derive(Clone, Debug, Default)]
struct Samples {
    stats: Vec<Stats>,
    statuses: Vec<Status>,
}

impl Solution {
    /// Joins outputs at `ts`, which lie at `placements` among the steps, to a solution without dense
    /// output.
    pub fn new(
        ts: Vec<f64>,
        ys: Tensor,
        y1: Tensor,
        stats: Stats,
        placements: Vec<Placement>,
    ) -> Self {
        Self { ts, ys, y1, stats, placements, dense: None, samples: Samples::default() }
    }

    /// Adds what is known of samples that step on their own.
    pub(crate) fn of_samples(self, stats: Vec<Stats>, statuses: Vec<Status>) -> Self {
        Self { samples: Samples { stats, statuses }, ..self }
    }

    /// What each sample's solve cost, where samples stepped on their own; else nothing.
    pub fn sample_stats(&self) -> &[Stats] {
        &self.samples.stats
    }

    /// How each sample ended, where samples stepped on their own; else nothing.
    pub fn statuses(&self) -> &[Status] {
        &self.samples.statuses
    }

    /// Returns the same solution outside candle's graph.
    pub fn detach(self) -> Self {
        let (ys, y1) = (self.ys.detach(), self.y1.detach());
        Self { ys, y1, dense: self.dense.map(DenseOutput::detach), ..self }
    }

    /// Where the outputs lie among the accepted steps.
    pub fn placements(&self) -> &[Placement] {
        &self.placements
    }

    /// The solution over the whole span.
    ///
    /// # Errors
    /// [`Error::NoDenseOutput`] unless the solve was asked for [`SaveAt::Dense`].
    pub fn dense(&self) -> Result<&DenseOutput> {
        self.dense.as_ref().ok_or(Error::NoDenseOutput)
    }

    /// Solves `dy/dt = f(t, y)` and keeps what `save_at` asks for, while every accepted step also
    /// goes to `sink`.
    ///
    /// # Errors
    /// As [`solve`].
    pub fn record(
        solver: &Solver,
        field: &dyn VectorField,
        y0: &Tensor,
        span: (f64, f64),
        save_at: &SaveAt,
        sink: impl StepSink,
    ) -> Result<Self> {
        let ends = TimeSpan::new(span.0, span.1)?;
        let y0 = solver.own(y0)?;
        let mut sinks = (Saver::new(save_at, ends, &y0)?, sink);
        let end = solver.solve(field, &y0, span, &mut sinks)?;
        sinks.0.end_at(end.t1);
        let saved = sinks.0.finish()?;
        let ends = TimeSpan { t1: end.t1, ..ends };
        let method = Stepper::new(solver, y0.dtype())?;
        let dense = saved.dense.map(|steps| DenseOutput::new(method, ends, y0, steps));
        let (ts, ys, placements) = (saved.ts, saved.ys, saved.placements);
        Ok(Self { dense, ..Self::new(ts, ys, end.y1, end.stats, placements) })
    }
}

/// Solves `dy/dt = f(t, y)` from `y0` at `span.0` to `span.1` and keeps what `save_at` asks for.
///
/// # Shapes
/// `y0`: `[..state]`, `f32` or `f64`; [`Solution::ys`]: `[times, ..state]`.
///
/// # Gradient
/// None: the result is detached. `aca-adjoint` solves with gradients.
///
/// # Errors
/// Those of [`Solver::solve`] and of [`TimeSpan::check_times`].
///
/// # Example
/// ```
/// use aca_core::{Solver, Time};
/// use aca_dense::{SaveAt, solve};
/// use aca_tableau::RK4;
/// use candle_core::{Device, Tensor};
///
/// # fn main() -> aca_core::Result<()> {
/// let growth = |_t: &Time, y: &Tensor| Ok(y.clone());
/// let y0 = Tensor::new(&[1.0f64], &Device::Cpu)?;
/// let times = SaveAt::Times(vec![0.25, 0.5, 1.0]);
/// let sol = solve(&Solver::fixed(RK4, 0.1), &growth, &y0, (0.0, 1.0), &times)?;
/// assert_eq!(sol.ys.dims(), [3, 1]);
/// # Ok(())
/// # }
/// ```
pub fn solve(
    solver: &Solver,
    field: &dyn VectorField,
    y0: &Tensor,
    span: (f64, f64),
    save_at: &SaveAt,
) -> Result<Solution> {
    match solver.batching {
        Batching::Shared => Solution::record(solver, field, y0, span, save_at, ()),
        Batching::PerSample => {
            solve_samples(solver, field, y0, span, save_at.clone())?.into_shared()
        }
    }
}

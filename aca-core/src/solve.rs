//! Entries to a solve: adaptive or fixed steps, a given grid, or the first step alone.

use candle_core::Tensor;

use crate::clock::Clock;
use crate::kernels::Scale;
use crate::run::{Course, Run};
use crate::trace_guard::TraceGuard;
use crate::{
    Batching, Error, Result, Solver, Stats, Status, StepSink, Stepping, TimeSpan, VectorField,
};

/// How a solve ended.
#[derive(Clone, Debug)]
pub struct SolveEnd {
    /// State at the end, detached.
    pub y1: Tensor,
    /// Where that is: the end of the span, unless a sink [stopped](crate::Step::stop) the solve.
    pub t1: f64,
    /// What the solve cost.
    pub stats: Stats,
}

/// How a solve ended in which every sample stepped on its own.
#[derive(Clone, Debug)]
pub struct SamplesEnd {
    /// States where the samples ended, `[batch, ..state]`, detached.
    pub y1: Tensor,
    /// Where that is: the ends of their spans, unless a sink [stopped](crate::Step::stop) them or they failed.
    pub t1: Vec<f64>,
    /// What each sample's solve cost; evaluations count while it was under way.
    pub stats: Vec<Stats>,
    /// How each sample ended.
    pub statuses: Vec<Status>,
    /// Evaluations of the field, of any number of rows.
    pub nfe: usize,
}

impl Solver {
    /// Solves `dy/dt = f(t, y)` from `y0` at `span.0` to `span.1`, pushing every accepted step into
    /// `sink`; candle tracks nothing of it unless [`Solver::trace`] says so.
    ///
    /// Every step of an adaptive solve, the last one included, is under error control; the end and
    /// every stop are hit exactly, and `field` is never evaluated outside the span.
    ///
    /// # Shapes
    /// `y0`: any shape with at least one element, `f32` or `f64`; result: the same.
    ///
    /// # Errors
    /// Bad settings, times or states as [`Error`] lists them; [`Error::MaxSteps`],
    /// [`Error::StepSizeUnderflow`] or [`Error::NonFinite`] when the solve cannot reach the end;
    /// [`Error::GraphTooDeep`] when it traces more steps than the stack is safe for.
    /// What the sink took until then stays in it.
    ///
    /// # Cost
    /// `stages` evaluations an accepted step, one less for a FSAL tableau; adaptive solves need
    /// one or two more at the start, and as many again for each rejected step, less the first.
    pub fn solve(
        &self,
        field: &dyn VectorField,
        y0: &Tensor,
        span: (f64, f64),
        sink: &mut dyn StepSink,
    ) -> Result<SolveEnd> {
        self.validate()?;
        self.check_shared("Solver::solve", "call solve_samples")?;
        let clock = Clock::new(self, TimeSpan::new(span.0, span.1)?)?;
        self.run_whole(field, y0, clock, sink)
    }

    /// Integrates over a given grid, one step from each time to the next, without error control.
    ///
    /// Replaying the times of an earlier solve's accepted steps gives the same states, bit for bit.
    ///
    /// # Errors
    /// As [`Solver::solve`]; the grid must run in one direction without repetition.
    pub fn replay(
        &self,
        field: &dyn VectorField,
        y0: &Tensor,
        grid: &[f64],
        sink: &mut dyn StepSink,
    ) -> Result<SolveEnd> {
        let (Some(&t0), Some(&t1)) = (grid.first(), grid.last()) else {
            return Err(Error::NoTimes);
        };
        let span = TimeSpan::new(t0, t1)?;
        span.check_times(grid)?;
        self.validate()?;
        self.check_shared("Solver::replay", "replay the samples one by one")?;
        self.run_whole(field, y0, Clock::on_grid(self, span, &grid[1..]), sink)
    }

    /// Solves every sample of a batch on its own, from row `i` of `y0` over `spans[i]`, pushing
    /// accepted steps into `sink`.
    ///
    /// Each sample takes the steps that it would take alone. Samples that are done rest, and are left
    /// out of evaluations where the field [takes rows](VectorField::supports_row_subset).
    ///
    /// # Shapes
    /// `y0`: `[batch, ..state]`, `f32` or `f64`; result: the same.
    ///
    /// # Errors
    /// Bad settings, times or states as [`Error`] lists them; [`Error::SamplesFailed`] unless
    /// [`Solver::on_failure`] keeps the others; [`Error::TimesDiffer`].
    ///
    /// # Cost
    /// As [`Solver::solve`] of the sample with the most steps.
    pub fn solve_samples(
        &self,
        field: &dyn VectorField,
        y0: &Tensor,
        spans: &[(f64, f64)],
        sink: &mut dyn StepSink,
    ) -> Result<SamplesEnd> {
        self.validate()?;
        if self.trace {
            let (what, remedy) = ("a traced solve", "use Gradient::Aca or Naive");
            return Err(Error::PerSampleUnsupported { what, remedy });
        }
        let end = Run::new(self, field, y0, Course::Samples(spans), sink)?.finish()?;
        let (stats, t1, statuses) = end.clocks.end(self.on_failure)?;
        Ok(SamplesEnd { y1: end.y1, t1, stats, statuses, nfe: end.nfe })
    }

    /// Returns the magnitude of the step that an adaptive solve tries first.
    ///
    /// # Errors
    /// As [`Solver::solve`], and [`Error::NoErrorEstimate`] for fixed steps.
    pub fn initial_step_size(
        &self,
        field: &dyn VectorField,
        y0: &Tensor,
        span: (f64, f64),
    ) -> Result<f64> {
        self.validate()?;
        self.check_shared("Solver::initial_step_size", "ask for the samples one by one")?;
        if self.scale(y0)?.is_none() {
            return Err(Error::NoErrorEstimate { method: self.method.name().to_owned() });
        }
        let clock = Clock::new(self, TimeSpan::new(span.0, span.1)?)?;
        let mut sink = ();
        let mut run = Run::new(self, field, y0, Course::Whole(Box::new(clock)), &mut sink)?;
        run.first_steps()?;
        run.clocks.first_step()
    }

    fn run_whole(
        &self,
        field: &dyn VectorField,
        y0: &Tensor,
        clock: Clock<'_>,
        sink: &mut dyn StepSink,
    ) -> Result<SolveEnd> {
        let mut guard = TraceGuard::new(sink);
        let end =
            Run::new(self, field, y0, Course::Whole(Box::new(clock)), &mut guard)?.finish()?;
        let (stats, t1) = end.clocks.end_whole()?;
        Ok(SolveEnd { y1: end.y1, t1, stats: Stats { nfe: end.nfe, ..stats } })
    }

    /// Refuses samples that step on their own where there is one step for all.
    fn check_shared(&self, what: &'static str, remedy: &'static str) -> Result<()> {
        match self.batching {
            Batching::PerSample => Err(Error::PerSampleUnsupported { what, remedy }),
            Batching::Shared => Ok(()),
        }
    }

    /// The error scale of adaptive steps.
    pub(crate) fn scale(&self, y0: &Tensor) -> Result<Option<Scale>> {
        match &self.stepping {
            Stepping::Adaptive(tolerances) => tolerances.scale(y0).map(Some),
            _ => Ok(None),
        }
    }
}

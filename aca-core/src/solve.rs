//! The accept/reject loop, and replay of a given grid.

use candle_core::Tensor;

use crate::clock::Clock;
use crate::kernels::Scale;
use crate::run::Run;
use crate::trace_guard::TraceGuard;
use crate::{Batching, Error, Result, Solver, Stats, StepSink, Stepping, TimeSpan, VectorField};

/// How a solve ended.
#[derive(Clone, Debug)]
pub struct SolveEnd {
    /// State at the end of the span, detached.
    pub y1: Tensor,
    /// What the solve cost.
    pub stats: Stats,
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
        let mut guard = TraceGuard::new(sink);
        let run = Run::new(self, field, y0, clock, &mut guard)?;
        run.finish(self.scale(y0)?.as_ref())
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
        let (clock, mut guard) = (Clock::on_grid(self, span, &grid[1..]), TraceGuard::new(sink));
        Run::new(self, field, y0, clock, &mut guard)?.finish(None)
    }

    /// Returns the magnitude of the step that an adaptive solve tries first.
    ///
    /// # Errors
    /// As [`Solver::solve`], and [`Error::NoErrorEstimate`] for fixed steps.
    pub fn try_first(&self, field: &dyn VectorField, y0: &Tensor, span: (f64, f64)) -> Result<f64> {
        self.validate()?;
        self.check_shared("Solver::try_first", "ask for the samples one by one")?;
        let scale = self.scale(y0)?;
        let scale = scale
            .ok_or_else(|| Error::NoErrorEstimate { method: self.tableau.name().to_owned() })?;
        let clock = Clock::new(self, TimeSpan::new(span.0, span.1)?)?;
        Run::new(self, field, y0, clock, &mut ())?.try_first(&scale)
    }

    /// Refuses clocks of the samples' own where there is one for all.
    fn check_shared(&self, what: &'static str, remedy: &'static str) -> Result<()> {
        match self.batching {
            Batching::PerSample => Err(Error::OwnClocks { what, remedy }),
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

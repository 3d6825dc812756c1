//! Entries to a solve: adaptive or fixed steps, a given grid, or the first step alone.

use candle_core::Tensor;

use crate::clock::Clock;
use crate::kernels::Scale;
use crate::run::{Course, Run};
use crate::trace_guard::TraceGuard;
use crate::{
    Batching, Error, Method, Result, Solver, Spans, Stats, Status, StepSink, Stepping, TimeSpan,
    VectorField,
};

/// How a solve ended.
#[derive(Clone, Debug)]
pub struct SolveEnd {
    /// State at the end, `[..state]`, or where samples step on their own their states where they ended,
    /// `[batch, ..state]`; detached unless the solver traces.
    pub y1: Tensor,
    /// What the solve cost: the steps of all samples, and the evaluations of the field on any number of rows.
    pub stats: Stats,
    /// How each sample ended; a state that steps as a whole is one sample.
    pub samples: Vec<SampleEnd>,
}

/// How the solve of a sample ended.
#[derive(Clone, Debug)]
pub struct SampleEnd {
    /// Where it ended: at the end of its span, unless a sink [stopped](crate::Step::stop) it or it failed.
    pub t1: f64,
    /// The fraction of its last step at which it ended: 1, unless a sink stopped it.
    pub s: f64,
    /// What it cost; evaluations count while it was under way.
    pub stats: Stats,
    /// Whether it finished; always so unless [`OnFailure::Keep`](crate::OnFailure::Keep) lets failed samples pass.
    pub status: Status,
}

impl SolveEnd {
    /// The end of a solve of a whole state.
    pub fn whole(y1: Tensor, t1: f64, stats: Stats) -> Self {
        let samples = vec![SampleEnd { t1, s: 1.0, stats, status: Status::Finished }];
        Self { y1, stats, samples }
    }
}

impl Solver {
    /// Solves `dy/dt = f(t, y)` from `y0` over `span`, pushing every accepted step into `sink`. The solve is outside
    /// candle's graph unless [`Solver::trace`] is set.
    ///
    /// Every step of an adaptive solve, the last one included, is under error control; the end and
    /// every stop are hit exactly, and `field` is never evaluated outside the span.
    ///
    /// With [`Batching::PerSample`] every row of `y0` is a sample that takes the same steps as when solved alone, over
    /// a shared span or its own. Finished samples are left out of evaluations if the field [takes
    /// rows](VectorField::supports_row_subset).
    ///
    /// # Shapes
    /// `y0`: any shape with at least one element, `f32` or `f64`, `[batch, ..state]` where samples step on their own;
    /// result: the same.
    ///
    /// # Errors
    /// Bad settings, times or states as [`Error`] lists them; [`Error::MaxSteps`],
    /// [`Error::StepSizeUnderflow`] or [`Error::NonFinite`] when the solve cannot reach the end;
    /// [`Error::GraphTooDeep`] when it traces more steps than the stack is safe for.
    /// What the sink took until then stays in it. For samples, [`Error::SamplesFailed`] unless
    /// [`Solver::on_failure`] keeps the others; [`Error::TimesDiffer`], [`Error::SamplesCoupled`].
    ///
    /// # Cost
    /// `stages` evaluations an accepted step, one less for a FSAL tableau; adaptive solves need
    /// one or two more at the start, and as many again for each rejected step, less the first.
    pub fn solve(
        &self,
        field: &dyn VectorField,
        y0: &Tensor,
        span: impl Into<Spans>,
        sink: &mut dyn StepSink,
    ) -> Result<SolveEnd> {
        self.validate()?;
        let spans = span.into().resolve(self.batching, y0)?;
        match (self.batching, &spans[..]) {
            (Batching::Shared, &[span, ..]) => {
                let clock = Clock::new(self, span)?;
                self.run(field, y0, Course::Whole(Box::new(clock)), sink)
            }
            _ if matches!(self.method, Method::Auto(_)) => {
                let (what, remedy) = ("method auto", "use KVAERNO5, or Batching::Shared");
                Err(Error::PerSampleUnsupported { what, remedy })
            }
            _ if self.trace => {
                let (what, remedy) = ("a traced solve", "use Gradient::Aca or Naive");
                Err(Error::PerSampleUnsupported { what, remedy })
            }
            _ => self.run(field, y0, Course::Samples(&spans), sink),
        }
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
        if let Method::Auto(_) = self.method {
            return Err(Error::SwitchingUncontrolled);
        }
        let clock = Clock::on_grid(self, span, &grid[1..]);
        self.run(field, y0, Course::Whole(Box::new(clock)), sink)
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

    fn run(
        &self,
        field: &dyn VectorField,
        y0: &Tensor,
        course: Course<'_, '_>,
        sink: &mut dyn StepSink,
    ) -> Result<SolveEnd> {
        let mut guard = TraceGuard::new(sink);
        let end = Run::new(self, field, y0, course, &mut guard)?.finish()?;
        let whole = end.clocks.are_whole();
        let mut samples = end.clocks.end(self.on_failure)?;
        let stats = Stats { nfe: end.nfe, ..Stats::total(samples.iter().map(|end| &end.stats)) };
        if whole {
            samples.iter_mut().for_each(|end| end.stats = stats);
        }
        Ok(SolveEnd { y1: end.y1, stats, samples })
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

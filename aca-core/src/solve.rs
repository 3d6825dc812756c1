//! The accept/reject loop, and replay of a given grid.

use candle_core::Tensor;

use crate::initial_step::initial_step;
use crate::kernels::{self, Scale};
use crate::{
    Error, Evaluator, Method, Progress, Result, Solver, Stats, Step, StepControl, StepSink,
    Stepping, TimeSpan, Tolerances, VectorField,
};

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
    /// [`Error::StepSizeUnderflow`] or [`Error::NonFinite`] when the solve cannot reach the end.
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
        let span = TimeSpan::new(span.0, span.1)?;
        match &self.stepping {
            Stepping::Adaptive(tolerances) => {
                self.solve_adaptive(field, y0, span, tolerances, sink)
            }
            Stepping::FixedSize(h) => self.replay(field, y0, &self.grid(span, *h)?, sink),
            Stepping::FixedCount(n) => {
                self.validate()?;
                self.replay(
                    field,
                    y0,
                    &self.grid(span, (span.t1 - span.t0).abs() / *n as f64)?,
                    sink,
                )
            }
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
        let mut run = Run::new(self, field, y0, span, sink)?;
        for &t1 in &grid[1..] {
            let (k, y1) = run.attempt(t1)?;
            run.check_finite("state", t1 - run.t, &y1)?;
            run.accept(t1, k, y1)?;
        }
        Ok(run.end())
    }

    /// Returns the magnitude of the step that an adaptive solve tries first.
    ///
    /// # Errors
    /// As [`Solver::solve`], and [`Error::NoErrorEstimate`] for fixed steps.
    pub fn try_first(&self, field: &dyn VectorField, y0: &Tensor, span: (f64, f64)) -> Result<f64> {
        let Stepping::Adaptive(tolerances) = &self.stepping else {
            return Err(Error::NoErrorEstimate { method: self.tableau.name().to_owned() });
        };
        let span = TimeSpan::new(span.0, span.1)?;
        let mut sink = ();
        let mut run = Run::new(self, field, y0, span, &mut sink)?;
        let scale = tolerances.scale(&run.y)?;
        let stop = self.stops(span).first().copied().unwrap_or(span.t1);
        run.first_step(stop, &scale, self.tableau.error_order().unwrap_or(1))
    }

    fn solve_adaptive(
        &self,
        field: &dyn VectorField,
        y0: &Tensor,
        span: TimeSpan,
        tolerances: &Tolerances,
        sink: &mut dyn StepSink,
    ) -> Result<SolveEnd> {
        let mut run = Run::new(self, field, y0, span, sink)?;
        let error_order = self.tableau.error_order().unwrap_or(1);
        let scale = tolerances.scale(&run.y)?;
        let mut control = StepControl::new(self.controller, error_order);
        let mut stops = self.stops(span);
        stops.push(span.t1);
        let mut h = run.first_step(stops[0], &scale, error_order)?;
        let mut stops = stops.into_iter().peekable();
        while let Some(&stop) = stops.peek().filter(|_| !span.is_empty()) {
            run.check_budget()?;
            let (t1, clipped) = run.target(h, stop);
            if !clipped && h < run.h_min() {
                return Err(run.underflow(h));
            }
            let (k, y1) = run.attempt(t1)?;
            let tried = (t1 - run.t).abs();
            let ratio = run.method.error_ratio(tried, &run.y, &y1, &k, &scale)?;
            if ratio <= 1.0 {
                run.accept(t1, k, y1)?;
                // A step cut short by a stop says little about the size that the problem allows.
                let proposed = control.accept(ratio) * tried;
                h = if clipped { proposed.max(h) } else { proposed }.clamp(self.h_min, self.h_max);
                if t1 == stop {
                    stops.next();
                }
            } else {
                run.reject(ratio, tried, &k, &y1)?;
                h = control.reject(ratio) * tried;
                // A tenth of slack, since the step that was tried is rounded to the times around it.
                if tried <= 1.1 * run.h_min() {
                    return Err(run.underflow(h));
                }
                h = h.max(run.h_min());
            }
        }
        Ok(run.end())
    }

    /// Uniform nodes of distance `h` from `t0`, ending on `t1` exactly, joined with the stops.
    fn grid(&self, span: TimeSpan, h: f64) -> Result<Vec<f64>> {
        let mut grid = vec![span.t0];
        if span.is_empty() {
            return Ok(grid);
        }
        self.validate()?;
        // A last step shorter than a millionth of h is rounding of the quotient, not wanted.
        let count = ((span.t1 - span.t0).abs() / h - 1e-6).ceil().max(1.0);
        if count > self.max_steps as f64 {
            let TimeSpan { t0, t1 } = span;
            return Err(Error::MaxSteps { max_steps: self.max_steps, t: t0, t0, t1 });
        }
        let mut nodes =
            (1..count as usize).map(|i| span.t0 + span.sign() * h * i as f64).peekable();
        for stop in self.stops(span).into_iter().chain([span.t1]) {
            while let Some(node) = nodes.next_if(|&node| span.before(node, stop)) {
                if (stop - node).abs() > 1e-6 * h {
                    grid.push(node);
                }
            }
            nodes.next_if(|&node| (node - stop).abs() <= 1e-6 * h);
            grid.push(stop);
        }
        Ok(grid)
    }
}

/// A solve under way.
struct Run<'a> {
    solver: &'a Solver,
    method: Method,
    field: Evaluator<'a>,
    sink: &'a mut dyn StepSink,
    span: TimeSpan,
    t: f64,
    y: Tensor,
    k1: Option<Tensor>,
    /// Running statistics of the field before the trial, for its rejection.
    statistics: Vec<Tensor>,
    /// What was wrong with the last trial whose error ratio was not finite.
    non_finite: Option<Error>,
    stats: Stats,
}

impl<'a> Run<'a> {
    fn new(
        solver: &'a Solver,
        field: &'a dyn VectorField,
        y0: &Tensor,
        span: TimeSpan,
        sink: &'a mut dyn StepSink,
    ) -> Result<Self> {
        solver.validate()?;
        let field = Evaluator::new(field, y0)?.tracing(solver.trace);
        let method = Method::new(solver)?;
        let y0 = if solver.trace { y0.clone() } else { y0.detach() };
        let run = Self {
            solver,
            method,
            field,
            sink,
            span,
            t: span.t0,
            y: y0.contiguous()?,
            k1: None,
            statistics: Vec::new(),
            non_finite: None,
            stats: Stats::default(),
        };
        match kernels::first_non_finite(&run.y)? {
            Some(index) => Err(Error::InitialState { index }),
            None => Ok(run),
        }
    }

    /// The slope at the start of the next step.
    fn k1(&mut self) -> Result<Tensor> {
        if let Some(k1) = &self.k1 {
            return Ok(k1.clone());
        }
        let t = self.method.stage_time(self.t, self.span.t1, 0);
        let k1 = self.field.eval(t, &self.y)?;
        self.check_finite("field", 0.0, &k1)?;
        self.k1 = Some(k1.clone());
        Ok(k1)
    }

    fn first_step(&mut self, stop: f64, scale: &Scale, error_order: usize) -> Result<f64> {
        if self.span.is_empty() {
            return Ok(0.0);
        }
        let h = match self.solver.first_step {
            Some(h) => h,
            None => self.probe_first_step(stop, scale, error_order)?,
        };
        Ok(h.min(self.solver.h_max).max(self.h_min()))
    }

    fn probe_first_step(&mut self, stop: f64, scale: &Scale, error_order: usize) -> Result<f64> {
        let k1 = self.k1()?;
        let before = self.field.snapshot()?;
        let ahead = TimeSpan { t0: self.t, t1: self.method.beside(stop, self.t) };
        let h = initial_step(&self.field, ahead, &self.y, &k1, scale, error_order)?;
        self.field.restore(&before)?;
        Ok(h)
    }

    fn check_budget(&self) -> Result<()> {
        let (max_steps, TimeSpan { t0, t1 }) = (self.solver.max_steps, self.span);
        match self.stats.accepted + self.stats.rejected < max_steps {
            true => Ok(()),
            false => Err(Error::MaxSteps { max_steps, t: self.t, t0, t1 }),
        }
    }

    /// Where a step of size `h` ends, and whether a stop cut it short or stretched it.
    ///
    /// A step that would end within a hundredth before the stop is stretched onto it, as in
    /// Hairer's DOPRI5: the error is controlled all the same, and no sliver is left. It exceeds
    /// `h_max` by rounding at the most.
    fn target(&self, h: f64, stop: f64) -> (f64, bool) {
        let reach = (1.01 * h).min(self.solver.h_max * (1.0 + 1e-6));
        if (stop - self.t).abs() <= reach {
            (stop, true)
        } else {
            (self.t + self.span.sign() * h, false)
        }
    }

    fn attempt(&mut self, t1: f64) -> Result<(Vec<Tensor>, Tensor)> {
        let k1 = self.k1()?;
        self.statistics = self.field.snapshot()?;
        self.method.step(&self.field, (self.t, t1), &self.y, Some(k1))
    }

    fn accept(&mut self, t1: f64, k: Vec<Tensor>, y1: Tensor) -> Result<()> {
        let (index, t0) = (self.stats.accepted, self.t);
        let (method, field) = (&self.method, &self.field);
        let mut step = Step { index, t0, t1, y0: &self.y, y1: &y1, k, method, field };
        self.sink.accept(&mut step)?;
        let k = step.k;
        self.stats.accept(t1 - t0);
        self.k1 = self.carried_slope(t1, &k)?;
        self.t = t1;
        self.y = y1;
        self.non_finite = None;
        self.report(t1 - t0);
        Ok(())
    }

    /// The slope at `t1` where the step's stages hold it and the next step may start with it.
    fn carried_slope(&self, t1: f64, k: &[Tensor]) -> Result<Option<Tensor>> {
        // The leapfrog's slope belongs to its state; any other must not cross a jump of the field,
        // and one that only the interpolant needed has left no trace in running statistics.
        let own = self.method.tableau().is_fsal() || !self.field.has_statistics();
        match self.solver.leapfrog || (own && !self.method.is_jump(t1)) {
            true => self.method.end_slope(k),
            false => Ok(None),
        }
    }

    fn report(&self, h: f64) {
        if let Some(progress) = &self.solver.progress {
            let TimeSpan { t0, t1 } = self.span;
            let Stats { accepted, rejected, .. } = self.stats;
            let fraction = (self.t - t0) / (t1 - t0);
            progress.call(Progress { t: self.t, h, fraction, accepted, rejected });
        }
    }

    /// Counts a rejection, undoes its traces and notes where the trial stopped being finite.
    fn reject(&mut self, ratio: f64, tried: f64, k: &[Tensor], y1: &Tensor) -> Result<()> {
        self.stats.rejected += 1;
        self.field.restore(&self.statistics)?;
        self.non_finite = None;
        if ratio.is_finite() {
            return Ok(());
        }
        let h = tried * self.span.sign();
        let checks = k.iter().map(|k| ("field", k)).chain([("state", y1)]);
        self.non_finite =
            checks.map(|(what, x)| self.check_finite(what, h, x)).find_map(Result::err);
        Ok(())
    }

    /// Smallest step from here: below sixteen units in the last place the nodes of a step run into
    /// each other.
    fn h_min(&self) -> f64 {
        self.solver.h_min.max(16.0 * f64::EPSILON * self.t.abs()).max(f64::MIN_POSITIVE)
    }

    /// Why a step of size `h` will not do: what the last rejection found, if it found anything.
    fn underflow(&mut self, h: f64) -> Error {
        let (h_min, method) = (self.h_min(), self.method.tableau().name().to_owned());
        let other = Error::StepSizeUnderflow { h, h_min, t: self.t, method };
        self.non_finite.take().unwrap_or(other)
    }

    fn check_finite(&self, what: &'static str, h: f64, x: &Tensor) -> Result<()> {
        match kernels::first_non_finite(x)? {
            Some(index) => Err(Error::NonFinite { what, t: self.t, h, index }),
            None => Ok(()),
        }
    }

    fn end(self) -> SolveEnd {
        SolveEnd { y1: self.y, stats: Stats { nfe: self.field.nfe(), ..self.stats } }
    }
}

//! The accept/reject loop, and replay of a given grid.

use candle_core::Tensor;

use crate::run::Run;
use crate::{
    Error, Result, Solver, Stats, StepControl, StepSink, Stepping, TimeSpan, Tolerances,
    VectorField,
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

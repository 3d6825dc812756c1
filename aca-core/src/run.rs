//! A solve under way: what the loop and a replay have in common.

use candle_core::Tensor;

use crate::initial_step::initial_step;
use crate::kernels::{self, Scale};
use crate::{
    Error, Evaluator, Method, Progress, Result, SolveEnd, Solver, Stats, Step, StepSink, TimeSpan,
    VectorField,
};

/// A solve under way.
pub(crate) struct Run<'a> {
    solver: &'a Solver,
    pub(crate) method: Method,
    field: Evaluator<'a>,
    sink: &'a mut dyn StepSink,
    span: TimeSpan,
    pub(crate) t: f64,
    pub(crate) y: Tensor,
    k1: Option<Tensor>,
    /// Running statistics of the field before the trial, for its rejection.
    statistics: Vec<Tensor>,
    /// What was wrong with the last trial whose error ratio was not finite.
    non_finite: Option<Error>,
    stats: Stats,
}

impl<'a> Run<'a> {
    pub(crate) fn new(
        solver: &'a Solver,
        field: &'a dyn VectorField,
        y0: &Tensor,
        span: TimeSpan,
        sink: &'a mut dyn StepSink,
    ) -> Result<Self> {
        solver.validate()?;
        let field = Evaluator::new(field, y0)?.tracing(solver.trace);
        let method = Method::new(solver)?;
        let y0 = solver.own(y0)?;
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

    pub(crate) fn first_step(
        &mut self,
        stop: f64,
        scale: &Scale,
        error_order: usize,
    ) -> Result<f64> {
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

    pub(crate) fn check_budget(&self) -> Result<()> {
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
    pub(crate) fn target(&self, h: f64, stop: f64) -> (f64, bool) {
        let reach = (1.01 * h).min(self.solver.h_max * (1.0 + 1e-6));
        if (stop - self.t).abs() <= reach {
            (stop, true)
        } else {
            (self.t + self.span.sign() * h, false)
        }
    }

    pub(crate) fn attempt(&mut self, t1: f64) -> Result<(Vec<Tensor>, Tensor)> {
        let k1 = self.k1()?;
        self.statistics = self.field.snapshot()?;
        self.method.step(&self.field, (self.t, t1), &self.y, Some(k1))
    }

    pub(crate) fn accept(&mut self, t1: f64, k: Vec<Tensor>, y1: Tensor) -> Result<()> {
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
    pub(crate) fn reject(
        &mut self,
        ratio: f64,
        tried: f64,
        k: &[Tensor],
        y1: &Tensor,
    ) -> Result<()> {
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
    pub(crate) fn h_min(&self) -> f64 {
        self.solver.h_min.max(16.0 * f64::EPSILON * self.t.abs()).max(f64::MIN_POSITIVE)
    }

    /// Why a step of size `h` will not do: what the last rejection found, if it found anything.
    pub(crate) fn underflow(&mut self, h: f64) -> Error {
        let (h_min, method) = (self.h_min(), self.method.tableau().name().to_owned());
        let other = Error::StepSizeUnderflow { h, h_min, t: self.t, method };
        self.non_finite.take().unwrap_or(other)
    }

    pub(crate) fn check_finite(&self, what: &'static str, h: f64, x: &Tensor) -> Result<()> {
        match kernels::first_non_finite(x)? {
            Some(index) => Err(Error::NonFinite { what, t: self.t, h, index }),
            None => Ok(()),
        }
    }

    pub(crate) fn end(self) -> SolveEnd {
        SolveEnd { y1: self.y, stats: Stats { nfe: self.field.nfe(), ..self.stats } }
    }
}

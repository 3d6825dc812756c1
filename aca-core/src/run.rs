//! A solve under way, all of its state on one clock.

use candle_core::Tensor;

use crate::clock::Clock;
use crate::initial_step::initial_step;
use crate::kernels::{self, Scale};
use crate::{
    Error, Evaluator, Method, Result, SolveEnd, Solver, Stats, Step, StepSink, TimeSpan,
    VectorField,
};

/// A solve under way.
pub(crate) struct Run<'a> {
    solver: &'a Solver,
    method: Method,
    field: Evaluator<'a>,
    sink: &'a mut dyn StepSink,
    clock: Clock<'a>,
    y: Tensor,
    k1: Option<Tensor>,
    /// Running statistics of the field before the trial, for its rejection.
    statistics: Vec<Tensor>,
}

impl<'a> Run<'a> {
    pub(crate) fn new(
        solver: &'a Solver,
        field: &'a dyn VectorField,
        y0: &Tensor,
        clock: Clock<'a>,
        sink: &'a mut dyn StepSink,
    ) -> Result<Self> {
        let field = Evaluator::new(field, y0)?.tracing(solver.trace);
        let method = Method::new(solver)?;
        let y = solver.own(y0)?.contiguous()?;
        if let Some(index) = kernels::first_non_finite(&y)? {
            return Err(Error::InitialState { index });
        }
        Ok(Self { solver, method, field, sink, clock, y, k1: None, statistics: Vec::new() })
    }

    /// Steps to the end, every step under error control if there are tolerances.
    pub(crate) fn finish(mut self, scale: Option<&Scale>) -> Result<SolveEnd> {
        if let Some(scale) = scale.filter(|_| !self.clock.is_done()) {
            let h = self.first_step(scale)?;
            self.clock.start(h);
        }
        while !self.clock.is_done() {
            let t1 = self.clock.target()?;
            let (k, y1) = self.attempt(t1)?;
            let ratio = match scale {
                Some(scale) => {
                    self.method.error_ratio(t1 - self.clock.t, &self.y, &y1, &k, scale)?
                }
                None => {
                    self.check_finite("state", t1 - self.clock.t, &y1)?;
                    0.0
                }
            };
            if ratio <= 1.0 {
                self.accept(t1, ratio, k, y1)?;
            } else {
                self.reject(t1, ratio, &k, &y1)?;
            }
        }
        Ok(SolveEnd { y1: self.y, stats: Stats { nfe: self.field.nfe(), ..self.clock.stats } })
    }

    /// Magnitude of the first step, within the solver's limits; 0 where there is none.
    pub(crate) fn try_first(mut self, scale: &Scale) -> Result<f64> {
        if !self.clock.is_done() {
            let h = self.first_step(scale)?;
            self.clock.start(h);
        }
        Ok(self.clock.h())
    }

    fn first_step(&mut self, scale: &Scale) -> Result<f64> {
        if let Some(h) = self.solver.first_step {
            return Ok(h);
        }
        let k1 = self.k1()?;
        let before = self.field.snapshot()?;
        let TimeSpan { t0, .. } = self.clock.span;
        let ahead = TimeSpan { t0, t1: self.method.beside(self.clock.next_mark(), t0) };
        let order = self.method.tableau().error_order().unwrap_or(1);
        let h = initial_step(&self.field, ahead, &self.y, &k1, scale, order)?;
        self.field.restore(&before)?;
        Ok(h)
    }

    /// The slope at the start of the next step.
    fn k1(&mut self) -> Result<Tensor> {
        if let Some(k1) = &self.k1 {
            return Ok(k1.clone());
        }
        let t = self.method.stage_time(self.clock.t, self.clock.span.t1, 0);
        let k1 = self.field.eval(t, &self.y)?;
        self.check_finite("field", 0.0, &k1)?;
        self.k1 = Some(k1.clone());
        Ok(k1)
    }

    fn attempt(&mut self, t1: f64) -> Result<(Vec<Tensor>, Tensor)> {
        let k1 = self.k1()?;
        self.statistics = self.field.snapshot()?;
        self.method.step(&self.field, (self.clock.t, t1), &self.y, Some(k1))
    }

    fn accept(&mut self, t1: f64, ratio: f64, k: Vec<Tensor>, y1: Tensor) -> Result<()> {
        let (index, t0) = (self.clock.stats.accepted, self.clock.t);
        let (method, field) = (&self.method, &self.field);
        let mut step = Step { index, t0, t1, y0: &self.y, y1: &y1, k, method, field };
        self.sink.accept(&mut step)?;
        let k = step.k;
        self.k1 = self.carried_slope(t1, &k)?;
        self.y = y1;
        self.clock.accept(t1, ratio);
        self.clock.report(t1 - t0);
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

    /// Undoes a rejected step's traces and notes where the trial stopped being finite.
    fn reject(&mut self, t1: f64, ratio: f64, k: &[Tensor], y1: &Tensor) -> Result<()> {
        self.field.restore(&self.statistics)?;
        self.clock.non_finite = None;
        if !ratio.is_finite() {
            let h = t1 - self.clock.t;
            let checks = k.iter().map(|k| ("field", k)).chain([("state", y1)]);
            self.clock.non_finite =
                checks.map(|(what, x)| self.check_finite(what, h, x)).find_map(Result::err);
        }
        self.clock.reject(t1, ratio)
    }

    fn check_finite(&self, what: &'static str, h: f64, x: &Tensor) -> Result<()> {
        match kernels::first_non_finite(x)? {
            Some(index) => Err(Error::NonFinite { what, t: self.clock.t, h, index }),
            None => Ok(()),
        }
    }
}

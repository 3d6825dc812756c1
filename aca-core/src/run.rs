//! A solve under way, all of its state on one clock.

use candle_core::Tensor;

use crate::body::{Body, check_finite};
use crate::clock::Clock;
use crate::coupling::first_coupled_row;
use crate::initial_step::initial_step;
use crate::kernels::{self, Scale};
use crate::rules::{Ends, Rules};
use crate::slice_body::SliceBody;
use crate::stability::{Probe, Reach};
use crate::tensor_body::TensorBody;
use crate::{
    Error, Evaluator, Method, OnSlices, Result, SolveEnd, Solver, Stats, StepSink, Time, TimeSpan,
    VectorField,
};

/// A solve under way.
pub(crate) struct Run<'a> {
    solver: &'a Solver,
    rules: Rules<'a>,
    sink: &'a mut dyn StepSink,
    clock: Clock<'a>,
    body: Box<dyn Body + 'a>,
    /// Whether rows of the state are systems of their own, once that was asked.
    rows_are_apart: Option<bool>,
}

impl<'a> Run<'a> {
    pub(crate) fn new(
        solver: &'a Solver,
        field: &'a dyn VectorField,
        y0: &Tensor,
        clock: Clock<'a>,
        sink: &'a mut dyn StepSink,
    ) -> Result<Self> {
        let evaluator = Evaluator::new(field, y0)?.tracing(solver.trace);
        let rules = Rules { method: Method::new(solver, y0.dtype())?, field: evaluator };
        let y = solver.own(y0)?.contiguous()?;
        if let Some(index) = kernels::first_non_finite(&y)? {
            return Err(Error::InitialState { index });
        }
        // The graph and the leapfrog's slopes are made of tensors.
        let plain = !(solver.trace || solver.leapfrog);
        let slices = if plain { OnSlices::of(field, &y) } else { None };
        let body: Box<dyn Body + 'a> = match slices {
            Some(OnSlices::F32(field)) => Box::new(SliceBody::new(field, &rules.method, y)?),
            Some(OnSlices::F64(field)) => Box::new(SliceBody::new(field, &rules.method, y)?),
            None => Box::new(TensorBody::new(y)?),
        };
        Ok(Self { solver, rules, sink, clock, body, rows_are_apart: None })
    }

    /// Steps to the end, every step under error control if there are tolerances.
    pub(crate) fn finish(mut self, scale: Option<&Scale>) -> Result<SolveEnd> {
        let end = self.steps(scale);
        // Whatever else happened, it happened later.
        self.body.finish()?;
        end?;
        self.clock.check_resolution(&self.rules.field)?;
        let stats = Stats { nfe: self.rules.field.nfe(), ..self.clock.stats };
        Ok(SolveEnd { y1: self.body.y().clone(), stats })
    }

    fn steps(&mut self, scale: Option<&Scale>) -> Result<()> {
        if let Some(scale) = scale.filter(|_| !self.clock.is_done()) {
            let h = self.first_step(scale)?;
            self.clock.start(h);
        }
        let epsilon = self.rules.field.epsilon();
        let probe = scale.map(|scale| Probe::new(scale, epsilon)).transpose()?;
        while !self.clock.is_done() {
            let t1 = self.clock.target()?;
            let last = t1 == self.clock.span.t1;
            let ends = Ends { index: self.clock.stats.accepted, t0: self.clock.t, t1, last };
            self.body.attempt(&self.rules, ends, scale.is_some())?;
            let ratio = match scale {
                Some(scale) => self.body.error_ratio(&self.rules, ends.h(), scale)?,
                None => 0.0,
            };
            if ratio <= 1.0 {
                let wanted = self.clock.wants_estimate(ends.h());
                let probe = probe.as_ref().filter(|_| wanted);
                let reach = self.body.accept(&self.rules, ends, self.sink, probe)?;
                self.clock.accept(t1, ratio);
                if let Some(reach) = reach {
                    self.hold(ends, reach)?;
                }
                self.clock.report(ends.h());
            } else {
                let cause = self.body.reject(&self.rules, ends, ratio.is_finite())?;
                self.clock.non_finite = cause.map(Box::new);
                self.clock.reject(t1, ratio)?;
            }
        }
        Ok(())
    }

    /// Counts a step at the stability limit, and holds the next one inside it where the solver says so.
    fn hold(&mut self, ends: Ends, Reach { whole, rows }: Reach) -> Result<()> {
        let method = &self.rules.method;
        let at_limit = |reach: f64| self.clock.is_at_limit(reach, method);
        // A row alone reaches that far only if it is a system alone.
        let reach = match at_limit(rows) && rows > whole && !self.are_rows_apart(ends.t1)? {
            true => whole,
            false => rows,
        };
        self.clock.hold(ends.h(), reach, &self.rules.method);
        Ok(())
    }

    /// Whether rows of the state are systems of their own; asked of the field once a solve.
    fn are_rows_apart(&mut self, t: f64) -> Result<bool> {
        if let Some(known) = self.rows_are_apart {
            return Ok(known);
        }
        let (rules, t) = (&self.rules, Time::new(t));
        let y = self.body.y().detach();
        let statistics = rules.field.snapshot()?;
        let f = rules.field.field().eval(&t, &y);
        rules.field.restore(&statistics)?;
        let apart = first_coupled_row(rules.field.field(), &t, &y, &f?.detach())?.is_none();
        self.rows_are_apart = Some(apart);
        Ok(apart)
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
        let TimeSpan { t0, t1 } = self.clock.span;
        let Rules { method, field } = &self.rules;
        let k1 = self.body.slope(&self.rules, method.stage_time(t0, t1, 0))?;
        check_finite("field", (t0, 0.0), &k1)?;
        let before = field.snapshot()?;
        let ahead = TimeSpan { t0, t1: method.beside(self.clock.next_mark(), t0) };
        let order = method.tableau().error_order().unwrap_or(1);
        let h = initial_step(field, ahead, self.body.y(), &k1, scale, order)?;
        field.restore(&before)?;
        Ok(h)
    }
}

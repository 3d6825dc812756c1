//! A solve under way.

use candle_core::Tensor;
use smallvec::SmallVec;

use crate::clock::Clock;
use crate::clocks::Clocks;
use crate::coupling::first_coupled_row;
use crate::finite::FiniteCheck;
use crate::initial_step::initial_steps;
use crate::kernels::{self, Scale};
use crate::sink::Ending;
use crate::space::{Register, SliceSpace, Space, TensorSpace, Trial};
use crate::stability::Probe;
use crate::step_context::StepContext;
use crate::{
    Error, Evaluator, Method, Native, Result, Solver, Step, StepSink, Stepper, TimeSpan,
    VectorField,
};

/// A step as the space sees it: a macro, since it borrows fields of a run beside those that it changes.
macro_rules! trial {
    ($run:expr) => {
        Trial { rules: &$run.rules, steps: &$run.clocks.steps, y0: &$run.y }
    };
}

mod cause;
mod reach;
mod switch;

use cause::Cause;
use switch::Switch;

/// A solve under way: of a whole state, which is one row, or of the samples of a batch, in rows that step on their own.
pub(crate) struct Run<'a> {
    solver: &'a Solver,
    rules: StepContext<'a>,
    /// The other method of a pair.
    switch: Option<Switch>,
    sink: &'a mut dyn StepSink,
    pub(crate) clocks: Clocks<'a>,
    space: Box<dyn Space + 'a>,
    /// States at the starts of the next steps.
    y: Tensor,
    /// The scale of errors and what reads the steps' reach, where steps are under error control.
    control: Option<(Scale, Probe)>,
    ratios: SmallVec<[f64; 1]>,
    finite: FiniteCheck,
    /// Where the state of each sample lies that has left the rows.
    ends: Vec<Option<(Tensor, usize)>>,
}

/// Where a run goes.
pub(crate) enum Course<'a, 's> {
    /// The whole state along one clock.
    Whole(Box<Clock<'a>>),
    /// Every sample over a span of its own.
    Samples(&'s [TimeSpan]),
}

/// Refuses states that a method cannot split into positions and momenta.
fn check_halves(method: &Method, y0: &Tensor) -> Result<()> {
    let odd = y0.dims().last().is_none_or(|width| width % 2 == 1);
    match method {
        Method::Symplectic(_) if odd => {
            Err(Error::NoHalves { method: method.name().to_owned(), shape: y0.dims().to_vec() })
        }
        _ => Ok(()),
    }
}

impl<'a> Run<'a> {
    /// Prepares to step from `y0`.
    pub(crate) fn new(
        solver: &'a Solver,
        field: &'a dyn VectorField,
        y0: &Tensor,
        course: Course<'a, '_>,
        sink: &'a mut dyn StepSink,
    ) -> Result<Self> {
        let evaluator = Evaluator::new(field, y0)?.tracing(solver.trace);
        let method = Stepper::new(solver, y0.dtype())?;
        let switch = Switch::new(solver, y0.dtype())?;
        let stages = method.most_stages().max(Switch::most_stages(solver));
        let rules = StepContext { method, scheme: 0, field: evaluator };
        check_halves(&solver.method, y0)?;
        let y = solver.own(y0)?.contiguous()?;
        let clocks = match course {
            Course::Whole(clock) => Clocks::whole(*clock, kernels::first_non_finite(&y)?)?,
            Course::Samples(spans) => {
                Clocks::of_samples(solver, spans, kernels::non_finite_rows(&y)?)?
            }
        };
        let native = match (solver.trace, clocks.are_whole()) {
            // The graph is made of tensors.
            (true, _) => None,
            (false, true) => Native::of(field, &y),
            (false, false) => Native::of_rows(field, &y),
        };
        let space: Box<dyn Space + 'a> = match native {
            Some(Native::F32(field)) => Box::new(SliceSpace::new(field, stages, &y)?),
            Some(Native::F64(field)) => Box::new(SliceSpace::new(field, stages, &y)?),
            None => Box::new(TensorSpace::default()),
        };
        let epsilon = rules.field.epsilon();
        let scale = if clocks.are_adaptive() { solver.scale(y0)? } else { None };
        let control = scale.map(|scale| {
            let probe = Probe::new(&scale, epsilon)?;
            Ok::<_, Error>((scale, probe))
        });
        Ok(Self {
            solver,
            rules,
            switch,
            sink,
            finite: FiniteCheck::new(&y, clocks.are_whole())?,
            ends: vec![None; clocks.samples().len()],
            clocks,
            space,
            y,
            control: control.transpose()?,
            ratios: SmallVec::new(),
        })
    }

    /// Steps to the end.
    pub(crate) fn finish(mut self) -> Result<Finished<'a>> {
        let end = self.steps();
        // Whatever else happened, it happened later.
        self.finite.finish()?;
        end?;
        self.clocks.check_resolution(&self.rules.field);
        self.leave();
        let y1 = match self.clocks.are_whole() {
            true => self.y,
            false => {
                let ends: Vec<_> = self.ends.iter().flatten().map(|(y, row)| (y, *row)).collect();
                kernels::gather_rows(&ends)?
            }
        };
        Ok(Finished { y1, nfe: self.rules.field.nfe(), clocks: self.clocks })
    }

    fn steps(&mut self) -> Result<()> {
        if !self.clocks.are_whole() {
            self.check_apart()?;
        }
        self.first_steps()?;
        while self.turn()? {}
        Ok(())
    }

    /// Refuses rows that are no samples: whose slopes depend on one another.
    fn check_apart(&mut self) -> Result<()> {
        if !self.clocks.any_under_way() {
            return Ok(());
        }
        self.start()?;
        self.clocks.look_ahead(|clock| clock.span.t1);
        let method = &self.rules.method;
        let t = method.times(&self.clocks.steps, method.c(0))?;
        // Not every method begins with the field's own slope.
        let f = match method.starts_with_slope() {
            true => self.space.slope(0)?,
            false => self.rules.field.field().eval(&t, &self.y)?.detach(),
        };
        match first_coupled_row(self.rules.field.field(), &t, &self.y, &f)? {
            Some(row) => Err(Error::SamplesCoupled { row }),
            None => Ok(()),
        }
    }

    /// Sizes the first step of every row.
    pub(crate) fn first_steps(&mut self) -> Result<()> {
        if self.control.is_none() || !self.clocks.any_under_way() {
            return Ok(());
        }
        if let Some(h) = self.solver.first_step {
            self.clocks.start(|_| h);
            return Ok(());
        }
        self.start()?;
        let Some((scale, _)) = &self.control else { return Ok(()) };
        let StepContext { method, field, .. } = &self.rules;
        let before = field.snapshot()?;
        self.clocks.look_ahead(|clock| method.beside(clock.next_mark(), clock.t));
        let order = method.method().error_order().unwrap_or(1);
        let start = (&self.y, &self.space.slope(0)?);
        let h = initial_steps(field, &self.clocks.steps, start, scale, order)?;
        field.restore(&before)?;
        self.clocks.count(1);
        self.clocks.start(|row| h[row]);
        Ok(())
    }

    /// Evaluates slopes at the starts of the next steps; rows whose slope is not finite fail.
    fn start(&mut self) -> Result<()> {
        if self.space.known() > 0 {
            return Ok(());
        }
        self.clocks.look_ahead(|clock| clock.span.t1);
        self.space.start(trial!(self))?;
        self.clocks.count(1);
        // An error ratio that is not finite tells of such a slope as well; on a GPU it is read anyway.
        if self.finite.is_deferred() {
            if self.control.is_none() {
                let t0 = self.clocks.steps.ends(0).0;
                self.finite.look("field", (t0, 0.0), &self.space.slope(0)?)?;
            }
            return Ok(());
        }
        let register = Register::Slope(0);
        if self.space.first_non_finite(register, None)?.is_some() {
            let whole = self.clocks.are_whole();
            let space = &self.space;
            self.clocks
                .fail_slopes(|row| space.first_non_finite(register, (!whole).then_some(row)))?;
        }
        Ok(())
    }

    /// Lets every row under way try one step; returns whether there was any.
    fn turn(&mut self) -> Result<bool> {
        self.gather()?;
        if !self.clocks.any_under_way() {
            return Ok(false);
        }
        if self.rules.method.knows_first() {
            self.start()?;
        }
        self.clocks.next_steps();
        if !self.clocks.any_under_way() {
            return Ok(false);
        }
        let before = self.rules.field.nfe();
        let statistics = self.rules.field.snapshot()?;
        let failure = match self.space.attempt(trial!(self)) {
            Ok(()) => None,
            // A scheme that finds no slopes may find them in a smaller step.
            Err(Error::SchemeFailed { method, what }) if self.control.is_some() => {
                Some((method, what))
            }
            Err(error) => {
                self.rules.field.restore(&statistics)?;
                return Err(error);
            }
        };
        match &failure {
            None => self.judge()?,
            Some(_) => {
                self.ratios.clear();
                self.ratios.resize(self.clocks.steps.rows(), f64::INFINITY);
            }
        }
        let evaluations = self.rules.field.nfe() - before;
        let cause = Cause {
            space: &*self.space,
            whole: self.clocks.are_whole(),
            slopes: self.control.is_some(),
            unlooked: self.finite.is_deferred(),
        };
        self.clocks.judge(&self.ratios, evaluations, |row, ends| match failure.clone() {
            None => cause.of(row, ends),
            Some((method, what)) => Ok(Some(Error::SchemeFailed { method, what })),
        })?;
        match self.clocks.accepted.is_empty() {
            true => self.rules.field.restore(&statistics)?,
            false => self.accept()?,
        }
        Ok(true)
    }

    /// Finds the error ratios; on a grid 0, or NaN where the state is not finite.
    fn judge(&mut self) -> Result<()> {
        self.ratios.clear();
        if self.control.is_some() {
            return self.judge_errors();
        }
        let rows = self.clocks.steps.rows();
        self.ratios.resize(rows, 0.0);
        if self.finite.is_deferred() {
            let (t0, t1) = self.clocks.steps.ends(0);
            let y1 = self.space.ends(trial!(self), None)?;
            return self.finite.look("state", (t0, t1 - t0), &y1);
        }
        if self.space.first_non_finite(Register::End, None)?.is_some() {
            for row in 0..rows {
                let picked = (!self.clocks.are_whole()).then_some(row);
                if self.space.first_non_finite(Register::End, picked)?.is_some() {
                    self.ratios[row] = f64::NAN;
                }
            }
        }
        Ok(())
    }

    /// Finds the error ratios of steps under error control: of their ends, and of what lies inside where an implicit method
    /// takes steps that the sink looks into.
    fn judge_errors(&mut self) -> Result<()> {
        let Some((scale, _)) = &self.control else { return Ok(()) };
        let (method, trial) = (&self.rules.method, trial!(self));
        self.space.ratios(trial, scale, method.b_error(), &mut self.ratios)?;
        let Some(inside) = method.inside_error() else { return Ok(()) };
        let (samples, steps) = (self.clocks.samples(), &self.clocks.steps);
        let looked_into = |row: usize| self.sink.looks_inside(samples[row], steps.ends(row).1);
        if (0..self.ratios.len()).any(looked_into) {
            let mut ratios = SmallVec::new();
            self.space.ratios(trial, scale, inside, &mut ratios)?;
            for row in (0..ratios.len()).filter(|row| looked_into(*row)) {
                if ratios[row] > self.ratios[row] || ratios[row].is_nan() {
                    self.ratios[row] = ratios[row];
                }
            }
        }
        Ok(())
    }

    /// Hands accepted steps to the sink and moves to their ends.
    fn accept(&mut self) -> Result<()> {
        let before = self.rules.field.nfe();
        let is_implicit = self.rules.method.is_implicit();
        let moved = self.clocks.moved();
        let mut y1 = self.space.ends(trial!(self), moved.as_deref())?;
        let trial = trial!(self);
        let mut step = Step::new(&self.clocks.accepted, trial, &y1, &mut *self.space);
        self.sink.accept(&mut step)?;
        let endings = step.endings();
        let (reach, carried) = self.look_at_reach()?;
        for ending in endings {
            match ending {
                Ending::Failure(sample, error) => self.clocks.fail(sample, error),
                Ending::Stop(row, s) => y1 = self.stop(row, s)?,
            }
        }
        let norm = self.space.jacobian_norm();
        let end = self.rules.method.carried(self.space.known()).filter(|_| carried);
        self.space.advance(end, moved.as_deref())?;
        self.y = y1;
        let whole = reach.of_whole();
        self.hold(reach)?;
        self.consider_switching(whole, norm)?;
        self.clocks.count_accepted(self.rules.field.nfe() - before, is_implicit);
        self.clocks.report();
        Ok(())
    }

    /// Ends a row's sample inside the step; returns the states at the ends.
    fn stop(&mut self, row: usize, s: f64) -> Result<Tensor> {
        let trial = trial!(self);
        let interpolant = self.rules.method.interpolant();
        let (t0, t1) = self.clocks.steps.ends(row);
        let weights: Vec<f64> = interpolant.weights(s).iter().map(|w| (t1 - t0) * w).collect();
        let y = self.space.combine(trial, &[row], &weights, true)?;
        let whole = self.clocks.are_whole();
        let y = if whole { y.squeeze(0)? } else { y };
        self.space.set_end((!whole).then_some(row), &y)?;
        let y1 = self.space.ends(trial, None)?;
        self.clocks.stop(row, t0 + s * (t1 - t0), s);
        Ok(y1)
    }

    /// Leaves samples that are done out of the rows, where the field allows it and it pays.
    fn gather(&mut self) -> Result<()> {
        if !self.clocks.pay_to_gather() || !self.rules.field.supports_row_subset() {
            return Ok(());
        }
        self.leave();
        let rows = self.clocks.gather();
        if let Some((Scale::Each { rtol, atol }, _)) = &mut self.control {
            (*rtol, *atol) = (kernels::pick_rows(rtol, &rows)?, kernels::pick_rows(atol, &rows)?);
        }
        self.y = kernels::pick_rows(&self.y, &rows)?;
        self.space.keep(&rows, &self.y)
    }

    /// Notes where the states of all samples in the rows lie.
    fn leave(&mut self) {
        if self.clocks.are_whole() {
            return;
        }
        for (row, &sample) in self.clocks.samples().iter().enumerate() {
            self.ends[sample] = Some((self.y.clone(), row));
        }
    }
}

/// A solve that is done.
pub(crate) struct Finished<'a> {
    pub(crate) y1: Tensor,
    pub(crate) nfe: usize,
    pub(crate) clocks: Clocks<'a>,
}

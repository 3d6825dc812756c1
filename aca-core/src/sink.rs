//! Where accepted steps go.

use candle_core::Tensor;

use crate::space::{Space, Trial};
use crate::{Error, Result, Stepper, Steps};

/// The accepted step of one row: of the whole state, which is row 0 of sample 0, or of one sample of a batch.
#[derive(Clone, Copy, Debug)]
pub struct RowStep {
    /// The sample.
    pub sample: usize,
    /// Its row in the tensors of a [`Step`].
    pub row: usize,
    /// Position among the sample's accepted steps.
    pub index: usize,
    /// Where the step starts.
    pub t0: f64,
    /// Where it ends: the next step's start, exactly.
    pub t1: f64,
    /// Whether it ends the span.
    pub is_last: bool,
}

impl RowStep {
    /// Signed size of the step.
    pub fn h(&self) -> f64 {
        self.t1 - self.t0
    }
}

/// The accepted steps that a solve passes to a [`StepSink`] at one time: one step of the whole state, or steps of
/// several samples that step on their own.
pub struct Step<'a> {
    /// The accepted steps; other rows rest or were rejected.
    pub accepted: &'a [RowStep],
    /// Position of the first among the accepted steps of its sample.
    pub index: usize,
    /// Where the first starts.
    pub t0: f64,
    /// Where it ends: the next step's start, exactly.
    pub t1: f64,
    /// States at the starts, `[..state]`, or `[rows, ..state]` where samples step on their own.
    pub y0: &'a Tensor,
    /// States at the ends.
    pub y1: &'a Tensor,
    trial: Trial<'a>,
    space: &'a mut dyn Space,
    endings: Vec<Ending>,
}

/// The early end of a sample's solve.
pub(crate) enum Ending {
    /// With an error.
    Failure(usize, Error),
    /// In a row, at a fraction of its step.
    Stop(usize, f64),
}

impl<'a> Step<'a> {
    pub(crate) fn new(
        accepted: &'a [RowStep],
        trial: Trial<'a>,
        y1: &'a Tensor,
        space: &'a mut dyn Space,
    ) -> Self {
        let (index, t0, t1) =
            accepted.first().map_or((0, 0.0, 0.0), |first| (first.index, first.t0, first.t1));
        Self { accepted, index, t0, t1, y0: trial.y0, y1, trial, space, endings: Vec::new() }
    }

    /// How samples were ended.
    pub(crate) fn endings(self) -> Vec<Ending> {
        self.endings
    }

    /// Signed size of the first of the steps.
    pub fn h(&self) -> f64 {
        self.t1 - self.t0
    }

    /// Whether the state steps as a whole.
    pub fn is_whole(&self) -> bool {
        self.trial.steps.is_whole()
    }

    /// Where the steps of all rows start and end.
    pub fn steps(&self) -> &Steps {
        self.trial.steps
    }

    /// The method that made the steps.
    pub fn method(&self) -> &Stepper {
        &self.trial.rules.method
    }

    /// The number of that method among those that the solve switches between; 0 where there is one.
    pub fn scheme(&self) -> usize {
        usize::from(self.trial.rules.scheme)
    }

    /// Ends the solve of a sample with an error; it keeps the end of this step.
    pub fn fail(&mut self, sample: usize, error: Error) {
        self.endings.push(Ending::Failure(sample, error));
    }

    /// Ends the solve of a row's sample without an error, at the fraction `s` of its step. The solve ends with the
    /// state of the interpolant there.
    ///
    /// # Errors
    /// [`Error::NoSuchPlace`] for a row without an accepted step, or a fraction that is not in `[0, 1]`; whatever the field
    /// returns where the interpolant needs it.
    pub fn stop(&mut self, row: usize, s: f64) -> Result<()> {
        if !((0.0..=1.0).contains(&s) && self.accepted.iter().any(|own| own.row == row)) {
            return Err(Error::NoSuchPlace { row, s });
        }
        self.complete()?;
        self.endings.push(Ending::Stop(row, s));
        Ok(())
    }

    /// Whether the rows of a whole state are independent systems, if the solve has probed it.
    pub fn known_rows(&self) -> Option<bool> {
        self.trial.rules.field.known_rows()
    }

    /// The slope at the starts of the steps, where the next replay cannot find it again: that of an implicit stage before.
    pub fn solved_slope(&self) -> Result<Option<Tensor>> {
        let solved = self.method().begins_with_solved_slope();
        solved.then(|| self.space.slope(0)).transpose()
    }

    /// The slope at the end of the steps, where the method has it without the interpolant.
    pub fn fsal_slope(&self) -> Result<Option<Tensor>> {
        let stage = self.method().fsal_stage();
        stage.map(|stage| self.space.slope(stage)).transpose()
    }

    /// The slopes that were evaluated so far: the method's own, and the interpolant's after [`Step::complete`].
    pub fn stages(&self) -> Result<Vec<Tensor>> {
        (0..self.space.known()).map(|i| self.space.slope(i)).collect()
    }

    /// Returns `y0[r_m] + sum(w_mi k_i[r_m])` over the slopes evaluated so far, without making tensors of them.
    ///
    /// # Shapes
    /// `rows`: the `r_m`, each 0 where the state steps as a whole; `weights`: row-major `[rows.len(), stages]`; result:
    /// `[rows.len(), ..state]`.
    ///
    /// # Errors
    /// [`Error::StageCount`] for weights of more stages, or of fewer; [`Error::NoSuchPlace`] for a row that is not there.
    pub fn combine(&self, rows: &[usize], weights: &[f64]) -> Result<Tensor> {
        self.combined(rows, weights, true)
    }

    /// Returns `sum(w_mi k_i[r_m])`, as [`Step::combine`] without the states at the starts: slopes inside steps, say.
    ///
    /// # Errors
    /// As [`Step::combine`].
    pub fn combine_slopes(&self, rows: &[usize], weights: &[f64]) -> Result<Tensor> {
        self.combined(rows, weights, false)
    }

    fn combined(&self, rows: &[usize], weights: &[f64], from_start: bool) -> Result<Tensor> {
        if let Some(&row) = rows.iter().find(|row| **row >= self.trial.steps.rows()) {
            return Err(Error::NoSuchPlace { row, s: 0.0 });
        }
        let (got, expected) = (weights.len() / rows.len().max(1), self.space.known());
        match weights.len() == rows.len() * expected {
            true => self.space.combine(self.trial, rows, weights, from_start),
            false => Err(Error::StageCount { what: "weights", got, expected }),
        }
    }

    /// Evaluates the slopes that only the interpolant needs, unless they are there already. The solve reuses the slope
    /// at the end for the next step. Running statistics of the field stay as they are.
    pub fn complete(&mut self) -> Result<()> {
        let (count, field) = (self.method().interpolant().stages(), &self.trial.rules.field);
        if self.space.known() >= count {
            return Ok(());
        }
        let statistics = field.snapshot()?;
        let filled = self.space.fill(self.trial, count);
        field.restore(&statistics)?;
        filled
    }
}

/// Receives the accepted steps of a solve, those of each sample in order. Rejected steps are not passed to sinks.
///
/// The tape of a gradient, the saver of requested times and dense output are sinks; so are `()`,
/// which drops every step, and a pair of sinks.
pub trait StepSink {
    /// Takes accepted steps.
    ///
    /// # Errors
    /// Errors of the sink, which end the solve.
    fn accept(&mut self, step: &mut Step<'_>) -> Result<()>;

    /// Whether the sink evaluates the solution inside a sample's step that would end at `t1`; the default is no.
    ///
    /// Long steps of implicit methods can be accurate at their ends and wrong between. The solve controls the error
    /// inside a step only if this says yes.
    fn looks_inside(&self, _sample: usize, _t1: f64) -> bool {
        false
    }

    /// Whether the sink keeps every state of a [traced](crate::Solver::trace) solve and drops the newest first, so that
    /// no drop recurses through more than one step; the default is no.
    ///
    /// Traced solves into other sinks end with [`Error::GraphTooDeep`] before their graph can overflow the stack.
    fn drops_newest_first(&self) -> bool {
        false
    }
}

impl StepSink for () {
    fn accept(&mut self, _step: &mut Step<'_>) -> Result<()> {
        Ok(())
    }
}

impl<A: StepSink, B: StepSink> StepSink for (A, B) {
    fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
        self.0.accept(step)?;
        self.1.accept(step)
    }

    fn looks_inside(&self, sample: usize, t1: f64) -> bool {
        self.0.looks_inside(sample, t1) || self.1.looks_inside(sample, t1)
    }

    fn drops_newest_first(&self) -> bool {
        self.0.drops_newest_first() || self.1.drops_newest_first()
    }
}

impl<S: StepSink + ?Sized> StepSink for &mut S {
    fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
        (**self).accept(step)
    }

    fn looks_inside(&self, sample: usize, t1: f64) -> bool {
        (**self).looks_inside(sample, t1)
    }

    fn drops_newest_first(&self) -> bool {
        (**self).drops_newest_first()
    }
}

impl<S: StepSink> StepSink for Option<S> {
    fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
        match self {
            Some(sink) => sink.accept(step),
            None => Ok(()),
        }
    }

    fn looks_inside(&self, sample: usize, t1: f64) -> bool {
        self.as_ref().is_some_and(|sink| sink.looks_inside(sample, t1))
    }

    fn drops_newest_first(&self) -> bool {
        self.as_ref().is_some_and(S::drops_newest_first)
    }
}

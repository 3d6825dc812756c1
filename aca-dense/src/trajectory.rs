//! A whole solution, evaluated anywhere.

use aca_core::{Error, Method, Result, TimeSpan};
use candle_core::Tensor;

use crate::{Placement, interpolate, interpolate_derivative};

/// One accepted step with all that its interpolant needs.
#[derive(Clone, Debug)]
pub struct DenseStep {
    /// Where the step starts.
    pub t0: f64,
    /// Where it ends.
    pub t1: f64,
    /// State at `t0`.
    pub y0: Tensor,
    /// Slopes of the interpolant's stages.
    pub k: Vec<Tensor>,
}

/// The solution over the whole span: `y(t)` and `y'(t)` at any time, continuous with its first
/// derivative across steps.
///
/// # Cost
/// Keeps a state and all stages for every accepted step.
#[derive(Clone, Debug)]
pub struct DenseOutput {
    method: Method,
    span: TimeSpan,
    y0: Tensor,
    steps: Vec<DenseStep>,
    extrapolate: bool,
}

impl DenseOutput {
    pub(crate) fn new(method: Method, span: TimeSpan, y0: Tensor, steps: Vec<DenseStep>) -> Self {
        Self { method, span, y0, steps, extrapolate: false }
    }

    /// Returns the same solution, which outside its span continues the polynomial of the nearest
    /// step; the error grows fast with the distance.
    pub fn extrapolating(self) -> Self {
        Self { extrapolate: true, ..self }
    }

    /// The span that was solved.
    pub fn span(&self) -> TimeSpan {
        self.span
    }

    /// Returns `y(t)`.
    ///
    /// # Errors
    /// [`Error::TimeOutsideSpan`] unless extrapolation was asked for, [`Error::TimeNotFinite`].
    pub fn at(&self, t: f64) -> Result<Tensor> {
        Ok(self.at_times(&[t])?.squeeze(0)?)
    }

    /// Returns `y(t)` for each of `ts`, in any order.
    ///
    /// # Shapes
    /// `[times, ..state]`.
    ///
    /// # Errors
    /// As [`DenseOutput::at`]; [`Error::NoTimes`] for an empty list.
    pub fn at_times(&self, ts: &[f64]) -> Result<Tensor> {
        if ts.is_empty() {
            return Err(Error::NoTimes);
        }
        let placements = ts.iter().map(|&t| self.place(t)).collect::<Result<Vec<_>>>()?;
        let groups = placements.chunk_by(|a, b| a.step == b.step);
        let rows = groups.map(|group| self.rows(group)).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::cat(&rows, 0)?)
    }

    /// Returns `y'(t)`, the derivative of the interpolant.
    ///
    /// # Errors
    /// As [`DenseOutput::at`]; [`Error::NoDenseOutput`] when the span has no length.
    pub fn derivative(&self, t: f64) -> Result<Tensor> {
        let Placement { step, s } = self.place(t)?;
        let step = self.steps.get(step).ok_or(Error::NoDenseOutput)?;
        interpolate_derivative(&self.method, &step.k, s)
    }

    /// Finds the step that `t` belongs to: where two meet, the earlier.
    ///
    /// # Errors
    /// As [`DenseOutput::at`].
    pub fn place(&self, t: f64) -> Result<Placement> {
        if !t.is_finite() {
            return Err(Error::TimeNotFinite { index: 0, t });
        }
        if !self.extrapolate {
            self.span.check_inside(t)?;
        }
        let step = self.steps.partition_point(|step| self.span.before(step.t1, t));
        let step = step.min(self.steps.len().saturating_sub(1));
        let Some(ends) = self.steps.get(step).map(|step| (step.t0, step.t1)) else {
            return Ok(Placement { step: 0, s: 0.0 });
        };
        Ok(Placement::new(step, ends, t))
    }

    /// Evaluates outputs of one step.
    fn rows(&self, group: &[Placement]) -> Result<Tensor> {
        let s: Vec<f64> = group.iter().map(|placement| placement.s).collect();
        match self.steps.get(group[0].step) {
            Some(step) => interpolate(&self.method, &step.y0, step.t1 - step.t0, &step.k, &s),
            None => Ok(Tensor::stack(&vec![&self.y0; s.len()], 0)?),
        }
    }
}

//! A whole solution, evaluated anywhere.

use std::sync::Arc;

use aca_core::kernels;
use aca_core::{Error, Result, Stepper, TimeSpan};
use candle_core::Tensor;

use crate::{DenseError, Placement, interpolate, interpolate_derivative};

/// One accepted step with all that its interpolant needs.
#[derive(Clone, Debug)]
pub struct DenseStep {
    /// Where the step starts.
    pub t0: f64,
    /// Where it ends.
    pub t1: f64,
    /// State at `t0`.
    pub y0: Tensor,
    /// State at `t1`.
    pub y1: Tensor,
    /// Slopes of the interpolant's stages.
    pub k: Vec<Tensor>,
    /// The number of its method among those that the solve switched between; 0 where there is one.
    pub scheme: usize,
}

/// The solution over the whole span: `y(t)` and `y'(t)` at any time, continuous with its first
/// derivative across steps.
///
/// # Cost
/// Keeps one state and all stages of each accepted step.
#[derive(Clone, Debug)]
pub struct DenseOutput {
    methods: Arc<[Stepper]>,
    span: TimeSpan,
    y0: Tensor,
    steps: Vec<DenseStep>,
    extrapolate: bool,
}

impl DenseOutput {
    /// Returns the same solution outside candle's graph.
    pub fn detach(mut self) -> Self {
        self.y0 = self.y0.detach();
        for step in &mut self.steps {
            (step.y0, step.y1) = (step.y0.detach(), step.y1.detach());
            step.k.iter_mut().for_each(|k| *k = k.detach());
        }
        self
    }

    pub(crate) fn new(
        methods: Arc<[Stepper]>,
        span: TimeSpan,
        y0: Tensor,
        steps: Vec<DenseStep>,
    ) -> Self {
        Self { methods, span, y0, steps, extrapolate: false }
    }

    /// Returns the same solution with extrapolation: outside its span it continues the polynomial of the nearest step.
    /// The error grows fast with the distance.
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
        self.at_placements(&self.place_all(ts)?)
    }

    /// Returns the solution at each of `placements`, as [`DenseOutput::at_times`] does at times.
    ///
    /// # Errors
    /// [`DenseError::NoSuchStep`] for placements of another solution; [`Error::NoTimes`] for an empty list;
    /// [`Error::NonFinite`] on the CPU where the interpolant of a step is not finite.
    pub fn at_placements(&self, placements: &[Placement]) -> Result<Tensor> {
        if placements.is_empty() {
            return Err(Error::NoTimes);
        }
        let groups = placements.chunk_by(|a, b| a.step == b.step && (a.s == 1.0) == (b.s == 1.0));
        let rows = groups.map(|group| self.rows(group)).collect::<Result<Vec<_>>>()?;
        let ys = Tensor::cat(&rows, 0)?;
        self.check_finite(placements, &ys)?;
        Ok(ys)
    }

    /// Looks at outputs: nothing else judges the slope at the end of a step, which they may need. Those that
    /// a failed sample did not come to are no numbers, as they should be.
    fn check_finite(&self, placements: &[Placement], ys: &Tensor) -> Result<()> {
        if !ys.device().is_cpu() {
            return Ok(());
        }
        let bad = placements.iter().zip(kernels::non_finite_rows(ys)?);
        for (placement, index) in bad.filter(|(placement, _)| !placement.s.is_nan()) {
            let Some(index) = index else { continue };
            let (t0, t1) = self.steps.get(placement.step).map_or((0.0, 0.0), |s| (s.t0, s.t1));
            let (what, h) = ("output", t1 - t0);
            return Err(Error::NonFinite { what, t: t0 + placement.s * h, h, index });
        }
        Ok(())
    }

    /// Returns `y'(t)`, the derivative of the interpolant.
    ///
    /// # Errors
    /// As [`DenseOutput::at`]; [`DenseError::NoSteps`] when the span has no length.
    pub fn derivative(&self, t: f64) -> Result<Tensor> {
        let Placement { step, s } = self.place(t)?;
        let step = self.steps.get(step).ok_or(DenseError::NoSteps)?;
        let slope = interpolate_derivative(&self.methods[step.scheme], &step.k, s)?;
        match kernels::first_non_finite(&slope)? {
            Some(index) => Err(Error::NonFinite { what: "slope", t, h: step.t1 - step.t0, index }),
            None => Ok(slope),
        }
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
            if t != self.span.t0 {
                return Err(DenseError::NoSteps.into());
            }
            return Ok(Placement { step: 0, s: 0.0 });
        };
        Ok(Placement::new(step, ends, t))
    }

    /// Finds the steps that `ts` belong to.
    ///
    /// # Errors
    /// As [`DenseOutput::at_times`].
    pub fn place_all(&self, ts: &[f64]) -> Result<Vec<Placement>> {
        let place = |(index, &t): (usize, &f64)| match self.place(t) {
            Err(Error::TimeNotFinite { t, .. }) => Err(Error::TimeNotFinite { index, t }),
            placed => placed,
        };
        ts.iter().enumerate().map(place).collect()
    }

    /// Evaluates outputs of one step.
    fn rows(&self, group: &[Placement]) -> Result<Tensor> {
        let Placement { step, s } = group[0];
        let Some(step) = self.steps.get(step) else {
            // Outputs that a failed sample did not come to are not numbers.
            let y = match s.is_nan() {
                true => (self.y0.zeros_like()? * f64::NAN)?,
                false if step == 0 => self.y0.clone(),
                false => {
                    return Err(DenseError::NoSuchStep { step, steps: self.steps.len() }.into());
                }
            };
            return Ok(Tensor::stack(&vec![&y; group.len()], 0)?);
        };
        if group.iter().all(|placement| placement.s == 1.0) {
            return Ok(Tensor::stack(&vec![&step.y1; group.len()], 0)?);
        }
        let s: Vec<f64> = group.iter().map(|placement| placement.s).collect();
        interpolate(&self.methods[step.scheme], &step.y0, step.t1 - step.t0, &step.k, &s)
    }
}

//! Where accepted steps of samples with clocks of their own go.

use candle_core::Tensor;

use crate::rules::Rules;
use crate::sink::Slopes;
use crate::{Error, Method, Result, RowSteps, SliceStep, kernels};

/// The accepted step of one sample.
#[derive(Clone, Copy, Debug)]
pub struct SampleStep {
    /// The sample.
    pub sample: usize,
    /// Its row in the tensors of [`SampleSteps`].
    pub row: usize,
    /// Position among the sample's accepted steps.
    pub index: usize,
    /// Where the step starts.
    pub t0: f64,
    /// Where it ends: the sample's next step's start, exactly.
    pub t1: f64,
}

/// The steps that samples took at the same turn, as the solve hands them to a [`SampleSink`].
pub struct SampleSteps<'a> {
    /// The accepted steps; rows of other samples rest or were rejected.
    pub accepted: &'a [SampleStep],
    /// States at the steps' starts, `[rows, ..state]`.
    pub y0: &'a Tensor,
    /// States at their ends.
    pub y1: &'a Tensor,
    slopes: Slopes<'a>,
    rows: &'a RowSteps,
    rules: &'a Rules<'a>,
    failures: Vec<(usize, Error)>,
}

impl<'a> SampleSteps<'a> {
    pub(crate) fn new(
        accepted: &'a [SampleStep],
        [y0, y1]: [&'a Tensor; 2],
        slopes: Slopes<'a>,
        rows: &'a RowSteps,
        rules: &'a Rules<'a>,
    ) -> Self {
        Self { accepted, y0, y1, slopes, rows, rules, failures: Vec::new() }
    }

    /// Ends the solve of a sample with this step, whose end the sample keeps.
    pub fn fail(&mut self, sample: usize, error: Error) {
        self.failures.push((sample, error));
    }

    /// What was failed.
    pub(crate) fn failures(self) -> Vec<(usize, Error)> {
        self.failures
    }

    /// The method that made the steps.
    pub fn method(&self) -> &Method {
        &self.rules.method
    }

    /// The slopes of the stages evaluated so far, each `[rows, ..state]`: the tableau's own, and the
    /// interpolant's after [`SampleSteps::complete`].
    pub fn stages(&self) -> Result<Vec<Tensor>> {
        self.slopes.tensors()
    }

    /// Returns the rows `y0[r_m] + sum(w_mi k_i[r_m])` over the stages evaluated so far, without making
    /// tensors of them.
    ///
    /// # Shapes
    /// `rows`: the `r_m`; `weights`: row-major `[rows.len(), stages]`; result: `[rows.len(), ..state]`.
    ///
    /// # Errors
    /// [`Error::StageCount`](crate::Error::StageCount) for weights of more stages, or of fewer.
    pub fn combine_picked(&self, rows: &[usize], weights: &[f64]) -> Result<Tensor> {
        self.slopes.check_weights(rows.len(), weights)?;
        match &self.slopes {
            Slopes::Tensors(k) => {
                kernels::combine_picked(self.y0, rows, weights, &k.iter().collect::<Vec<_>>())
            }
            Slopes::Slices(stages) => stages.combine_picked(rows, weights),
        }
    }

    /// Evaluates the stages that only the interpolant needs, once. Running statistics of the field
    /// stay as they are.
    pub fn complete(&mut self) -> Result<()> {
        let Rules { method, field } = self.rules;
        match &mut self.slopes {
            Slopes::Tensors(k) => {
                let statistics = field.snapshot()?;
                let count = method.interpolant().stages();
                method.extend_row_stages(field, self.rows, self.y0, k, count)?;
                field.restore(&statistics)
            }
            Slopes::Slices(stages) => {
                stages.complete(self.rules, SliceStep::Each(self.rows));
                Ok(())
            }
        }
    }
}

/// Receives the accepted steps of samples with clocks of their own, each sample's in order.
pub trait SampleSink {
    /// Takes the steps accepted at one turn.
    ///
    /// # Errors
    /// Whatever the sink meets; the solve stops with it.
    fn accept(&mut self, steps: &mut SampleSteps<'_>) -> Result<()>;
}

impl SampleSink for () {
    fn accept(&mut self, _steps: &mut SampleSteps<'_>) -> Result<()> {
        Ok(())
    }
}

impl<A: SampleSink, B: SampleSink> SampleSink for (A, B) {
    fn accept(&mut self, steps: &mut SampleSteps<'_>) -> Result<()> {
        self.0.accept(steps)?;
        self.1.accept(steps)
    }
}

impl<S: SampleSink + ?Sized> SampleSink for &mut S {
    fn accept(&mut self, steps: &mut SampleSteps<'_>) -> Result<()> {
        (**self).accept(steps)
    }
}

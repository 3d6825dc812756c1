//! Where accepted steps of samples with clocks of their own go.

use candle_core::Tensor;

use crate::{Evaluator, Method, Result, RowSteps};

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
    pub(crate) rows: &'a RowSteps,
    pub(crate) k: Vec<Tensor>,
    pub(crate) method: &'a Method,
    pub(crate) field: &'a Evaluator<'a>,
}

impl SampleSteps<'_> {
    /// The method that made the steps.
    pub fn method(&self) -> &Method {
        self.method
    }

    /// The slopes of the stages evaluated so far, each `[rows, ..state]`: the tableau's own, and the
    /// interpolant's after [`SampleSteps::complete`].
    pub fn stages(&self) -> &[Tensor] {
        &self.k
    }

    /// Evaluates the stages that only the interpolant needs, once. Running statistics of the field
    /// stay as they are.
    pub fn complete(&mut self) -> Result<()> {
        let statistics = self.field.snapshot()?;
        self.method.extend_row_stages(self.field, self.rows, self.y0, &mut self.k)?;
        self.field.restore(&statistics)
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

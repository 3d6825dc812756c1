//! Where accepted steps go.

use candle_core::Tensor;

use crate::{Evaluator, Method, Result};

/// One accepted step, as the solve hands it to a [`StepSink`].
pub struct Step<'a> {
    /// Position among the accepted steps.
    pub index: usize,
    /// Where the step starts.
    pub t0: f64,
    /// Where it ends: the next step's start, exactly.
    pub t1: f64,
    /// State at `t0`.
    pub y0: &'a Tensor,
    /// State at `t1`.
    pub y1: &'a Tensor,
    pub(crate) k: Vec<Tensor>,
    pub(crate) method: &'a Method,
    pub(crate) field: &'a Evaluator<'a>,
}

impl Step<'_> {
    /// Signed size of the step.
    pub fn h(&self) -> f64 {
        self.t1 - self.t0
    }

    /// The method that made the step.
    pub fn method(&self) -> &Method {
        self.method
    }

    /// The slopes of the stages evaluated so far: the tableau's own, and the interpolant's after
    /// [`Step::complete`].
    pub fn stages(&self) -> &[Tensor] {
        &self.k
    }

    /// Evaluates the stages that only the interpolant needs, once; the solve reuses the slope at
    /// `t1` for the next step. Running statistics of the field stay as they are.
    pub fn complete(&mut self) -> Result<()> {
        let statistics = self.field.snapshot()?;
        self.method.extend_stages(self.field, (self.t0, self.t1), self.y0, &mut self.k)?;
        self.field.restore(&statistics)
    }
}

/// Receives the accepted steps of a solve, in order; rejected steps reach nobody.
///
/// The tape of a gradient, the saver of requested times and dense output are sinks; so are `()`,
/// which drops every step, and a pair of sinks.
pub trait StepSink {
    /// Takes one accepted step.
    ///
    /// # Errors
    /// Whatever the sink meets; the solve stops with it.
    fn accept(&mut self, step: &mut Step<'_>) -> Result<()>;
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
}

impl<S: StepSink + ?Sized> StepSink for &mut S {
    fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
        (**self).accept(step)
    }
}

impl<S: StepSink> StepSink for Option<S> {
    fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
        match self {
            Some(sink) => sink.accept(step),
            None => Ok(()),
        }
    }
}

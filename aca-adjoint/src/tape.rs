//! Checkpoints of accepted steps.

use aca_core::{Result, Step, StepSink};
use candle_core::Tensor;

/// An accepted step as the tape keeps it: its times and the state at its start.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Where the step starts.
    pub t0: f64,
    /// Where it ends.
    pub t1: f64,
    /// State at `t0`: a shared pointer to what the solve held anyway.
    pub y0: Tensor,
}

/// The sink that keeps a [`Checkpoint`] of every accepted step, and nothing of rejected ones.
#[derive(Clone, Debug, Default)]
pub struct Checkpoints(pub Vec<Checkpoint>);

/// The sink that keeps the slope at the end of the span, where the method has it.
#[derive(Clone, Debug, Default)]
pub(crate) struct EndSlope(pub(crate) Option<Tensor>);

impl StepSink for EndSlope {
    fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
        if step.is_last() {
            self.0 = step.fsal_slope()?.map(|slope| slope.detach());
        }
        Ok(())
    }
}

impl StepSink for Checkpoints {
    fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
        self.0.push(Checkpoint { t0: step.t0, t1: step.t1, y0: step.y0.clone() });
        Ok(())
    }
}

/// The sink that keeps the times between accepted steps alone.
#[derive(Clone, Debug, Default)]
pub struct Grid(pub Vec<f64>);

impl StepSink for Grid {
    fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
        if self.0.is_empty() {
            self.0.push(step.t0);
        }
        self.0.push(step.t1);
        Ok(())
    }
}

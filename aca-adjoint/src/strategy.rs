//! What every gradient strategy offers.

use std::fmt;
use std::sync::Arc;

use aca_core::Result;
use aca_dense::Solution;
use candle_core::Tensor;

use crate::{AdjointState, GradientError, Gradients, Outputs, Solve};

/// A gradient strategy that you write: it records a solve, and takes cotangents back through it.
///
/// # Example
/// The example `13_a_gradient_strategy_of_your_own` of aca-models pulls back step by step through candle's own graph.
pub trait Strategy: fmt::Debug + Send + Sync {
    /// Solves, and keeps what the backward pass needs.
    ///
    /// # Errors
    /// Whatever the solve returns; [`GradientError::Unsupported`] for what the strategy leaves out.
    fn record(&self, solve: &Solve<'_>) -> Result<Recorded>;
}

/// A finished solve, outside candle's graph, and its backward half.
pub type Recorded = (Solution, Arc<dyn Backward>);

/// The backward half of a gradient strategy, bound to one finished solve.
pub trait Backward: Send + Sync {
    /// Maps cotangents of outputs to gradients of the solve's inputs, times included if they are wanted.
    ///
    /// # Shapes
    /// `cotangents`: `[outputs, ..state]`, detached, in the order of `outputs`.
    ///
    /// # Errors
    /// Whatever the field returns; [`GradientError::Unsupported`] for times where the strategy has no gradient of theirs.
    fn pullback(
        &self,
        outputs: &Outputs,
        cotangents: &Tensor,
        want_times: bool,
    ) -> Result<Gradients>;

    /// Maps cotangents of outputs to the adjoint state at each of `ts`. The default refuses.
    ///
    /// # Errors
    /// [`GradientError::Unsupported`].
    fn adjoint_state(
        &self,
        outputs: &Outputs,
        cotangents: &Tensor,
        ts: &[f64],
    ) -> Result<AdjointState> {
        let _ = (outputs, cotangents, ts);
        Err(GradientError::Unsupported {
            strategy: "this gradient strategy",
            what: "the adjoint state",
        }
        .into())
    }
}

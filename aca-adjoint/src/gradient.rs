//! Which gradient strategy to use.

use std::sync::Arc;

use aca_core::{Method, Result, Solver};

use crate::GradientError;
use crate::Strategy;

/// How the gradient of a solve is found.
///
/// | strategy | exact for the discrete solution | memory beside the states asked for | evaluations of the field per step of s stages |
/// |---|---|---|---|
/// | [`Gradient::Aca`] | yes | a state per step, one step's graphs | s forward, s with their pullbacks backward |
/// | [`Gradient::AcaBudget`] | yes | `checkpoints` states, one step's graphs | the same, and recomputed steps |
/// | [`Gradient::Naive`] | yes | every graph of every step | s forward |
/// | [`Gradient::NaiveThroughStepSize`] | no: the step sizes move too | those of rejected steps too | s forward |
/// | [`Gradient::Backsolve`] | no | one state | a new solve |
/// | [`Gradient::Mali`] | yes, or refused where rounding grows on the way back | one state (and its slope) | s forward, s with their pullbacks backward, and as many again to undo a splitting |
///
/// Take `Aca` unless its states do not fit, then `AcaBudget`, or `Mali` where second order is
/// enough. `Backsolve` is there to compare with: its gradient is off by the error of a second solve,
/// which on chaotic or stiff problems is all of it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Gradient {
    /// The Adaptive Checkpoint Adjoint: replays accepted steps, exact for the discrete solution.
    #[default]
    Aca,
    /// As `Aca`, but keeps only `checkpoints` states and recomputes those between, with the fewest possible repeated
    /// steps.
    AcaBudget {
        /// States to keep, at least 1.
        checkpoints: usize,
    },
    /// Candle's own graph through every accepted step.
    Naive,
    /// Candle's own graph through accepted and rejected steps and the choice of step sizes: the naive baseline of the
    /// ACA paper.
    NaiveThroughStepSize,
    /// The continuous adjoint, solved backward in time.
    Backsolve(Backsolve),
    /// Steps undone one by one, with no state kept: those of the asynchronous leapfrog, or of a symplectic splitting.
    Mali,
    /// A strategy of your own, for whole states.
    Custom(Arc<dyn Strategy>),
}

impl Gradient {
    /// Refuses gradients with respect to times on behalf of strategies that have none.
    pub(crate) fn check_times(&self) -> Result<()> {
        let strategy = match self {
            Self::Aca | Self::AcaBudget { .. } | Self::Backsolve(_) | Self::Custom(_) => {
                return Ok(());
            }
            Self::Naive => "Naive",
            Self::NaiveThroughStepSize => "NaiveThroughStepSize",
            Self::Mali => "Mali",
        };
        Err(GradientError::Unsupported { strategy, what: "gradients with respect to times" }.into())
    }

    /// As [`Gradient::check_times`], on behalf of replays of `method` as well.
    pub(crate) fn check_times_of(&self, method: &Method) -> Result<()> {
        match self {
            Self::Aca | Self::AcaBudget { .. } => check_scheme_times(method),
            _ => self.check_times(),
        }
    }
}

/// Refuses gradients with respect to times through schemes of the user's: where their nodes and weights stand at other
/// step sizes nobody says.
pub(crate) fn check_scheme_times(method: &Method) -> Result<()> {
    match method {
        Method::Custom(scheme) => {
            Err(GradientError::SchemeTimes { method: scheme.name().to_owned() }.into())
        }
        _ => Ok(()),
    }
}

/// How [`Gradient::Backsolve`] solves backward.
#[derive(Clone, Debug)]
pub struct Backsolve {
    /// Solver of the backward pass; that of the forward pass when `None`.
    pub solver: Option<Box<Solver>>,
    /// Whether the error norm leaves out the parameters' part, which saves steps (Kidger et al., "Hey, that's not an
    /// ODE", ICML 2021).
    pub seminorm: bool,
    /// Whether the backward solve restarts from each output of the forward solve, as in torchdiffeq and diffrax.
    /// Otherwise it goes back from the end of the span only.
    pub restart: bool,
}

impl Default for Backsolve {
    fn default() -> Self {
        Self { solver: None, seminorm: true, restart: true }
    }
}

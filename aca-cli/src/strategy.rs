//! The gradient strategies, as the command line names them.

use aca_adjoint::{Backsolve, Gradient};
use aca_core::Method;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::report::{Refusal, Result};

/// A gradient strategy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Replay of accepted steps from their checkpoints
    Aca,
    /// As aca, with a limited number of checkpoints
    #[value(alias = "aca_budget")]
    AcaBudget,
    /// Candle's graph through accepted steps
    Naive,
    /// Candle's graph through rejected steps and step sizes too
    #[value(alias = "naive_through_step_size")]
    NaiveThroughStepSize,
    /// Continuous adjoint, solved backward in time
    Backsolve,
    /// Reversible leapfrog steps, without checkpoints
    Mali,
}

impl Strategy {
    /// Checkpoints of `AcaBudget` where the user gives no number.
    pub const CHECKPOINTS: usize = 10;

    /// All that are compared.
    pub const ALL: [Self; 5] =
        [Self::Aca, Self::Naive, Self::NaiveThroughStepSize, Self::Backsolve, Self::Mali];

    /// Its name in tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aca => "aca",
            Self::AcaBudget => "aca_budget",
            Self::Naive => "naive",
            Self::NaiveThroughStepSize => "naive_through_step_size",
            Self::Backsolve => "backsolve",
            Self::Mali => "mali",
        }
    }

    /// The method that all strategies are compared by; MALI has one of its own.
    pub fn usual_method(self) -> Method {
        match self {
            Self::Mali => Method::Leapfrog,
            _ => aca_tableau::DOPRI5.into(),
        }
    }

    /// The library's value; `checkpoints` are those of `AcaBudget`.
    pub fn gradient(self, checkpoints: usize) -> Gradient {
        match self {
            Self::Aca => Gradient::Aca,
            Self::AcaBudget => Gradient::AcaBudget { checkpoints },
            Self::Naive => Gradient::Naive,
            Self::NaiveThroughStepSize => Gradient::NaiveThroughStepSize,
            Self::Backsolve => Gradient::Backsolve(Backsolve::default()),
            Self::Mali => Gradient::Mali,
        }
    }
}

/// Refuses checkpoints of a strategy that counts none, and methods whose steps a strategy cannot differentiate.
///
/// # Errors
/// [`Refusal::Belongs`], [`Refusal::NotReversible`] or [`Refusal::LeapfrogGradient`].
pub fn check(strategy: Strategy, checkpoints: Option<u32>, method: &Method) -> Result<()> {
    if checkpoints.is_some() && strategy != Strategy::AcaBudget {
        let (option, owner) = ("--checkpoints", "--gradient aca-budget");
        return Err(Refusal::Belongs { option, owner }.into());
    }
    let name = || method.name().to_owned();
    match (strategy, method) {
        (Strategy::Mali, Method::RungeKutta(_)) => {
            Err(Refusal::NotReversible { method: name() }.into())
        }
        (Strategy::Mali | Strategy::Naive, _) => Ok(()),
        (_, Method::Leapfrog) => Err(Refusal::LeapfrogGradient { method: name() }.into()),
        _ => Ok(()),
    }
}

//! The gradient strategies, as the command line names them.

use aca_adjoint::{Backsolve, Gradient};
use aca_core::Method;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A gradient strategy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Replay of accepted steps
    Aca,
    /// Graph through accepted steps
    Naive,
    /// Graph through trials and step sizes as well
    #[value(alias = "naive_through_step_size")]
    NaiveThroughStepSize,
    /// Continuous adjoint
    Backsolve,
    /// Reversible leapfrog
    Mali,
}

impl Strategy {
    /// All that are compared.
    pub const ALL: [Self; 5] =
        [Self::Aca, Self::Naive, Self::NaiveThroughStepSize, Self::Backsolve, Self::Mali];

    /// Its name in tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aca => "aca",
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

    /// The library's value.
    pub fn gradient(self) -> Gradient {
        match self {
            Self::Aca => Gradient::Aca,
            Self::Naive => Gradient::Naive,
            Self::NaiveThroughStepSize => Gradient::NaiveThroughStepSize,
            Self::Backsolve => Gradient::Backsolve(Backsolve::default()),
            Self::Mali => Gradient::Mali,
        }
    }
}

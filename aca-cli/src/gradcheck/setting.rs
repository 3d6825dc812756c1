//! The strategies under test, each with methods that it can step by.

use aca_adjoint::{Backsolve, Gradient};
use aca_core::Method;
use aca_core::{Solver, Tolerance};

use crate::strategy::Strategy;

/// How the steps of a solve are found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Steps {
    /// By error control.
    Within(Tolerance),
    /// So many equal ones.
    Equal(usize),
}

/// A strategy, a method and its steps.
#[derive(Clone, Debug)]
pub struct Setting {
    pub strategy: Strategy,
    pub method: Method,
    pub steps: Steps,
    /// Whether backsolve starts anew from every output of the forward solve.
    pub restart: bool,
}

/// Largest number of steps; a second or less where they are cheapest.
const MAX_STEPS: usize = 300_000;

impl Setting {
    /// Steps of the strategy's usual method within the tolerances.
    pub fn usual(strategy: Strategy, rtol: f64, atol: f64) -> Self {
        let steps = Steps::Within(Tolerance { rtol, atol });
        Self { strategy, method: strategy.usual_method(), steps, restart: true }
    }

    /// Steps of any method within one tolerance, relative and absolute alike.
    pub fn within(strategy: Strategy, method: impl Into<Method>, tolerance: f64) -> Self {
        let steps = Steps::Within(Tolerance { rtol: tolerance, atol: tolerance });
        Self { strategy, method: method.into(), steps, restart: true }
    }

    /// The method's name, and how backsolve goes about it if not as usual.
    pub fn method(&self) -> String {
        let name = self.method.name();
        if self.restart { name.to_owned() } else { format!("{name} no restart") }
    }

    /// The library's value for the strategy.
    pub fn gradient(&self) -> Gradient {
        match self.strategy {
            Strategy::Backsolve => {
                Gradient::Backsolve(Backsolve { restart: self.restart, ..Backsolve::default() })
            }
            strategy => strategy.gradient(Strategy::CHECKPOINTS),
        }
    }

    /// The solver.
    pub fn solver(&self) -> Solver {
        let method = self.method.clone();
        let solver = match self.steps {
            Steps::Within(tolerance) => Solver::adaptive(method, tolerance),
            Steps::Equal(count) => Solver::fixed_count(method, count),
        };
        Solver { max_steps: MAX_STEPS, ..solver }
    }

    /// The relative tolerance; `None` for equal steps.
    pub fn rtol(&self) -> Option<f64> {
        match self.steps {
            Steps::Within(tolerance) => Some(tolerance.rtol),
            Steps::Equal(_) => None,
        }
    }
}

/// Tolerances from `10^-first` to `10^-last`, `step` powers of ten apart.
pub fn tolerances(first: i32, last: i32, step: usize) -> Vec<f64> {
    // Parsed, since a product of tenths is not the number that its digits mean.
    let tolerance = |power| format!("1e-{power}").parse().unwrap_or(f64::NAN);
    (first..=last).step_by(step).map(tolerance).collect()
}

//! Learning rates that change.

use serde::{Deserialize, Serialize};

/// How a learning rate changes while training goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Schedule {
    /// The rate stays the same.
    Constant,
    /// From each of these epochs on, the rate is multiplied by that factor.
    Steps(Vec<(usize, f64)>),
    /// The rate rises linearly over the first part of all steps, then falls as half a period of a cosine.
    Cosine {
        /// Fraction of the steps in which the rate rises, at least 0 and below 1.
        #[serde(alias = "rise")]
        warmup: f64,
    },
}

impl Schedule {
    /// The learning rate of step number `step`, counted from 0, of a run whose `epochs` have `steps_per_epoch` each; `lr` is
    /// what the schedule acts on.
    pub fn learning_rate(
        &self,
        lr: f64,
        step: usize,
        steps_per_epoch: usize,
        epochs: usize,
    ) -> f64 {
        match self {
            Self::Constant => lr,
            Self::Steps(steps) => {
                let epoch = step / steps_per_epoch.max(1);
                let passed = steps.iter().filter(|(start, _)| *start <= epoch);
                lr * passed.map(|(_, factor)| factor).product::<f64>()
            }
            Self::Cosine { warmup } => {
                let share = (step as f64 + 0.5) / (epochs * steps_per_epoch).max(1) as f64;
                if share < *warmup {
                    return lr * share / warmup;
                }
                let fallen = ((share - warmup) / (1.0 - warmup)).min(1.0);
                0.5 * lr * (1.0 + (std::f64::consts::PI * fallen).cos())
            }
        }
    }
}

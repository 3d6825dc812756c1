//! Trainings that leave all numbers.

use std::path::Path;

use aca_core::Number;
use aca_models::training::{BatchReport, Position};

use super::setting::Setting;
use crate::report::Error;

/// The last batch that was learned.
#[derive(Clone, Copy)]
pub struct LastBatch {
    epoch: usize,
    batch: usize,
    loss: f64,
    lr: f64,
}

impl LastBatch {
    /// What a report says of its batch.
    pub fn of(report: &BatchReport) -> Self {
        let BatchReport { epoch, batch, lr, .. } = *report;
        Self { epoch: epoch + 1, batch: batch + 1, loss: report.own.mean_loss(), lr }
    }
}

/// Tells of an error by which a training left all numbers: where, after which loss, and what is kept; other errors are as
/// they were.
///
/// `kept` is the checkpoint of this run, if there is one.
pub fn told(
    error: Error,
    setting: &Setting,
    (position, last): (&Position, Option<LastBatch>),
    kept: Option<&Path>,
) -> Error {
    // What fails in a backward pass reaches us through candle, as text alone.
    let cause = error.to_string();
    if matches!(&error, Error::Models(aca_models::Error::Ranks(_))) || !cause.contains("not finite")
    {
        return error;
    }
    let before = match last {
        Some(LastBatch { epoch, batch, loss, lr }) => format!(
            "the last finite loss was {loss:.4e}, in batch {batch} of epoch {epoch} at a learning rate of {lr:.3e}"
        ),
        None => "no batch had a finite loss".to_owned(),
    };
    let lower = match setting.fixed_step() {
        Some(h) => format!("lower --lr, or take a smaller step such as --h {}", Number(0.5 * h)),
        None => "lower --lr".to_owned(),
    };
    let kept = match kept {
        Some(path) => format!("the last good checkpoint is kept: --resume {}", path.display()),
        None => "no epoch was finished, so this run has no checkpoint".to_owned(),
    };
    let (epoch, batch) = (position.epoch + 1, position.batch + 1);
    let cause = cause.split("; ").next().unwrap_or_default().to_owned();
    Error::Diverged { epoch, batch, cause, before, lower, kept }
}

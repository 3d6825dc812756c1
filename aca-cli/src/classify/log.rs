//! What is written down and shown while a classifier learns.

use std::path::{Path, PathBuf};

use aca_adjoint::GradientCheck;
use aca_models::training::{BatchReport, EpochRow};
use indicatif::ProgressBar;
use serde::Serialize;

use super::events::Events;
use crate::report::{self, Result};

/// Progress bar, metrics.csv and TensorBoard's events; files of an earlier run stay until there is an epoch
/// to write.
pub struct Log {
    bar: ProgressBar,
    events: Option<Events>,
    folder: PathBuf,
    shows: bool,
}

/// One line of metrics.csv.
#[derive(Serialize)]
struct Line {
    epoch: usize,
    lr: f64,
    train_loss: f64,
    train_accuracy: f64,
    test_loss: f64,
    test_accuracy: f64,
    nfe_forward: f64,
    nfe_backward: f64,
    accepted: usize,
    rejected: usize,
    mean_step: f64,
    seconds: f64,
}

impl Log {
    /// Will log in `folder`; `shows` tells whether there is a progress bar.
    pub fn new(folder: &Path, shows: bool) -> Self {
        let bar = match shows {
            true => report::progress(1, "{prefix} {bar:24} {pos:>4}/{len} {msg}"),
            false => ProgressBar::hidden(),
        };
        Self { bar, events: None, folder: folder.to_owned(), shows }
    }

    /// Notes the epochs that a resumed run already has.
    pub fn history(&mut self, history: &[EpochRow]) -> Result<()> {
        let mut events = Events::new(&self.folder)?;
        history.iter().try_for_each(|row| add(&mut events, row))?;
        self.events = Some(events);
        self.table(history)
    }

    /// Writes all of metrics.csv anew.
    fn table(&self, history: &[EpochRow]) -> Result<()> {
        report::table(&self.folder.join("metrics.csv"), history.iter().map(Line::new))
    }

    /// Shows a batch.
    pub fn batch(&self, report: &BatchReport, epochs: usize) {
        let tally = &report.so_far;
        let [forward, backward] = report.own.nfe_a_batch();
        self.bar.set_length(report.batches as u64);
        self.bar.set_prefix(format!("epoch {:>3}/{epochs}", report.epoch + 1));
        self.bar.set_position(report.batch as u64 + 1);
        self.bar.set_message(format!(
            "loss {:.4}, accuracy {:.2} %, NFE {forward:.0} + {backward:.0}",
            tally.mean_loss(),
            100.0 * tally.accuracy(),
        ));
    }

    /// Notes an epoch, the last of `history`.
    pub fn epoch(&mut self, history: &[EpochRow]) -> Result<()> {
        let Some(row) = history.last() else { return Ok(()) };
        match &mut self.events {
            None => self.history(history)?,
            Some(events) => {
                add(events, row)?;
                self.table(history)?;
            }
        }
        let EpochRow { epoch, train, test, seconds, .. } = row;
        let text = format!(
            "epoch {epoch:>3}: loss {:.4}, accuracy {:.2} %; test {:.4}, {:.2} %; {seconds:.1} s",
            train.mean_loss(),
            100.0 * train.accuracy(),
            test.mean_loss(),
            100.0 * test.accuracy(),
        );
        if self.shows { self.bar.suspend(|| report::line(&text)) } else { Ok(()) }
    }

    /// Notes how a gradient after an epoch differs from the same at a tenth of the tolerance.
    pub fn check(&mut self, epoch: usize, check: &GradientCheck) -> Result<()> {
        let GradientCheck { difference, cosine, .. } = *check;
        if let Some(events) = &mut self.events {
            events.scalars(
                epoch,
                &[("Gradient/Difference", difference), ("Gradient/Cosine", cosine)],
            )?;
        }
        let text = format!(
            "epoch {epoch:>3}: a batch's gradient differs by {difference:.1e} (relative, cosine {cosine:.4}) from the same \
             at a tenth of the tolerance or half the step"
        );
        if self.shows { self.bar.suspend(|| report::line(&text)) } else { Ok(()) }
    }

    /// Takes the progress bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn add(events: &mut Events, row: &EpochRow) -> Result<()> {
    let [forward, backward] = row.train.nfe_a_batch();
    let scalars = [
        ("Train/Loss", row.train.mean_loss()),
        ("Train/Accuracy", row.train.accuracy()),
        ("Test/Loss", row.test.mean_loss()),
        ("Test/Accuracy", row.test.accuracy()),
        ("NFE/Forward", forward),
        ("NFE/Backward", backward),
        ("Steps/Mean", row.train.mean_step()),
        ("Steps/Rejected", row.train.rejected as f64),
        ("Learning rate", row.lr),
    ];
    events.scalars(row.epoch, &scalars)
}

impl Line {
    fn new(row: &EpochRow) -> Self {
        let [nfe_forward, nfe_backward] = row.train.nfe_a_batch();
        Self {
            epoch: row.epoch,
            lr: row.lr,
            train_loss: row.train.mean_loss(),
            train_accuracy: row.train.accuracy(),
            test_loss: row.test.mean_loss(),
            test_accuracy: row.test.accuracy(),
            nfe_forward,
            nfe_backward,
            accepted: row.train.accepted,
            rejected: row.train.rejected,
            mean_step: row.train.mean_step(),
            seconds: row.seconds,
        }
    }
}

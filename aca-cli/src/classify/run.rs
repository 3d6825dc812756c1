//! A training and what it leaves behind.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aca_models::communicator::together;
use aca_models::training::{Checkpoint, EpochRow, Trainer};
use serde::Serialize;

use super::diverged::{self, LastBatch};
use super::log::Log;
use super::setting::Setting;
use crate::report::{self, Error, Result};

/// The checkpoint after every epoch, and where a run was stopped.
pub const LAST: &str = "checkpoint.safetensors";
/// The checkpoint of the epoch with the highest test accuracy.
pub const BEST: &str = "best.safetensors";

/// What a training run reached.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    pub test_accuracy: f64,
    pub train_accuracy: f64,
    pub best_epoch: usize,
    pub seconds: f64,
    pub images_per_second: f64,
}

/// A training run and where it leaves what it finds.
pub struct Run {
    pub setting: Setting,
    pub out: PathBuf,
    /// The checkpoint that the run goes on from.
    pub resumed: Option<PathBuf>,
    /// Becomes true when the user wants the run to stop.
    pub stop: Option<Arc<AtomicBool>>,
    /// Whether epochs are shown.
    pub shows: bool,
    /// Every so many epochs a gradient is compared with the same at a tenth of the tolerance.
    pub check_gradient: Option<u32>,
}

impl Run {
    /// Trains to the last epoch; the first of many processes writes and shows.
    pub fn train(&self, trainer: &mut Trainer) -> Result<Summary> {
        let ranks = trainer.communicator().clone();
        let is_absent = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let made: Vec<_> = self.out.ancestors().take_while(is_absent).collect();
        let log = if ranks.rank() == 0 { self.log(trainer).map(Some) } else { Ok(None) };
        let mut log = together(&*ranks, log)?;
        let learned = self.learn(trainer, log.as_mut());
        if let Some(log) = &log {
            log.finish();
        }
        if learned.is_err() && ranks.rank() == 0 {
            // A run that fails in its first epoch leaves no folders: only empty ones are removed.
            made.iter().for_each(|folder| drop(fs::remove_dir(folder)));
        }
        learned?;
        summary(trainer)
    }

    fn log(&self, trainer: &Trainer) -> Result<Log> {
        fs::create_dir_all(&self.out).map_err(Error::file("create", &self.out))?;
        let mut log = Log::new(&self.out, self.shows);
        if let Some(from) = &self.resumed {
            self.save(trainer)?;
            self.keep_best(trainer.history(), trainer.best(), &from.with_file_name(BEST))?;
            log.history(trainer.history())?;
        }
        Ok(log)
    }

    /// Sees to it that the run's folder holds the best epoch of this run, from `beside` the checkpoint that it
    /// goes on from, and no other run's.
    fn keep_best(
        &self,
        history: &[EpochRow],
        best: Option<&EpochRow>,
        beside: &Path,
    ) -> Result<()> {
        let Some(best) = best else { return Ok(()) };
        let until: Vec<_> = history.iter().filter(|row| row.epoch <= best.epoch).collect();
        let holds = |checkpoint: &Checkpoint| {
            let about = &checkpoint.about;
            about.position.batch == 0 && about.history.iter().eq(until.iter().copied())
        };
        let own = self.out.join(BEST);
        if Checkpoint::load(&own).is_ok_and(|checkpoint| holds(&checkpoint)) {
            return Ok(());
        }
        if let Some(checkpoint) = Checkpoint::load(beside).ok().filter(holds) {
            return Ok(checkpoint.save(&own)?);
        }
        if own.exists() {
            fs::remove_file(&own).map_err(Error::file("remove", &own))?;
        }
        let (epoch, beside) = (best.epoch, beside.display());
        report::line(&format!(
            "{beside} does not hold epoch {epoch}, the best so far; the next better one is written"
        ))
    }

    fn learn(&self, trainer: &mut Trainer, mut log: Option<&mut Log>) -> Result<()> {
        let epochs = trainer.plan().epochs;
        let stops = || self.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed));
        let (begun, mut last) = (trainer.position().epoch, None);
        while trainer.position().epoch < epochs {
            let learned = trainer.epoch(&mut |report| {
                if let Some(log) = &log {
                    log.batch(report, epochs);
                }
                last = Some(LastBatch::of(report));
                if stops() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            let row = learned.map_err(|error| {
                let has_saved = trainer.position().epoch > begun || self.resumed.is_some();
                let kept = has_saved.then(|| self.out.join(LAST));
                let place = (trainer.position(), last);
                diverged::told(error.into(), &self.setting, place, kept.as_deref())
            })?;
            let noted =
                log.as_deref_mut().map_or(Ok(()), |log| self.note(trainer, log, row.is_some()));
            together(&**trainer.communicator(), noted)?;
            if row.as_ref().is_some_and(|row| self.checks(row.epoch)) {
                let check = trainer.check_gradient()?;
                if let (Some(log), Some(check)) = (log.as_deref_mut(), check) {
                    log.check(trainer.position().epoch, &check)?;
                }
            }
            if row.is_none() || (stops() && trainer.position().epoch < epochs) {
                return Err(self.stopped(trainer));
            }
        }
        Ok(())
    }

    /// Whether gradients are checked after an epoch.
    fn checks(&self, epoch: usize) -> bool {
        self.check_gradient.is_some_and(|every| epoch.is_multiple_of(every as usize))
    }

    /// Saves the run, and notes an epoch if it is `whole`.
    fn note(&self, trainer: &Trainer, log: &mut Log, whole: bool) -> Result<()> {
        self.save(trainer)?;
        if whole { log.epoch(trainer.history()) } else { Ok(()) }
    }

    /// Saves the run as it is, and its best epoch beside it when that is the last one.
    fn save(&self, trainer: &Trainer) -> Result<()> {
        let settings = serde_json::to_value(&self.setting).unwrap_or_default();
        let checkpoint = trainer.checkpoint(settings)?;
        checkpoint.save(&self.out.join(LAST))?;
        let last = trainer.history().last().map(|row| row.epoch);
        let is_best = trainer.best().map(|row| row.epoch) == last && trainer.position().batch == 0;
        if is_best {
            checkpoint.save(&self.out.join(BEST))?;
        }
        Ok(())
    }

    fn stopped(&self, trainer: &Trainer) -> Error {
        let position = trainer.position();
        let (epoch, batch) = (position.epoch + 1, position.batch);
        Error::Stopped { epoch, batch, path: self.out.join(LAST) }
    }
}

fn summary(trainer: &Trainer) -> Result<Summary> {
    let best = trainer.best().ok_or(Error::NoEpoch)?;
    let history = trainer.history();
    let images: usize = history.iter().map(|row| row.train.images).sum();
    let seconds = history.last().map_or(0.0, |row| row.seconds);
    Ok(Summary {
        test_accuracy: best.test.accuracy(),
        train_accuracy: best.train.accuracy(),
        best_epoch: best.epoch,
        seconds,
        images_per_second: images as f64 / seconds.max(f64::MIN_POSITIVE),
    })
}

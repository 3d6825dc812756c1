//! Folders that hold trained networks, which no command replaces without being told.

use std::path::Path;

use aca_models::training::{Checkpoint, EpochRow};

use super::run::{BEST, LAST};
use crate::report::{Refusal, Result};
use crate::results::WAYS;

/// Refuses a folder that holds a run, finished or not, unless the user goes on with it or says to replace it.
///
/// # Errors
/// [`Refusal::Holds`], which says what is there and the ways on.
pub fn check_run(out: &Path, resume: Option<&Path>, overwrite: bool) -> Result<()> {
    let found = [LAST, BEST, "metrics.csv"].into_iter().find(|name| out.join(name).exists());
    let Some(name) = found.filter(|_| !overwrite && !resume.is_some_and(|file| lies_in(file, out)))
    else {
        return Ok(());
    };
    let last = out.join(LAST);
    let (what, remedy) = match Checkpoint::load(&out.join(name)) {
        Ok(checkpoint) if name == LAST => {
            (run(&checkpoint), format!("go on with it by --resume {}, {WAYS}", last.display()))
        }
        Ok(checkpoint) => (run(&checkpoint), WAYS.to_owned()),
        Err(_) => (format!("{name} of another run"), WAYS.to_owned()),
    };
    Err(Refusal::Holds { path: out.to_owned(), what, remedy }.into())
}

/// Refuses a folder that holds a comparison, finished or not, of which `parts` are folders.
///
/// # Errors
/// [`Refusal::Holds`].
pub fn check_comparison(
    out: &Path,
    mut parts: impl Iterator<Item = String>,
    overwrite: bool,
) -> Result<()> {
    let what = match parts.find(|part| out.join(part).exists()) {
        _ if overwrite => return Ok(()),
        _ if out.join("compare.csv").exists() => "a finished comparison".to_owned(),
        Some(part) => format!("an unfinished comparison, {part} of it"),
        None => return Ok(()),
    };
    Err(Refusal::Holds { path: out.to_owned(), what, remedy: WAYS.to_owned() }.into())
}

/// Whether the file lies in the folder, by whatever names.
fn lies_in(file: &Path, folder: &Path) -> bool {
    let folder = folder.canonicalize();
    file.canonicalize().is_ok_and(|file| folder.is_ok_and(|f| file.parent() == Some(f.as_path())))
}

/// What a checkpoint says of its run.
fn run(checkpoint: &Checkpoint) -> String {
    let about = &checkpoint.about;
    let (done, epochs) = (about.history.len(), about.plan.epochs);
    let kind = if done < epochs { "an unfinished run" } else { "a finished run" };
    let best = about.history.iter().map(|row: &EpochRow| row.test.accuracy()).fold(0.0, f64::max);
    format!(
        "{kind}, {} on {}: {done} of {epochs} epochs, test accuracy up to {:.2} %",
        about.network,
        about.data,
        100.0 * best
    )
}

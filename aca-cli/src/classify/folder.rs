//! Folders that hold trained networks, which no command replaces without being told.

use std::path::{Path, PathBuf};

use aca_models::training::{Checkpoint, EpochRow};

use super::run::{BEST, LAST};
use crate::args::TrainArgs;
use crate::report::{Refusal, Result};
use crate::results::WAYS;

/// Where a training reads its checkpoint and leaves its results.
pub struct Place {
    /// The checkpoint's file.
    pub resume: Option<PathBuf>,
    /// The folder of the results.
    pub out: PathBuf,
    /// Whether the user named that folder.
    is_named: bool,
}

impl Place {
    /// Where the user wants them: a run goes on in the folder of its checkpoint unless another one is named.
    pub fn of(args: &TrainArgs) -> Self {
        let resume = args.resume.as_deref().map(|path| file_of(path, LAST));
        let beside = resume.as_deref().and_then(Path::parent).map(Path::to_owned);
        let named = args.out.clone();
        let is_named = named.is_some();
        let out = named.or(beside).unwrap_or_else(|| PathBuf::from("runs/classify"));
        // The parent of a mere name is empty.
        let out = if out.as_os_str().is_empty() { PathBuf::from(".") } else { out };
        Self { resume, out, is_named }
    }

    /// Refuses a folder that holds a run, finished or not, unless the user goes on with it or says to replace it.
    ///
    /// # Errors
    /// [`Refusal::Holds`], which says what is there and the ways on.
    pub fn check(&self, overwrite: bool) -> Result<()> {
        let Self { resume, out, is_named } = self;
        let found = [LAST, BEST, "metrics.csv"].into_iter().find(|name| out.join(name).exists());
        let Some(name) = found.filter(|_| !overwrite) else { return Ok(()) };
        let holds = |what, remedy| Refusal::Holds { path: out.clone(), what, remedy };
        let goes_on = |checkpoint: &Checkpoint| {
            let done = checkpoint.about.history.len();
            let more = if done < checkpoint.about.plan.epochs {
                String::new()
            } else {
                format!(" --epochs {}", done + 1)
            };
            format!("go on with it by --resume {}{more}", out.display())
        };
        let loaded = Checkpoint::load(&out.join(name));
        let (what, remedy) = match (resume.as_deref().filter(|file| lies_in(file, out)), loaded) {
            (Some(file), Ok(last)) if !is_named && name == LAST && !file.ends_with(LAST) => {
                let what = format!("{LAST}, which going on from {} would replace", file.display());
                (
                    what,
                    format!(
                        "{}, name the folder by --out {}, {WAYS}",
                        goes_on(&last),
                        out.display()
                    ),
                )
            }
            (Some(_), _) => return Ok(()),
            (None, Ok(last)) if name == LAST => (run(&last), format!("{}, {WAYS}", goes_on(&last))),
            (None, Ok(checkpoint)) => (run(&checkpoint), WAYS.to_owned()),
            (None, Err(_)) => (format!("{name} of another run"), WAYS.to_owned()),
        };
        Err(holds(what, remedy).into())
    }
}

/// The file itself, or the one of that name in the folder.
pub fn file_of(path: &Path, name: &str) -> PathBuf {
    if path.is_dir() { path.join(name) } else { path.to_owned() }
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

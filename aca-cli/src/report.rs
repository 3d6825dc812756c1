//! What the program prints and the errors it ends with.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use aca_models::training::replace;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// Result with the program's [`Error`], unless another is named.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can end the program early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The library refused or failed.
    #[error(transparent)]
    Aca(#[from] aca_core::Error),
    /// A tensor operation failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// The model zoo refused or failed.
    #[error(transparent)]
    Models(#[from] aca_models::Error),
    /// A method was refused.
    #[error(transparent)]
    Tableau(#[from] aca_tableau::TableauError),
    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A method's file is not what such a file must be.
    #[error("{}, line {line}: {reason}", path.display())]
    MethodFile {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A coefficient of a method's file is no number.
    #[error("{}: {key} is \"{text}\"; {problem}", path.display())]
    Coefficient {
        /// The file.
        path: PathBuf,
        /// The coefficient's place in the file.
        key: String,
        /// What stands there.
        text: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A table could not be written.
    #[error("cannot write a table: {0}")]
    Csv(#[from] csv::Error),
    /// The polish could not be set up.
    #[error("cannot polish: {0}")]
    Polish(String),
    /// A method with fixed steps was given where tolerances decide.
    #[error(
        "{method} estimates no error, but this fit tightens its tolerance; take an adaptive method, such as dopri5"
    )]
    NotAdaptive {
        /// The method.
        method: String,
    },
    /// A tolerance was given for steps that follow none.
    #[error(
        "{method} takes fixed steps, which {option} does not change; leave it out, or take an adaptive method"
    )]
    FixedSteps {
        /// The option.
        option: &'static str,
        /// The method.
        method: String,
    },
    /// An option of another workload was given.
    #[error(
        "{option} belongs to the workload {workload}; leave it out, or give --workload {workload}"
    )]
    OtherWorkload {
        /// The option.
        option: &'static str,
        /// Whose it is.
        workload: &'static str,
    },
    /// A checkpoint has not all of a network.
    #[error(
        "{} lacks {missing} of the network's tensors, the first is {first}; give a checkpoint of NODE18",
        path.display()
    )]
    IncompleteCheckpoint {
        /// The file.
        path: PathBuf,
        /// Number of tensors that it lacks.
        missing: usize,
        /// The first of them.
        first: String,
    },
    /// No oscillator is that stiff.
    #[error("--mu-max is {mu}; give a finite number above 0")]
    Stiffness {
        /// The stiffness.
        mu: f64,
    },
    /// There is nothing to solve over.
    #[error("the span begins and ends at {t}; give another end by --t1, or another start by --t0")]
    EmptySpan {
        /// Both ends.
        t: f64,
    },
    /// Times of outputs cannot be told apart.
    #[error(
        "{points} points between {t0} and {t1} are closer than numbers can tell apart; give fewer by --points, or a longer span"
    )]
    PointsTooClose {
        /// Number of the times.
        points: u32,
        /// Start of the span.
        t0: f64,
        /// End of the span.
        t1: f64,
    },
    /// Training without an epoch leaves nothing to keep.
    #[error("training needs at least one epoch")]
    NoEpoch,
    /// CIFAR was asked for without its place.
    #[error("the binary files of CIFAR lie in a directory; name it with --data")]
    NoDataDirectory,
    /// A checkpoint was not written by this program.
    #[error("{} holds no settings of `aca classify train`: {reason}", path.display())]
    Settings {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong with them.
        reason: String,
    },
    /// The user stopped the training.
    #[error(
        "stopped in epoch {epoch} after {batch} batches; go on with --resume {}",
        path.display()
    )]
    Stopped {
        /// The epoch, from 1.
        epoch: usize,
        /// Whole batches of it.
        batch: usize,
        /// The checkpoint.
        path: PathBuf,
    },
    /// Many processes were asked for without the means.
    #[cfg(not(feature = "mpi"))]
    #[error(
        "this program was built without MPI, so --distributed is not possible; build it with --features mpi, which needs what scripts/mpi-setup.sh installs"
    )]
    NoMpi,
    /// Many GPUs were asked for without the means.
    #[cfg(feature = "mpi")]
    #[error(
        "this program was built without NCCL, so GPUs cannot add up their gradients; build it with --features nccl, or leave --device out"
    )]
    NoNccl,
    /// No fit of an ensemble succeeded.
    #[error("none of the {fits} fits succeeded; the first said: {reason}")]
    NoFit {
        /// How many there were.
        fits: usize,
        /// What the first one failed with.
        reason: String,
    },
    /// Ctrl-C cannot be listened to.
    #[error("cannot listen to Ctrl-C: {0}")]
    Interrupt(#[from] ctrlc::Error),
    /// The font of pictures could not be read.
    #[error("cannot read the font of pictures: {0}")]
    Font(#[from] ab_glyph::InvalidFont),
    /// A picture is no valid SVG.
    #[error("cannot turn a picture into pixels: {0}")]
    Svg(#[from] resvg::usvg::Error),
    /// A picture without width or height.
    #[error("a picture needs a width and a height")]
    EmptyPicture,
    /// A picture could not be written.
    #[error("cannot write {}: {reason}", path.display())]
    Picture {
        /// The picture's file.
        path: PathBuf,
        /// Why it failed.
        reason: String,
    },
}

impl Error {
    /// Carries over an error of the optimiser.
    pub fn polish(error: argmin::core::Error) -> Self {
        Self::Polish(error.to_string())
    }

    /// Names the picture that an encoder failed to write.
    pub fn picture(path: &Path, error: &impl std::error::Error) -> Self {
        Self::Picture { path: path.to_owned(), reason: error.to_string() }
    }

    /// Returns what turns an error of the operating system into one that names the file.
    pub fn file(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::File { action, path: path.to_owned(), source }
    }
}

/// Prints a line; a closed pipe is not an error.
pub fn line(text: &str) -> Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::file("write", Path::new("the standard output"))(error))
        }
        _ => Ok(()),
    }
}

/// Prints one line of JSON.
pub fn json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string(value).unwrap_or_default();
    line(&text)
}

/// Returns a progress bar to so many steps, drawn as indicatif's `template` says.
pub fn progress(steps: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::new(steps);
    let style = ProgressStyle::with_template(template);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// Writes a whole table anew, so that the file never holds half a line or a row twice.
pub fn table<T: Serialize>(path: &Path, rows: impl IntoIterator<Item = T>) -> Result<()> {
    let mut table = csv::Writer::from_writer(Vec::new());
    rows.into_iter().try_for_each(|row| table.serialize(row))?;
    let bytes = table.into_inner().map_err(|error| Error::Csv(error.into_error().into()))?;
    Ok(replace(path, &bytes)?)
}

/// The side of its column that a text keeps to.
#[derive(Clone, Copy)]
pub enum Side {
    /// The start of a line, for words.
    Left,
    /// The end, for numbers.
    Right,
}

/// Lines of cells in columns two blanks apart, each column on its side; rows may be of different
/// length.
pub fn aligned(rows: &[Vec<String>], side: impl Fn(usize) -> Side) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cells = |column: usize| rows.iter().filter_map(move |row| row.get(column));
    let width = |column| cells(column).map(String::len).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let padded = row.iter().zip(&widths).enumerate();
        let padded = padded.map(|(column, (cell, &width))| match side(column) {
            Side::Left => format!("{cell:<width$}"),
            Side::Right => format!("{cell:>width$}"),
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

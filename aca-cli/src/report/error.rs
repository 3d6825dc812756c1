//! What can end the program early.

use std::io;
use std::path::{Path, PathBuf};

use aca_tableau::TableauError;

use super::Refusal;

/// Result with the program's [`Error`], unless another is named.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can end the program early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the user asked for is not possible.
    #[error(transparent)]
    Refusal(#[from] Refusal),
    /// The library refused or failed.
    #[error(transparent)]
    Aca(aca_core::Error),
    /// A tensor operation failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// The model zoo refused or failed.
    #[error(transparent)]
    Models(aca_models::Error),
    /// A method or its file was refused.
    #[error(transparent)]
    Tableau(TableauError),
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
    /// A table could not be written.
    #[error("cannot write a table: {0}")]
    Csv(#[from] csv::Error),
    /// The polish could not be set up.
    #[error("cannot polish: {0}")]
    Polish(String),
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
    /// Training without an epoch leaves nothing to keep.
    #[error("training needs at least one epoch")]
    NoEpoch,
    /// A checkpoint was not written by this program.
    #[error("{} holds no settings of `aca classify train`: {reason}", path.display())]
    Settings {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong with them.
        reason: String,
    },
    /// A training left all numbers.
    #[error(
        "training diverged in epoch {epoch}, batch {batch}: {cause}; {before}; {lower}; {kept}"
    )]
    Diverged {
        /// The epoch, from 1.
        epoch: usize,
        /// The batch, from 1; the one after the last is the test.
        batch: usize,
        /// What was not finite.
        cause: String,
        /// The last finite loss.
        before: String,
        /// What helps.
        lower: String,
        /// The checkpoint that is kept.
        kept: String,
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

impl From<TableauError> for Error {
    fn from(error: TableauError) -> Self {
        match error {
            TableauError::UnknownName { name, nearest } => {
                Refusal::unknown_method(name, &nearest).into()
            }
            other => Self::Tableau(other),
        }
    }
}

impl From<aca_core::Error> for Error {
    fn from(error: aca_core::Error) -> Self {
        match error {
            aca_core::Error::Tableau(error) => error.into(),
            other => Self::Aca(other),
        }
    }
}

impl From<aca_models::Error> for Error {
    fn from(error: aca_models::Error) -> Self {
        match error {
            aca_models::Error::Ode(error) => error.into(),
            other => Self::Models(other),
        }
    }
}

//! What the program prints and the errors it ends with.

use std::io::Write;
use std::path::PathBuf;

use serde::Serialize;

/// Result with the program's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What can end the program early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The library refused or failed.
    #[error(transparent)]
    Aca(#[from] aca_core::Error),
    /// A tensor operation failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
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
        source: std::io::Error,
    },
}

impl From<aca_core::Error> for Box<Error> {
    fn from(error: aca_core::Error) -> Self {
        Box::new(error.into())
    }
}

/// Prints a line; a closed pipe is not an error.
pub fn line(text: &str) -> Result<()> {
    let _ = writeln!(std::io::stdout(), "{text}");
    Ok(())
}

/// Prints one line of JSON.
pub fn json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string(value).unwrap_or_default();
    line(&text)
}

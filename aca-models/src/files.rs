//! Files that are there whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Puts `bytes` in the place of the file at `path`, at once.
///
/// # Errors
/// [`Error::File`]; the old file is as it was then.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let partial = partial(path);
    let write = || {
        let mut file = File::create(&partial)?;
        file.write_all(bytes)?;
        // Renamed before its bytes are on the disk, it could be empty after a loss of power.
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    write().map_err(|error| {
        // What it left is of no use; that it cannot be removed either changes nothing.
        let _ = fs::remove_file(&partial);
        file_error("write", path)(error)
    })
}

/// The file's place while it is written: beside it, since a rename works within one file system.
fn partial(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    path.with_file_name(name)
}

/// Turns what the system says of a file into an error.
pub(crate) fn file_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::File { action, path: path.to_owned(), source }
}

//! From a checked archive to a directory, whole or not at all.

use std::{
    fs::{self, File},
    io::Read,
    path::{Component, Path},
};

use flate2::read::GzDecoder;
use tar::Entry;

use super::{DownloadError, failed};
use crate::Result;

/// Unpacks `folder` of the archive into `dir`.
///
/// The files grow in a directory beside it, which takes its name when all are there.
pub(super) fn unpack(archive: &Path, dir: &Path, folder: &str) -> Result<()> {
    let staging = dir.join(format!("{folder}.part"));
    if staging.is_dir() {
        fs::remove_dir_all(&staging).map_err(failed("remove", &staging))?;
    }
    fs::create_dir(&staging).map_err(failed("create", &staging))?;
    let moved = extract(archive, &staging, folder).and_then(|()| {
        let (from, to) = (staging.join(folder), dir.join(folder));
        fs::rename(&from, &to).map_err(failed("rename", &from))
    });
    let removed = fs::remove_dir_all(&staging).map_err(failed("remove", &staging));
    moved.and(removed)
}

fn extract(archive: &Path, staging: &Path, folder: &str) -> Result<()> {
    let file = File::open(archive).map_err(failed("read", archive))?;
    let mut tar = tar::Archive::new(GzDecoder::new(file));
    for entry in tar.entries().map_err(failed("unpack", archive))? {
        let mut entry = entry.map_err(failed("unpack", archive))?;
        let safe = is_safe(&entry, folder);
        // The crate leaves out what would lie elsewhere; a set with gaps must not pass for whole.
        if !safe || !entry.unpack_in(staging).map_err(failed("unpack", archive))? {
            let entry = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            return Err(DownloadError::UnsafeEntry { entry, folder: folder.to_owned() }.into());
        }
    }
    match staging.join(folder).is_dir() {
        true => Ok(()),
        false => Err(DownloadError::NoFolder { folder: folder.to_owned() }.into()),
    }
}

/// Whether an entry is a file or directory below `folder`.
fn is_safe<R: Read>(entry: &Entry<'_, R>, folder: &str) -> bool {
    let kind = entry.header().entry_type();
    let Ok(path) = entry.path() else {
        return false;
    };
    let mut parts = path.components().filter(|part| *part != Component::CurDir);
    (kind.is_file() || kind.is_dir())
        && parts.next() == Some(Component::Normal(folder.as_ref()))
        && parts.all(|part| matches!(part, Component::Normal(_)))
}

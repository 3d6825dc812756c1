//! Fetching data sets from their publisher.

mod error;
mod transfer;
mod unpack;

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use md5::{Digest, Md5};

pub use error::DownloadError;

use crate::{Error, Result};

/// A data set packed by its publisher as one directory in a `.tar.gz` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// Where it is published.
    pub url: String,
    /// Checksum that the publisher states, in lower case; MD5 finds damage, no forgery.
    pub md5: String,
    /// The directory that it unpacks to.
    pub folder: String,
}

impl Archive {
    /// The binary version of CIFAR-10.
    pub fn cifar10() -> Self {
        Self {
            url: "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz".to_owned(),
            md5: "c32a1d4ab5d03f1284b67883e8d87530".to_owned(),
            folder: super::CifarFormat::CIFAR10.folder.to_owned(),
        }
    }

    /// The binary version of CIFAR-100.
    pub fn cifar100() -> Self {
        Self {
            url: "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz".to_owned(),
            md5: "03b5dce01913d631647c71ecec9e9cb8".to_owned(),
            folder: super::CifarFormat::CIFAR100.folder.to_owned(),
        }
    }

    /// Brings the directory into `dir` and returns its path; nothing happens if it is there.
    ///
    /// The file grows as `NAME.part`. A call after an interrupted one asks the server for the rest only. The directory
    /// appears whole or not at all. `progress` is called with the number of bytes received and, if the server tells it,
    /// the size of the file. Two calls at once for one `dir` spoil each other's file, which the checksum finds.
    ///
    /// # Errors
    /// [`DownloadError`] when the transfer, the checksum or the archive is at fault, and
    /// [`Error::File`] when writing fails.
    ///
    /// # Cost
    /// For either CIFAR about 165 MB to fetch, and twice that on disk until the file is unpacked
    /// and removed.
    ///
    /// # Example
    /// ```no_run
    /// use aca_models::data::{Archive, DataSet};
    ///
    /// # fn main() -> aca_models::Result<()> {
    /// let folder = Archive::cifar10().fetch("data".as_ref(), &mut |_, _| ())?;
    /// assert_eq!(DataSet::cifar10(&folder)?.test.len(), 10_000);
    /// # Ok(())
    /// # }
    /// ```
    pub fn fetch(&self, dir: &Path, progress: &mut dyn FnMut(u64, Option<u64>)) -> Result<PathBuf> {
        let folder = dir.join(&self.folder);
        if folder.is_dir() {
            return Ok(folder);
        }
        let part = dir.join(format!("{}.part", self.file_name()?));
        fs::create_dir_all(dir).map_err(failed("create", dir))?;
        transfer::resume(&self.url, &part, progress)?;
        self.verify(&part)?;
        unpack::unpack(&part, dir, &self.folder)?;
        fs::remove_file(&part).map_err(failed("remove", &part))?;
        Ok(folder)
    }

    fn file_name(&self) -> Result<&str, DownloadError> {
        let path = self.url.split(['?', '#']).next().unwrap_or_default();
        match path.rsplit('/').next() {
            Some(name) if !matches!(name, "" | "." | "..") => Ok(name),
            _ => Err(DownloadError::NoFileName { url: self.url.clone() }),
        }
    }

    /// Removes a file with the wrong checksum: the next call would only add to it.
    fn verify(&self, part: &Path) -> Result<()> {
        let got = md5(part).map_err(failed("read", part))?;
        if got == self.md5 {
            return Ok(());
        }
        fs::remove_file(part).map_err(failed("remove", part))?;
        let (url, expected) = (self.url.clone(), self.md5.clone());
        Err(DownloadError::Checksum { url, got, expected }.into())
    }
}

fn md5(path: &Path) -> io::Result<String> {
    let mut file = BufReader::with_capacity(1 << 16, File::open(path)?);
    let mut hash = Md5::new();
    loop {
        let bytes = file.fill_buf()?;
        if bytes.is_empty() {
            return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
        }
        hash.update(bytes);
        let count = bytes.len();
        file.consume(count);
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { action, path, source }
}

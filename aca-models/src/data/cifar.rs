//! CIFAR-10 and CIFAR-100 from the binary files of their publisher.

use std::{
    fs::File,
    io::{BufReader, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{DataSet, Images, Recipe};
use crate::{Error, Result};

const PUBLISHER: &str = "https://www.cs.toronto.edu/~kriz/cifar.html";
const SHAPE: [usize; 3] = [3, 32, 32];
const PIXELS: usize = 3 * 32 * 32;

/// A file of images in the binary format of CIFAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CifarFile {
    /// Name of the file.
    pub name: &'static str,
    /// Images it holds.
    pub images: usize,
}

/// The files of a data set in the binary format of CIFAR: records of label bytes, the last of
/// which counts, and 3072 bytes of pixels.
///
/// The two official sets are constants; other sets in this format are a struct update away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CifarFormat {
    /// What the set is called.
    pub name: &'static str,
    /// Directory that the publisher's archive unpacks to.
    pub folder: &'static str,
    /// Files of images to learn from.
    pub train: &'static [CifarFile],
    /// File of images to judge by.
    pub test: CifarFile,
    /// Bytes of labels before each image.
    pub label_bytes: usize,
    /// Number of classes.
    pub classes: usize,
}

impl CifarFormat {
    /// CIFAR-10 as published.
    pub const CIFAR10: Self = Self {
        name: "CIFAR-10",
        folder: "cifar-10-batches-bin",
        train: &[
            CifarFile { name: "data_batch_1.bin", images: 10_000 },
            CifarFile { name: "data_batch_2.bin", images: 10_000 },
            CifarFile { name: "data_batch_3.bin", images: 10_000 },
            CifarFile { name: "data_batch_4.bin", images: 10_000 },
            CifarFile { name: "data_batch_5.bin", images: 10_000 },
        ],
        test: CifarFile { name: "test_batch.bin", images: 10_000 },
        label_bytes: 1,
        classes: 10,
    };

    /// CIFAR-100 as published, with its fine labels: the coarse one comes first in a record.
    pub const CIFAR100: Self = Self {
        name: "CIFAR-100",
        folder: "cifar-100-binary",
        train: &[CifarFile { name: "train.bin", images: 50_000 }],
        test: CifarFile { name: "test.bin", images: 10_000 },
        label_bytes: 2,
        classes: 100,
    };

    /// Reads the set from `dir`, or from the archive's folder in it.
    ///
    /// Sizes of files and ranges of labels are checked, so that a download cut short or another
    /// version of the data is refused.
    ///
    /// # Errors
    /// [`Error::NotADirectory`], [`Error::MissingFiles`] with all that are absent,
    /// [`Error::FileSize`], [`Error::Label`], and [`Error::File`] when reading fails.
    ///
    /// # Cost
    /// One pass over the files; 3073 bytes are kept an image.
    pub fn load(&self, dir: &Path) -> Result<DataSet> {
        let dir = self.place(dir)?;
        let train = Arc::new(self.read(&dir, self.train)?);
        let test = Arc::new(self.read(&dir, &[self.test])?);
        Ok(DataSet { name: self.name, train, test, recipe: recipe() })
    }

    /// The directory that holds all files.
    fn place(&self, dir: &Path) -> Result<PathBuf> {
        if !dir.is_dir() {
            return Err(Error::NotADirectory { path: dir.to_owned(), name: self.name });
        }
        let inner = dir.join(self.folder);
        let directory = if inner.is_dir() { inner } else { dir.to_owned() };
        let names = self.train.iter().chain([&self.test]).map(|file| file.name);
        let files: Vec<_> = names.filter(|name| !directory.join(name).is_file()).collect();
        match files.is_empty() {
            true => Ok(directory),
            false => {
                Err(Error::MissingFiles { directory, files, name: self.name, publisher: PUBLISHER })
            }
        }
    }

    fn read(&self, dir: &Path, files: &[CifarFile]) -> Result<Images> {
        let images = files.iter().map(|file| file.images).sum::<usize>();
        let mut pixels = Vec::with_capacity(images * PIXELS);
        let mut labels = Vec::with_capacity(images);
        let mut record = vec![0; self.label_bytes + PIXELS];
        for file in files {
            let path = dir.join(file.name);
            let mut reader = self.open(&path, file.images * record.len())?;
            for image in 0..file.images {
                reader.read_exact(&mut record).map_err(|source| unreadable(&path, source))?;
                let (label, bytes) = record.split_at(self.label_bytes);
                labels.push(self.label(label, image, &path)?);
                pixels.extend_from_slice(bytes);
            }
        }
        Images::new(pixels, labels, SHAPE, self.classes)
    }

    fn open(&self, path: &Path, bytes: usize) -> Result<BufReader<File>> {
        let file = File::open(path).map_err(|source| unreadable(path, source))?;
        let got = file.metadata().map_err(|source| unreadable(path, source))?.len();
        if got == bytes as u64 {
            return Ok(BufReader::with_capacity(1 << 16, file));
        }
        Err(Error::FileSize { path: path.to_owned(), got, expected: bytes as u64, name: self.name })
    }

    fn label(&self, bytes: &[u8], image: usize, path: &Path) -> Result<u8> {
        let label = bytes.last().copied().unwrap_or_default();
        if usize::from(label) < self.classes {
            return Ok(label);
        }
        let from = path.display().to_string();
        Err(Error::Label { image, from, label, last: self.classes.saturating_sub(1) })
    }
}

impl DataSet {
    /// CIFAR-10 from the binary version of its publisher, in `dir` or in `cifar-10-batches-bin`
    /// there.
    ///
    /// The recipe is torch-ACA's: crops with 4 pixels of padding, flips, and its constants.
    ///
    /// # Errors
    /// As [`CifarFormat::load`].
    ///
    /// # Source
    /// A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009;
    /// <https://www.cs.toronto.edu/~kriz/cifar.html>.
    ///
    /// # Example
    /// ```no_run
    /// # fn main() -> aca_models::Result<()> {
    /// let cifar = aca_models::data::DataSet::cifar10("data".as_ref())?;
    /// assert_eq!(cifar.train.len(), 50_000);
    /// # Ok(())
    /// # }
    /// ```
    pub fn cifar10(dir: &Path) -> Result<Self> {
        CifarFormat::CIFAR10.load(dir)
    }

    /// CIFAR-100 with its fine labels from the binary version of its publisher, in `dir` or in
    /// `cifar-100-binary` there.
    ///
    /// The recipe is that of [`DataSet::cifar10`]: torch-ACA names one set of constants.
    ///
    /// # Errors
    /// As [`CifarFormat::load`].
    pub fn cifar100(dir: &Path) -> Result<Self> {
        CifarFormat::CIFAR100.load(dir)
    }
}

/// Constants of torch-ACA's `cifar_classification/train.py`.
fn recipe() -> Recipe {
    Recipe {
        scale: 1.0 / 255.0,
        mean: vec![0.4914, 0.4822, 0.4465],
        std: vec![0.2023, 0.1994, 0.2010],
        crop_padding: 4,
        flip: true,
    }
}

fn unreadable(path: &Path, source: std::io::Error) -> Error {
    Error::File { action: "read", path: path.to_owned(), source }
}

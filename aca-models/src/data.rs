//! Images to classify: data sets, and batches of them prepared on a background thread.
//!
//! | data set | images | where they come from |
//! |---|---|---|
//! | [`DataSet::digits`] | 1437 + 360 of 1 x 8 x 8, 10 classes | inside this crate |
//! | [`DataSet::cifar10`] | 50000 + 10000 of 3 x 32 x 32, 10 classes | a directory |
//! | [`DataSet::cifar100`] | the same, 100 classes | a directory |
//!
//! The feature `download` adds `Archive`, which fetches the directory from its publisher.
//!
//! Everything random follows from the seed: the order of an epoch from (seed, epoch), the crop and
//! the flip of an image from (seed, epoch, position of the image). So a run repeats bit for bit,
//! and one that resumes at some epoch sees the batches that it would have seen.
//!
//! ```
//! use aca_models::data::{BatchPlan, Batches, DataSet};
//!
//! # fn main() -> aca_models::Result<()> {
//! let digits = DataSet::digits()?;
//! let plan = BatchPlan::training(128, 7);
//! for batch in Batches::new(digits.train.clone(), &digits.recipe, &plan, 0)? {
//!     let batch = batch?;
//!     assert_eq!(batch.images.dims()[1..], [1, 8, 8]);
//! }
//! # Ok(())
//! # }
//! ```

mod augment;
mod batches;
mod cifar;
mod digits;
#[cfg(feature = "download")]
mod download;
mod images;
mod stream;

use std::sync::Arc;

pub use batches::{Batch, BatchPlan, Batches};
pub use cifar::{CifarFile, CifarFormat};
#[cfg(feature = "download")]
pub use download::{Archive, DownloadError};
pub use images::Images;

/// Training images, test images, and how bytes become a network's input.
#[derive(Clone, Debug)]
pub struct DataSet {
    /// What the set is called.
    pub name: &'static str,
    /// Images to learn from.
    pub train: Arc<Images>,
    /// Images that training never sees.
    pub test: Arc<Images>,
    /// How bytes become numbers, and how training images are augmented.
    pub recipe: Recipe,
}

/// How the bytes of an image become numbers: `(scale * byte - mean) / std` by channel, after a
/// random crop and flip where a [`BatchPlan`] augments.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// Factor that brings bytes to the range 0 to 1.
    pub scale: f32,
    /// Mean of each channel, after scaling.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel, after scaling.
    pub std: Vec<f32>,
    /// Black pixels added on each side before a crop of the original size; 0 for no crop.
    pub crop_padding: usize,
    /// Whether left and right are swapped in half of the images.
    pub flip: bool,
}

//! The crate's error type.

use std::{io, path::PathBuf};

/// Everything that can go wrong with data; each message states the fact with its values, then the
/// remedy where one is known.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor operation failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// A solve or its gradient failed.
    #[error(transparent)]
    Ode(#[from] aca_core::Error),
    /// A run of many processes cannot go on.
    #[error(transparent)]
    Ranks(#[from] crate::communicator::RanksError),
    /// A data set could not be fetched.
    #[cfg(feature = "download")]
    #[error(transparent)]
    Download(#[from] crate::data::DownloadError),

    /// A file or directory could not be used.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried, a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The path of the data is no directory.
    #[error("{} is not a directory; give the one that holds {name}", path.display())]
    NotADirectory {
        /// The path given.
        path: PathBuf,
        /// The data set.
        name: &'static str,
    },
    /// Files of a data set are absent.
    #[error(
        "{} lacks {} of {name}; its binary version is published at {publisher}",
        directory.display(),
        files.join(", ")
    )]
    MissingFiles {
        /// Where they were looked for.
        directory: PathBuf,
        /// All that are absent.
        files: Vec<&'static str>,
        /// The data set.
        name: &'static str,
        /// Page that offers them.
        publisher: &'static str,
    },
    /// A file of a data set is too short or too long.
    #[error(
        "{} has {got} bytes, but {expected} in the binary version of {name}; unpack or fetch it again",
        path.display()
    )]
    FileSize {
        /// The file.
        path: PathBuf,
        /// Its size.
        got: u64,
        /// The size it should have.
        expected: u64,
        /// The data set.
        name: &'static str,
    },
    /// A line of the embedded digits is not 64 grey values and a digit.
    #[error("line {line} of the embedded digits is not {expected} numbers below 256")]
    Row {
        /// Number of the line, from 1.
        line: usize,
        /// Numbers in a whole line.
        expected: usize,
    },

    /// The bytes of a set of images do not fit its labels and shape.
    #[error("{pixels} bytes are not {labels} images of shape {shape:?}")]
    PixelCount {
        /// Bytes given.
        pixels: usize,
        /// Labels given.
        labels: usize,
        /// Channels, height and width.
        shape: [usize; 3],
    },
    /// A label names no class.
    #[error("image {image} of {from} has label {label}, but the classes are 0 to {last}")]
    Label {
        /// Position of the image.
        image: usize,
        /// File or collection that holds it.
        from: String,
        /// The label.
        label: u8,
        /// The last class.
        last: usize,
    },

    /// A batch without images was asked for.
    #[error("batches of 0 images are not possible; give at least 1")]
    EmptyBatch,
    /// There are fewer images than one batch takes.
    #[error(
        "a batch of {batch_size} images is larger than the {images} images; lower the batch size"
    )]
    BatchTooLarge {
        /// Images in a batch.
        batch_size: usize,
        /// Images in this shard of the data.
        images: usize,
    },
    /// The number of the shard is not below the number of shards.
    #[error("there is no shard {rank} of {ranks}; ranks count from 0")]
    Shard {
        /// The shard asked for.
        rank: usize,
        /// Their number.
        ranks: usize,
    },
    /// The recipe does not fit the images' channels.
    #[error("the recipe has {means} means and {stds} deviations for {channels} channels")]
    RecipeChannels {
        /// Entries of `mean`.
        means: usize,
        /// Entries of `std`.
        stds: usize,
        /// Channels of the images.
        channels: usize,
    },
    /// A number of the recipe cannot be used.
    #[error("{name} = {value} is not allowed in a recipe; it must be {range}")]
    RecipeNumber {
        /// Name of the recipe's field.
        name: &'static str,
        /// The offending value.
        value: f32,
        /// The values that are allowed, in words.
        range: &'static str,
    },
    /// A number of a training plan cannot be used.
    #[error("a {name} of {} is not allowed; it must be {range}", aca_core::Number(*value))]
    PlanNumber {
        /// What the number is.
        name: &'static str,
        /// The offending value.
        value: f64,
        /// The values that are allowed, in words.
        range: &'static str,
    },
    /// The data have more classes than the network.
    #[error("the images have {data} classes, but the network tells {network} apart")]
    Classes {
        /// Classes of the images.
        data: usize,
        /// Classes of the network.
        network: usize,
    },
    /// The training diverged.
    #[error(
        "the loss is not finite in batch {batch} of epoch {epoch}; lower the learning rate or the tolerances"
    )]
    LossNotFinite {
        /// The epoch, from 1.
        epoch: usize,
        /// The batch, from 1.
        batch: usize,
    },
    /// A file is no checkpoint of a training run.
    #[error("{} is no checkpoint that can be read: {reason}", path.display())]
    NoCheckpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A checkpoint belongs to another network.
    #[error("the checkpoint holds the network {found}, not {expected}; give the network it holds")]
    OtherNetwork {
        /// The checkpoint's network.
        found: String,
        /// The network to be restored.
        expected: &'static str,
    },
    /// A checkpoint belongs to other images.
    #[error(
        "the checkpoint was trained on {found}, not on {expected}; give the data it was trained on"
    )]
    OtherData {
        /// The checkpoint's data.
        found: String,
        /// The data at hand.
        expected: &'static str,
    },
    /// A checkpoint lacks tensors, or has them in other shapes.
    #[error(
        "the checkpoint does not fit the network: {} of its tensors are missing or of another shape, such as {}",
        names.len(),
        names.first().map_or("", String::as_str)
    )]
    Tensors {
        /// Their names.
        names: Vec<String>,
    },
    /// An epoch cannot go on with other batches than it began with.
    #[error(
        "the checkpoint is inside epoch {epoch}, begun with batches of {batch_size} and seed {seed}; go on with these, counted over all processes, to its end"
    )]
    MidEpoch {
        /// The epoch, from 1.
        epoch: usize,
        /// Images in its batches, over all processes.
        batch_size: u64,
        /// Its seed.
        seed: u64,
    },
    /// A checkpoint of PyTorch cannot be read.
    #[error(
        "{} is no checkpoint that can be read: {reason}; {remedy}",
        path.display()
    )]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        reason: String,
        /// What helps.
        remedy: &'static str,
    },
    /// A checkpoint of PyTorch has no tensors where tensors are looked for.
    #[error(
        "{} holds no tensors; save the state dict, alone or under the key state_dict",
        path.display()
    )]
    EmptyCheckpoint {
        /// The file.
        path: PathBuf,
    },
    /// A checkpoint belongs to something else.
    #[error(
        "none of the {tensors} tensors in {} belongs to the network, the first is {first}; choose the network that it was saved from",
        path.display()
    )]
    ForeignCheckpoint {
        /// The file.
        path: PathBuf,
        /// Number of its tensors.
        tensors: usize,
        /// Name of the first.
        first: String,
    },
    /// A tensor of a checkpoint has another shape than the network's.
    #[error(
        "{name} has shape {got:?} in the checkpoint, but {expected:?} in the network; choose the network and the classes that it was saved with"
    )]
    CheckpointShape {
        /// Name in the file.
        name: String,
        /// Shape in the file.
        got: Vec<usize>,
        /// Shape in the network.
        expected: Vec<usize>,
    },
    /// Batch norms cannot wait for each other in solves of different lengths.
    #[error(
        "{method} adapts its steps to each rank's images, but batch norms with the statistics of all ranks need the same steps on each; give a fixed step or leave the statistics to each rank"
    )]
    StepsOfRanks {
        /// The method.
        method: String,
    },
    /// The last step of an epoch has no image for some rank.
    #[error(
        "{images} images in steps of {step} leave {left} for the last step of {ranks} ranks, but batch norms with the statistics of all ranks need images on each; give another batch size"
    )]
    EmptyRank {
        /// Images of an epoch.
        images: usize,
        /// Images that all ranks take at a time.
        step: usize,
        /// Images of the last step.
        left: usize,
        /// Number of ranks.
        ranks: usize,
    },
    /// A batch of the epoch has only one image, so batch norms see one number per channel.
    #[error(
        "{images} images in batches of {batch_size} leave one image alone in a batch, so batch norms of {network} see one number per channel, and that has no variance; give another batch size"
    )]
    LoneImage {
        /// Images of an epoch, or a rank's share of them.
        images: usize,
        /// Images in a batch.
        batch_size: usize,
        /// The network.
        network: &'static str,
    },
    /// The system gave no thread to prepare batches on.
    #[error("cannot start the thread that prepares batches: {0}")]
    Thread(#[source] io::Error),
}

/// Result with the crate's [`Error`], unless another is named.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<Error> for candle_core::Error {
    /// Lets data be read with `?` among tensor operations; the message stays whole.
    fn from(error: Error) -> Self {
        match error {
            Error::Candle(inner) => inner,
            Error::Ode(inner) => inner.into(),
            other => candle_core::Error::wrap(other),
        }
    }
}

/// The message: a `main` that returns an error prints it by `Debug`.
impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

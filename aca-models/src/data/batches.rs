//! Batches of images, prepared on a background thread.

use std::{
    panic::resume_unwind,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{Builder, JoinHandle},
};

use candle_core::{DType, Device, Tensor};

use super::{
    Images, Recipe,
    augment::Augment,
    stream::{Purpose, Stream},
};
use crate::{Error, Result};

/// Batches that wait for the training loop: enough to hide an uneven step, few enough to be small.
const AHEAD: usize = 3;

/// How the images of an epoch become batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchPlan {
    /// Images in a batch of this shard.
    pub batch_size: usize,
    /// Seed of order and augmentation, together with the epoch.
    pub seed: u64,
    /// Whether each epoch is shuffled anew.
    pub shuffle: bool,
    /// Whether images are cropped and flipped as the recipe says.
    pub augment: bool,
    /// Whether a last batch that is not full is left out.
    pub drop_last: bool,
    /// Which of how many equal shares of every epoch: (rank, ranks).
    ///
    /// A shard takes every `ranks`-th image of the epoch's order, so that the batches number `k`
    /// of all shards are together batch `k` of one run with batches `ranks` times as large. No
    /// image is left out or doubled: shards differ by up to one image.
    pub shard: (usize, usize),
}

impl BatchPlan {
    /// Shuffled and augmented batches of all images.
    pub fn training(batch_size: usize, seed: u64) -> Self {
        let (drop_last, shard) = (false, (0, 1));
        Self { batch_size, seed, shuffle: true, augment: true, drop_last, shard }
    }

    /// Batches of all images in their order, as they are.
    pub fn evaluation(batch_size: usize) -> Self {
        Self { shuffle: false, augment: false, ..Self::training(batch_size, 0) }
    }
}

/// Images and labels, on the CPU where [`Batches`] gives them.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Pixels of shape `[images, channels, height, width]`, f32.
    pub images: Tensor,
    /// Classes of shape `[images]`, u32.
    pub labels: Tensor,
    /// Number of the batch in this shard's epoch, from 0.
    pub index: usize,
}

impl Batch {
    /// The same images and labels on `device`, the images of type `dtype`.
    pub fn to(&self, device: &Device, dtype: DType) -> Result<Self> {
        let images = self.images.to_device(device)?.to_dtype(dtype)?;
        Ok(Self { images, labels: self.labels.to_device(device)?, index: self.index })
    }
}

/// The batches of one epoch, prepared up to three ahead on a background thread.
///
/// Dropping the iterator early ends the thread after the batch that it works on.
///
/// # Cost
/// A batch of 128 CIFAR images takes the thread about 0.2 ms.
#[derive(Debug)]
pub struct Batches {
    batches: Option<Receiver<Result<Batch>>>,
    worker: Option<JoinHandle<()>>,
    left: usize,
}

impl Batches {
    /// Starts to prepare the batches of `epoch`.
    ///
    /// # Errors
    /// [`Error::EmptyBatch`], [`Error::BatchTooLarge`] when the shard has no full batch,
    /// [`Error::Shard`], [`Error::RecipeChannels`] and [`Error::RecipeNumber`] for a recipe that
    /// does not fit, [`Error::Thread`].
    ///
    /// # Example
    /// ```
    /// use aca_models::data::{BatchPlan, Batches, DataSet};
    ///
    /// # fn main() -> aca_models::Result<()> {
    /// let digits = DataSet::digits()?;
    /// let plan = BatchPlan::evaluation(100);
    /// let batches = Batches::new(digits.test, &digits.recipe, &plan, 0)?;
    /// assert_eq!(batches.len(), 4);
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(images: Arc<Images>, recipe: &Recipe, plan: &BatchPlan, epoch: u64) -> Result<Self> {
        let order = order(images.len(), plan, epoch)?;
        let augment =
            Augment::new(recipe, images.shape(), plan.augment.then_some((plan.seed, epoch)))?;
        let left = order.len().div_ceil(plan.batch_size);
        let work = Work { images, augment, order, batch_size: plan.batch_size };
        let (sender, batches) = sync_channel(AHEAD);
        let thread = Builder::new().name("batches".to_owned());
        let worker = thread.spawn(move || work.send_all(&sender)).map_err(Error::Thread)?;
        Ok(Self { batches: Some(batches), worker: Some(worker), left })
    }

    /// Ends the thread: without a receiver its next batch finds no taker.
    fn stop(&mut self) -> std::thread::Result<()> {
        self.batches = None;
        self.left = 0;
        self.worker.take().map_or(Ok(()), JoinHandle::join)
    }
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        if let Some(batch) = self.batches.as_ref().and_then(|batches| batches.recv().ok()) {
            self.left -= 1;
            return Some(batch);
        }
        // The thread ends early by a panic only; swallowed, it would look like a shorter epoch.
        if let Err(panic) = self.stop() {
            resume_unwind(panic);
        }
        None
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Batches {}

impl Drop for Batches {
    fn drop(&mut self) {
        // A panic of the thread was reported by `next`, or concerns batches nobody wants.
        let _ = self.stop();
    }
}

/// Positions of this shard's images in the order of the epoch.
fn order(images: usize, plan: &BatchPlan, epoch: u64) -> Result<Vec<usize>> {
    let (rank, ranks) = plan.shard;
    if rank >= ranks {
        return Err(Error::Shard { rank, ranks });
    }
    if plan.batch_size == 0 {
        return Err(Error::EmptyBatch);
    }
    let mut order: Vec<_> = (0..images).collect();
    if plan.shuffle {
        Stream::new(Purpose::Order, plan.seed, epoch, 0).shuffle(&mut order);
    }
    let mut order: Vec<_> = order.into_iter().skip(rank).step_by(ranks).collect();
    if plan.batch_size > order.len() {
        return Err(Error::BatchTooLarge { batch_size: plan.batch_size, images: order.len() });
    }
    if plan.drop_last {
        order.truncate(order.len() / plan.batch_size * plan.batch_size);
    }
    Ok(order)
}

/// What the thread needs to prepare the batches of one epoch.
struct Work {
    images: Arc<Images>,
    augment: Augment,
    order: Vec<usize>,
    batch_size: usize,
}

impl Work {
    fn send_all(&self, sender: &SyncSender<Result<Batch>>) {
        for (index, positions) in self.order.chunks(self.batch_size).enumerate() {
            if sender.send(self.batch(index, positions)).is_err() {
                return;
            }
        }
    }

    fn batch(&self, index: usize, positions: &[usize]) -> Result<Batch> {
        let [channels, height, width] = self.images.shape();
        let mut pixels = Vec::with_capacity(positions.len() * channels * height * width);
        positions.iter().for_each(|i| self.augment.render(&self.images, *i, &mut pixels));
        let labels = positions.iter().map(|i| u32::from(self.images.labels()[*i])).collect();
        let shape = (positions.len(), channels, height, width);
        let images = Tensor::from_vec(pixels, shape, &Device::Cpu)?;
        Ok(Batch {
            images,
            labels: Tensor::from_vec(labels, positions.len(), &Device::Cpu)?,
            index,
        })
    }
}

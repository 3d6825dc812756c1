//! The numbers of a training run.

use serde::{Deserialize, Serialize};

use crate::optimizers::Schedule;
use crate::{Error, Result};

/// Everything that decides a training run, apart from network and data.
///
/// # Source
/// [`TrainPlan::cifar`] is the recipe of the reference implementation of ACA.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainPlan {
    /// Passes over the training images.
    pub epochs: usize,
    /// Images in a batch.
    pub batch_size: usize,
    /// Learning rate before the schedule acts on it.
    pub lr: f64,
    /// How the learning rate changes.
    pub schedule: Schedule,
    /// Momentum: the fraction of the last update that the next one keeps.
    pub momentum: f64,
    /// Weight decay: this factor times the parameters is added to their gradients.
    pub weight_decay: f64,
    /// Seed of the order and the augmentation of images.
    pub seed: u64,
    /// Whether many ranks multiply the learning rate by their number, as their steps take that many
    /// times the images (Goyal et al., 2017).
    #[serde(default)]
    pub scale_lr: bool,
    /// Whether batch norms use the images of all ranks in place of each rank's own.
    #[serde(default)]
    pub sync_batch_norm: bool,
}

impl TrainPlan {
    /// 90 epochs of 128 images; learning rate 0.1, 0.01 after epoch 30 and 0.001 after 60.
    pub fn cifar() -> Self {
        Self {
            epochs: 90,
            batch_size: 128,
            lr: 0.1,
            schedule: Schedule::Steps(vec![(30, 0.1), (60, 0.1)]),
            momentum: 0.9,
            weight_decay: 5e-4,
            seed: 0,
            scale_lr: false,
            sync_batch_norm: false,
        }
    }

    /// The small network on the digits.
    pub fn digits() -> Self {
        let schedule = Schedule::Cosine { warmup: 0.2 };
        Self { epochs: 12, batch_size: 32, lr: 0.1, schedule, ..Self::cifar() }
    }

    /// Learning rate of a batch of an epoch that has `batches`.
    pub fn lr_at(&self, epoch: usize, batch: usize, batches: usize) -> f64 {
        self.schedule.learning_rate(self.lr, epoch * batches + batch, batches, self.epochs)
    }

    /// Refuses numbers that cannot train.
    pub(super) fn check(&self) -> Result<()> {
        let positive = "a finite number above 0";
        let finite = |x: f64| x.is_finite() && x >= 0.0;
        let refuse = |name, value, range| Err(Error::PlanNumber { name, value, range });
        if !(finite(self.lr) && self.lr > 0.0) {
            return refuse("learning rate", self.lr, positive);
        }
        if !(finite(self.momentum) && self.momentum < 1.0) {
            return refuse("momentum", self.momentum, "at least 0 and below 1");
        }
        if !finite(self.weight_decay) {
            return refuse("weight decay", self.weight_decay, "a finite number, at least 0");
        }
        if self.epochs == 0 {
            return refuse("number of epochs", 0.0, "at least 1");
        }
        match &self.schedule {
            Schedule::Cosine { warmup } if !(0.0..1.0).contains(warmup) => {
                refuse("share of the warm-up", *warmup, "at least 0 and below 1")
            }
            Schedule::Steps(steps) => {
                match steps.iter().find(|step| !(finite(step.1) && step.1 > 0.0)) {
                    Some(&(_, factor)) => refuse("factor of the learning rate", factor, positive),
                    None => Ok(()),
                }
            }
            Schedule::Constant | Schedule::Cosine { .. } => Ok(()),
        }
    }
}

//! What ranks do between and in the steps of an epoch; one process is the only rank.

use aca_adjoint::GradientCheck;
use candle_core::{DType, Tensor, Var};

use super::{BatchReport, Trainer};
use crate::{
    Error, Result,
    communicator::{Fingerprint, same},
    data::{Batch, BatchPlan, Batches},
    networks::{Mode, Network},
    training::{
        Position, Tally,
        evaluate::{evaluate_shard, tally},
        ranks::{self, Learned},
    },
};

/// Images that are judged at a time after an epoch: many fill the processor, few fit its caches.
const JUDGED_AT_ONCE: usize = 128;

impl Trainer {
    /// Batches of an epoch; those of rank 0, whose shard is never smaller than another.
    pub(super) fn batches(&self) -> usize {
        let images = self.data.train.len();
        images.div_ceil(self.communicator.size()).div_ceil(self.plan.batch_size)
    }

    /// This rank's images of the epoch.
    pub(super) fn shard(&self) -> Result<Batches> {
        let shard = (self.communicator.rank(), self.communicator.size());
        let plan = BatchPlan::training(self.plan.batch_size, self.plan.seed);
        let (images, epoch) = (self.data.train.clone(), self.position.epoch as u64);
        Batches::new(images, &self.data.recipe, &BatchPlan { shard, ..plan }, epoch)
    }

    /// Judges the network by the test images, each on one of the ranks.
    pub(super) fn judge(&self) -> Result<Tally> {
        let (communicator, images) = (&*self.communicator, &self.data.test);
        let shard = (communicator.rank(), communicator.size());
        let own = evaluate_shard(&self.network, images, &self.data.recipe, JUDGED_AT_ONCE, shard);
        let own = own.map(|verdict| Learned { sums: verdict.sums, ..Learned::default() });
        Ok(ranks::share(communicator, &[], own)?.sums)
    }

    /// Refuses to go on when this rank's parameters or place are not those of rank 0.
    pub(super) fn compare(&self) -> Result<()> {
        if self.communicator.size() == 1 {
            return Ok(());
        }
        let Position { epoch, batch, .. } = self.position;
        let mut fingerprint = Fingerprint::of(format!("{epoch} {batch}").as_bytes());
        let momentum = self.sgd.momentum_buffers();
        for (_, var) in self.network.parameters().into_iter().chain(momentum) {
            fingerprint.add_tensor(&var)?;
        }
        same(&*self.communicator, &format!("parameters in epoch {}", epoch + 1), fingerprint)
    }

    /// Takes one step of the optimiser; a rank may have no image left for it.
    pub(super) fn learn(
        &mut self,
        batch: Result<Option<Batch>>,
        batches: usize,
    ) -> Result<BatchReport> {
        let Position { epoch, batch: index, .. } = self.position;
        let mut own = batch.and_then(|batch| match batch {
            Some(batch) => self.differentiate(&batch),
            None => Ok(Learned::default()),
        });
        if self.plan.sync_batch_norm {
            // The others are in the middle of the batch and hear nothing but statistics.
            own = Ok(own?);
        }
        let vars: Vec<_> = self.network.parameters().into_iter().map(|(_, var)| var).collect();
        let Learned { gradients, sums: own } = ranks::share(&*self.communicator, &vars, own)?;
        let lr = self.lr(index, batches);
        self.sgd.lr = lr;
        self.sgd.step(&gradients)?;
        self.position.batch += 1;
        self.position.tally.add(&own);
        let so_far = self.position.tally.clone();
        Ok(BatchReport { epoch, batch: index, batches, lr, own, so_far })
    }

    /// Learning rate of a batch of the epoch.
    pub(super) fn lr(&self, batch: usize, batches: usize) -> f64 {
        let factor = if self.plan.scale_lr { self.communicator.size() as f64 } else { 1.0 };
        factor * self.plan.lr_at(self.position.epoch, batch, batches)
    }

    /// This rank's part of the gradient of the mean loss over the images of all ranks.
    fn differentiate(&self, batch: &Batch) -> Result<Learned> {
        let Position { epoch, batch: index, .. } = self.position;
        let Batch { images, labels, .. } = batch.to(self.network.device(), self.network.dtype())?;
        self.network.reset_evaluations();
        let logits = self.network.forward(&images, Mode::Train)?;
        let loss = candle_nn::loss::cross_entropy(&logits, &labels)?;
        // The loss is weighted, not the gradients: that is a number, they are millions.
        let gradients = match self.weight(labels.elem_count()) {
            1.0 => loss.backward()?,
            weight => (&loss * weight)?.backward()?,
        };
        let sums = tally(&self.network, &logits, &loss, &labels)?;
        if sums.loss.is_finite() {
            Ok(Learned { gradients, sums })
        } else {
            Err(Error::LossNotFinite { epoch: epoch + 1, batch: index + 1 })
        }
    }

    /// Finds the gradient of the first batch of the epoch twice, as the network solves and at a tenth of its tolerance (or
    /// half its step), and returns how the two differ; `None` without images. Nothing is learned, and running statistics
    /// stay as they are.
    ///
    /// # Errors
    /// As [`Trainer::epoch`], of this process alone.
    pub fn check_gradient(&mut self) -> Result<Option<GradientCheck>> {
        let Some(batch) = self.shard()?.next().transpose()? else { return Ok(None) };
        let statistics = self.network.statistics();
        let before = statistics.iter().map(|(_, var)| var.copy());
        let before = before.collect::<candle_core::Result<Vec<_>>>()?;
        let vars: Vec<Var> = self.network.parameters().into_iter().map(|(_, var)| var).collect();
        let gradient = |network: &Network| -> Result<(f64, Vec<Tensor>)> {
            let Batch { images, labels, .. } = batch.to(network.device(), network.dtype())?;
            let logits = network.forward(&images, Mode::Train)?;
            let loss = candle_nn::loss::cross_entropy(&logits, &labels)?;
            let grads = loss.backward()?;
            let of = |var: &Var| grads.get(var).map_or_else(|| var.zeros_like(), |g| Ok(g.clone()));
            let gradient = vars.iter().map(of).collect::<candle_core::Result<_>>()?;
            Ok((loss.to_dtype(DType::F64)?.to_scalar()?, gradient))
        };
        let plain = gradient(&self.network);
        let tighter = self.network.tightened(gradient);
        for ((_, var), value) in statistics.iter().zip(&before) {
            var.set(value)?;
        }
        let ((loss, plain), (tighter_loss, tighter)) = (plain?, tighter?);
        Ok(Some(GradientCheck::between((loss, &plain), (tighter_loss, &tighter))?))
    }

    /// Share of this rank's `images` in those of all ranks at this step.
    fn weight(&self, images: usize) -> f64 {
        let step = self.plan.batch_size * self.communicator.size();
        let left = self.data.train.len() - self.position.batch * step;
        images as f64 / left.min(step) as f64
    }
}

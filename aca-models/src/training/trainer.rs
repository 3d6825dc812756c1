//! The training loop.

use std::{ops::ControlFlow, time::Instant};

use candle_core::Var;
use serde_json::Value;

use super::{
    About, Checkpoint, EpochRow, Position, Tally, TrainPlan, evaluate,
    evaluate::tally,
    restore::{keyed, network_vars, restore},
};
use crate::{
    Error, Result,
    data::{Batch, BatchPlan, Batches, DataSet},
    networks::{Mode, Network},
    sgd::Sgd,
};

/// Images that are judged at a time after an epoch: many fill the processor, few fit its caches.
const JUDGED_AT_ONCE: usize = 128;

/// A network that learns.
pub struct Trainer {
    network: Network,
    sgd: Sgd,
    data: DataSet,
    plan: TrainPlan,
    position: Position,
    history: Vec<EpochRow>,
}

/// What a batch gave, told while an epoch goes on.
#[derive(Clone, Debug)]
pub struct BatchReport {
    /// Number of the epoch, from 0.
    pub epoch: usize,
    /// Number of the batch, from 0.
    pub batch: usize,
    /// Batches of the epoch.
    pub batches: usize,
    /// Learning rate it was learned with.
    pub lr: f64,
    /// Sums of this batch.
    pub own: Tally,
    /// Sums of the epoch up to here.
    pub so_far: Tally,
}

impl Trainer {
    /// Begins a run.
    ///
    /// # Errors
    /// [`Error::PlanNumber`]; [`Error::EmptyBatch`] and [`Error::BatchTooLarge`];
    /// [`Error::Classes`] when the data have more classes than the network.
    pub fn new(network: Network, data: DataSet, plan: TrainPlan) -> Result<Self> {
        plan.check()?;
        check_batch(plan.batch_size, data.train.len())?;
        if data.train.classes() > network.classes() {
            let (data, network) = (data.train.classes(), network.classes());
            return Err(Error::Classes { data, network });
        }
        let sgd = Sgd::new(network.parameters(), plan.lr, plan.momentum, plan.weight_decay)?;
        let (position, history) = Default::default();
        Ok(Self { network, sgd, data, plan, position, history })
    }

    /// The network as it is now.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Whole epochs so far.
    pub fn history(&self) -> &[EpochRow] {
        &self.history
    }

    /// What the run does.
    pub fn plan(&self) -> &TrainPlan {
        &self.plan
    }

    /// The next batch to learn from.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// The epoch with the highest test accuracy, the earliest of equals.
    pub fn best(&self) -> Option<&EpochRow> {
        let better = |best: Option<&'_ EpochRow>, row: &EpochRow| {
            best.is_none_or(|best| row.test.accuracy() > best.test.accuracy())
        };
        self.history.iter().fold(None, |best, row| if better(best, row) { Some(row) } else { best })
    }

    /// Learns the rest of the epoch, and judges the network by the test images.
    ///
    /// `watch` hears of every batch after it was learned. When it breaks, the epoch stops there and
    /// `None` comes back, as it does after the last epoch; the next call goes on with the next
    /// batch.
    ///
    /// # Errors
    /// [`Error::LossNotFinite`], and what the network's fields and solver refuse. The parameters
    /// are those after the last whole batch.
    pub fn epoch(
        &mut self,
        watch: &mut dyn FnMut(&BatchReport) -> ControlFlow<()>,
    ) -> Result<Option<EpochRow>> {
        if self.position.epoch >= self.plan.epochs {
            return Ok(None);
        }
        let (start, before) = (Instant::now(), self.position.seconds);
        let plan = BatchPlan::training(self.plan.batch_size, self.plan.seed);
        let images = self.data.train.clone();
        let epoch = self.position.epoch;
        let batches = Batches::new(images, &self.data.recipe, &plan, epoch as u64)?;
        let count = batches.len();
        for batch in batches.skip(self.position.batch) {
            let report = self.learn(&batch?, count)?;
            self.position.seconds = before + start.elapsed().as_secs_f64();
            if watch(&report).is_break() {
                return Ok(None);
            }
        }
        let (images, recipe) = (&self.data.test, &self.data.recipe);
        let test = evaluate(&self.network, images, recipe, JUDGED_AT_ONCE)?.sums;
        let seconds = before + start.elapsed().as_secs_f64();
        let train = std::mem::take(&mut self.position.tally);
        let lr = self.plan.lr_at(epoch, count - 1, count);
        let row = EpochRow { epoch: epoch + 1, lr, train, test, seconds };
        self.position = Position { epoch: epoch + 1, seconds, ..Position::default() };
        self.history.push(row.clone());
        Ok(Some(row))
    }

    /// Takes one step of the optimiser.
    fn learn(&mut self, batch: &Batch, batches: usize) -> Result<BatchReport> {
        let Position { epoch, batch: index, .. } = self.position;
        let Batch { images, labels, .. } = batch;
        self.network.reset_evaluations();
        let logits = self.network.forward(images, Mode::Train)?;
        let loss = candle_nn::loss::cross_entropy(&logits, labels)?;
        let gradients = loss.backward()?;
        let own = tally(&self.network, &logits, &loss, labels)?;
        if !own.loss.is_finite() {
            return Err(Error::LossNotFinite { epoch: epoch + 1, batch: index + 1 });
        }
        let lr = self.plan.lr_at(epoch, index, batches);
        self.sgd.lr = lr;
        self.sgd.step(&gradients)?;
        self.position.batch += 1;
        self.position.tally.add(&own);
        let so_far = self.position.tally.clone();
        Ok(BatchReport { epoch, batch: index, batches, lr, own, so_far })
    }

    /// Everything that the run needs to go on, with `settings` of the program beside.
    ///
    /// # Errors
    /// Those of copying tensors.
    pub fn checkpoint(&self, settings: Value) -> Result<Checkpoint> {
        let names = [self.network.name().as_str(), self.data.name];
        let mut about = About::new(names, self.plan.clone(), settings);
        about.position = self.position.clone();
        about.history = self.history.clone();
        let vars = self.vars();
        // Copies, since the variables change where they lie when training goes on.
        let tensors = vars.into_iter().map(|(name, var)| Ok((name, var.copy()?)));
        Ok(Checkpoint { about, tensors: tensors.collect::<Result<_>>()? })
    }

    /// All variables by their names in checkpoints.
    fn vars(&self) -> Vec<(String, Var)> {
        let mut vars = network_vars(&self.network);
        vars.extend(keyed("momentum", self.sgd.momentum_buffers()));
        vars
    }

    /// Goes on where `checkpoint` stands.
    ///
    /// The plan stays the trainer's own, so that a run may be made longer.
    ///
    /// # Errors
    /// [`Error::OtherNetwork`], [`Error::OtherData`], [`Error::Tensors`] when the checkpoint
    /// belongs to something else, [`Error::MidEpoch`] when its epoch was begun with other batches; the
    /// trainer is as it was then.
    pub fn resume(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let About { data, position, history, .. } = &checkpoint.about;
        if data != self.data.name {
            let (found, expected) = (data.clone(), self.data.name);
            return Err(Error::OtherData { found, expected });
        }
        let kept = [self.plan.batch_size as u64, self.plan.seed];
        let saved = [checkpoint.about.plan.batch_size as u64, checkpoint.about.plan.seed];
        if position.batch > 0 && kept != saved {
            let (epoch, [batch_size, seed]) = (position.epoch + 1, saved);
            return Err(Error::MidEpoch { epoch, batch_size, seed });
        }
        restore(self.network.name(), self.vars(), checkpoint)?;
        self.position = position.clone();
        self.history = history.clone();
        Ok(())
    }
}

fn check_batch(batch_size: usize, images: usize) -> Result<()> {
    match batch_size {
        0 => Err(Error::EmptyBatch),
        size if size > images => Err(Error::BatchTooLarge { batch_size, images }),
        _ => Ok(()),
    }
}

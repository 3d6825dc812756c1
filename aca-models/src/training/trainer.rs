//! The training loop.

use std::{ops::ControlFlow, sync::Arc, time::Instant};

use candle_core::Var;
use serde_json::Value;

use super::{
    About, Checkpoint, EpochRow, Position, Tally, TrainPlan, ranks,
    restore::{keyed, network_vars, restore},
};
use crate::{
    Error, Result,
    communicator::{Alone, Communicator, together},
    data::DataSet,
    networks::Network,
    optimizers::Sgd,
};

mod step;

/// A training of a network, in one process or in many.
pub struct Trainer {
    communicator: Arc<dyn Communicator>,
    network: Network,
    sgd: Sgd,
    data: DataSet,
    plan: TrainPlan,
    position: Position,
    history: Vec<EpochRow>,
}

/// Report of one batch during an epoch.
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
        let communicator = Arc::new(Alone);
        Ok(Self { communicator, network, sgd, data, plan, position, history })
    }

    /// Joins the ranks of `communicator`, which all call this with the same network, plan and data.
    ///
    /// Every rank learns its share of each epoch in batches of [`TrainPlan::batch_size`]: a step
    /// follows the mean loss over that many images times the number of ranks. Parameters start as
    /// those of rank 0. Batch norms use the statistics of a rank's own images, unless
    /// [`TrainPlan::sync_batch_norm`] says otherwise; the running ones become their means over the ranks
    /// at the end of an epoch. Ranks share the test images too.
    ///
    /// # Errors
    /// [`RanksError::Differs`](crate::communicator::RanksError::Differs) when network, plan or data are not
    /// those of rank 0; [`RanksError::Failed`](crate::communicator::RanksError::Failed) when there are
    /// fewer images than a step takes, and with shared statistics of batch norms when an ODE block
    /// adapts its steps or the last step has no image for some rank; [`Error::LoneImage`].
    pub fn distributed(mut self, communicator: Arc<dyn Communicator>) -> Result<Self> {
        ranks::same_start(&*communicator, &self.network, &self.plan, &self.data)?;
        together(&*communicator, self.suits(&communicator))?;
        ranks::broadcast(&*communicator, &self.vars())?;
        self.communicator = communicator;
        Ok(self)
    }

    /// Refuses ranks that cannot share the work.
    fn suits(&self, communicator: &Arc<dyn Communicator>) -> Result<()> {
        let ranks = communicator.size();
        check_batch(self.plan.batch_size * ranks, self.data.train.len())?;
        ranks::check_smallest_batch(ranks, &self.plan, &self.data, &self.network)?;
        if self.plan.sync_batch_norm {
            ranks::check_last_step(ranks, &self.plan, &self.data)?;
            self.network.synchronise(communicator.clone())?;
        }
        Ok(())
    }

    /// The ranks that it learns with.
    pub fn communicator(&self) -> &Arc<dyn Communicator> {
        &self.communicator
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

    /// Trains the rest of the epoch, and evaluates the network on the test images.
    ///
    /// `watch` is called after each batch. If it returns `Break`, the epoch stops there and the result is `None`, as it
    /// is after the last epoch; the next call goes on with the next batch.
    ///
    /// If one rank breaks, all ranks stop.
    ///
    /// # Errors
    /// [`Error::LoneImage`] before anything is learned; [`Error::LossNotFinite`], and what the network's
    /// fields and solver refuse. The parameters are those after the last whole batch. Among ranks what one of them refuses is
    /// [`RanksError::Failed`](crate::communicator::RanksError::Failed) on all, and parameters that
    /// are not the same are [`RanksError::Differs`](crate::communicator::RanksError::Differs). With
    /// shared statistics of batch norms, what one rank refuses in a batch is its error alone, and the
    /// others must be ended.
    pub fn epoch(
        &mut self,
        watch: &mut dyn FnMut(&BatchReport) -> ControlFlow<()>,
    ) -> Result<Option<EpochRow>> {
        if self.position.epoch >= self.plan.epochs {
            return Ok(None);
        }
        let ranks = self.communicator.size();
        ranks::check_smallest_batch(ranks, &self.plan, &self.data, &self.network)?;
        self.compare()?;
        let (start, before) = (Instant::now(), self.position.seconds);
        let (epoch, count) = (self.position.epoch, self.batches());
        let batches = together(&*self.communicator, self.shard())?;
        let mut batches = batches.skip(self.position.batch);
        while self.position.batch < count {
            let report = self.learn(batches.next().transpose(), count)?;
            self.position.seconds = before + start.elapsed().as_secs_f64();
            if ranks::any(&*self.communicator, watch(&report).is_break())? {
                ranks::average(&*self.communicator, &self.network.statistics())?;
                return Ok(None);
            }
        }
        ranks::average(&*self.communicator, &self.network.statistics())?;
        self.compare()?;
        let test = self.judge()?;
        let seconds = before + start.elapsed().as_secs_f64();
        let train = std::mem::take(&mut self.position.tally);
        let lr = self.lr(count - 1, count);
        let row = EpochRow { epoch: epoch + 1, lr, train, test, seconds };
        self.position = Position { epoch: epoch + 1, seconds, ..Position::default() };
        self.history.push(row.clone());
        Ok(Some(row))
    }

    /// Everything that is needed to resume the run, with `settings` of the program.
    ///
    /// # Errors
    /// Those of copying tensors.
    pub fn checkpoint(&self, settings: Value) -> Result<Checkpoint> {
        let names = [self.network.name().as_str(), self.data.name];
        let mut about = About::new(names, self.plan.clone(), settings);
        about.ranks = self.communicator.size();
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

    /// Resumes from `checkpoint`.
    ///
    /// The plan stays the trainer's own, so that a run may be made longer. The number of ranks may
    /// be another; within an epoch their batches must be as large together as they were.
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
        let order = |plan: &TrainPlan, ranks| [(plan.batch_size * ranks) as u64, plan.seed];
        let kept = order(&self.plan, self.communicator.size());
        let saved = order(&checkpoint.about.plan, checkpoint.about.ranks);
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

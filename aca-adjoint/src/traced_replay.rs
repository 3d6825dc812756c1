//! The steps that samples took on their own, traced anew: rejected trials leave no graph.

use std::sync::Arc;

use aca_core::{Evaluator, Result, Stepper, TensorStages, large_stack};
use candle_core::{Tensor, Var};

use crate::checkpoints::Checkpoints;
use crate::naive::{TracedTurn, TracedTurns};
use crate::states::States;

/// What a traced replay goes along.
pub(crate) struct TracedReplay<'a> {
    pub(crate) method: &'a Stepper,
    pub(crate) field: Evaluator<'a>,
    pub(crate) checkpoints: &'a Checkpoints,
    /// Number of steps to trace of each sample.
    pub(crate) steps: &'a [usize],
    pub(crate) nodes_per_step: usize,
}

impl TracedReplay<'_> {
    /// Steps from `y0` along the solve's own steps, as part of candle's graph.
    pub(crate) fn trace(&self, y0: &Var) -> Result<TracedTurns> {
        let mut turns = TracedTurns::default();
        let (mut samples, mut y): (Arc<[usize]>, _) =
            ((0..self.steps.len()).collect(), y0.as_tensor().clone());
        for turn in 0..self.steps.iter().copied().max().unwrap_or(0) {
            large_stack::check_walk(turn + 1, self.nodes_per_step)?;
            (samples, y) = self.gather(turn, samples, y)?;
            let traced = self.turn(turn, samples.clone(), y)?;
            y = traced.y1.clone();
            turns.0.push(traced);
        }
        Ok(turns)
    }

    /// Leaves samples without steps to go out of the rows, where the field allows it and it pays.
    fn gather(
        &self,
        turn: usize,
        samples: Arc<[usize]>,
        y: Tensor,
    ) -> Result<(Arc<[usize]>, Tensor)> {
        let under_way = |row: &usize| turn < self.steps[samples[*row]];
        let rows: Vec<usize> = (0..samples.len()).filter(under_way).collect();
        let pays = self.checkpoints.pay_to_gather(rows.len(), &samples);
        if !pays || !self.field.supports_row_subset() {
            return Ok((samples, y));
        }
        let index: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
        let y = y.index_select(&Tensor::new(index, y.device())?, 0)?;
        Ok((rows.iter().map(|&row| samples[row]).collect(), y))
    }

    fn turn(&self, turn: usize, samples: Arc<[usize]>, y: Tensor) -> Result<TracedTurn> {
        let step = |&sample: &usize| Some(turn).filter(|&turn| turn < self.steps[sample]);
        let wanted: Vec<Option<usize>> = samples.iter().map(step).collect();
        let mut states = States::new(self.checkpoints, y.clone())?;
        let (steps, start) =
            states.restore(&samples, &wanted, (std::slice::from_ref(self.method), &self.field))?;
        let y0 = match wanted.iter().all(Option::is_some) {
            true => y,
            false => rested(&y, &wanted, &start.y)?,
        };
        let (y1, k) = {
            let start = (&steps, &y0);
            let mut stages = TensorStages::new(self.method, &self.field, start, Vec::new());
            stages.fill(self.method.stages())?;
            (stages.end()?, stages.k)
        };
        Ok(TracedTurn { steps, samples, wanted, y0, y1, k })
    }
}

/// The states `y` of rows with a step to go, and `rest` of the others, which no gradient leaves.
fn rested(y: &Tensor, steps: &[Option<usize>], rest: &Tensor) -> Result<Tensor> {
    let goes = steps.iter().map(|step| u8::from(step.is_some()));
    let mut shape = vec![1; y.rank()];
    shape[0] = steps.len();
    let goes = Tensor::from_iter(goes, y.device())?.reshape(shape)?.broadcast_as(y.shape())?;
    Ok(goes.where_cond(y, rest)?)
}

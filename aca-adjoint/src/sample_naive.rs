//! Candle's own graph through every accepted step of samples that step on their own.

use std::sync::Arc;

use aca_core::kernels::{self, Terms};
use aca_core::{Evaluator, Result, Stepper, Steps, TensorStages, large_stack};
use aca_dense::Placement;
use candle_core::{Tensor, Var};

use crate::Backward;
use crate::checkpoints::Checkpoints;
use crate::naive::differentiate;
use crate::outputs::{Outputs, StepOutputs};
use crate::states::States;
use crate::{Gradients, Params};

/// A traced solve; its backward is candle's.
///
/// # Cost
/// Memory: all graphs of all steps. The steps are searched for first and traced after, so that
/// rejected ones leave no graph; no evaluation of the field in backward.
pub(crate) struct SampleNaive {
    pub(crate) params: Params,
    pub(crate) y0: Var,
    /// All outputs, as part of the graph.
    outputs: Tensor,
    /// What they hang on: held so that it is dropped after them, in its own order.
    _steps: Kept,
    nodes: usize,
}

/// The tensors of every turn, oldest first.
struct Kept(Vec<Vec<Tensor>>);

impl Drop for Kept {
    /// Drops the newest first, so that no drop recurses through more than one step.
    fn drop(&mut self) {
        while self.0.pop().is_some() {}
    }
}

/// What a traced solve goes along.
pub(crate) struct TracedReplay<'a> {
    pub(crate) method: &'a Stepper,
    pub(crate) field: Evaluator<'a>,
    pub(crate) checkpoints: &'a Checkpoints,
    pub(crate) outputs: &'a Outputs<'a>,
    /// Samples without a gradient, because they failed.
    pub(crate) failed: &'a [bool],
    pub(crate) nodes_per_step: usize,
}

/// The rows of one turn.
struct BatchStep {
    steps: Steps,
    samples: Arc<[usize]>,
    /// The step that each row takes, if it does not rest.
    wanted: Vec<Option<usize>>,
    y: Tensor,
}

impl TracedReplay<'_> {
    /// Steps from `y0` along the course, as part of candle's graph.
    pub(crate) fn trace(&self, y0: Var, params: Params) -> Result<SampleNaive> {
        let zero = y0.as_tensor().detach().narrow(0, 0, 1)?.zeros_like()?.squeeze(0)?;
        let mut outputs = vec![zero; self.outputs.len()];
        let batch = self.failed.len();
        for sample in (0..batch).filter(|&sample| self.steps(sample) == 0 && !self.failed[sample]) {
            for index in self.outputs.of_sample(sample) {
                outputs[index] = y0.get(sample)?;
            }
        }
        let longest = (0..batch).map(|sample| self.steps(sample)).max().unwrap_or(0);
        let mut kept = Kept(Vec::new());
        let (mut samples, mut y): (Arc<[usize]>, _) =
            ((0..batch).collect(), y0.as_tensor().clone());
        for turn in 0..longest {
            large_stack::check_walk(turn + 1, self.nodes_per_step)?;
            (samples, y) = self.gather(turn, samples, y)?;
            let turn = self.turn(turn, samples.clone(), y)?;
            let start = (&turn.steps, &turn.y);
            let mut stages = TensorStages::new(self.method, &self.field, start, Vec::new());
            stages.fill(self.method.stages())?;
            let y1 = stages.end()?;
            let k = self.place(&turn, stages, &y1, &mut outputs)?;
            kept.0.push(k.into_iter().chain([turn.y]).collect());
            y = y1;
        }
        let nodes = (longest + 1) * self.nodes_per_step + 64 * outputs.len();
        Ok(SampleNaive { params, y0, outputs: Tensor::stack(&outputs, 0)?, _steps: kept, nodes })
    }

    fn steps(&self, sample: usize) -> usize {
        match self.failed[sample] {
            true => 0,
            false => self.checkpoints.steps(sample),
        }
    }

    /// Leaves samples without steps to go out of the rows, where the field allows it and it pays.
    fn gather(
        &self,
        turn: usize,
        samples: Arc<[usize]>,
        y: Tensor,
    ) -> Result<(Arc<[usize]>, Tensor)> {
        let under_way = |row: &usize| turn < self.steps(samples[*row]);
        let rows: Vec<usize> = (0..samples.len()).filter(under_way).collect();
        let pays = self.checkpoints.pay_to_gather(rows.len(), &samples);
        if !pays || !self.field.supports_row_subset() {
            return Ok((samples, y));
        }
        let index: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
        let y = y.index_select(&Tensor::new(index, y.device())?, 0)?;
        Ok((rows.iter().map(|&row| samples[row]).collect(), y))
    }

    fn turn(&self, turn: usize, samples: Arc<[usize]>, y: Tensor) -> Result<BatchStep> {
        let step = |&sample: &usize| Some(turn).filter(|&turn| turn < self.steps(sample));
        let wanted: Vec<Option<usize>> = samples.iter().map(step).collect();
        let mut states = States::new(self.checkpoints, y.clone())?;
        let (steps, starts) = states.restore(&samples, &wanted, (self.method, &self.field))?;
        let y = match wanted.iter().all(Option::is_some) {
            true => y,
            false => rested(&y, &wanted, &starts)?,
        };
        Ok(BatchStep { steps, samples, wanted, y })
    }

    /// Puts the outputs of one turn where they belong among all; returns all slopes.
    fn place<'s>(
        &'s self,
        turn: &'s BatchStep,
        stages: TensorStages<'s>,
        y1: &Tensor,
        outputs: &mut [Tensor],
    ) -> Result<Vec<Tensor>> {
        let mut own = StepOutputs::default();
        for (row, (&sample, step)) in turn.samples.iter().zip(&turn.wanted).enumerate() {
            if let Some(step) = *step {
                self.outputs.add_step(&mut own, row, sample, step);
            }
        }
        for (ends, y) in [(&own.starts, &turn.y), (&own.ends, y1)] {
            for output in ends {
                outputs[output.index] = y.get(output.row)?;
            }
        }
        if own.inside.is_empty() {
            return Ok(stages.k);
        }
        let inside = |row: usize| own.inside.iter().any(|output| output.row == row);
        let looked_into = turn.steps.resting_unless(inside);
        let start = (&looked_into, &turn.y);
        let mut stages = TensorStages::new(self.method, &self.field, start, stages.k);
        stages.fill(self.method.interpolant().stages())?;
        for output in &own.inside {
            let (row, h) = (output.row, turn.steps.h()[output.row]);
            let weights = self.method.interpolant().weights(output.s).into_iter();
            let slopes = stages.k.iter().map(|k| Ok(k.get(row)?)).collect::<Result<Vec<_>>>()?;
            let terms: Terms<'_> = weights.map(|w| h * w).zip(&slopes).collect();
            outputs[output.index] = kernels::combine(Some(&turn.y.get(row)?), &terms)?;
        }
        Ok(stages.k)
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

impl Backward for SampleNaive {
    fn pullback(
        &self,
        _placements: &[Placement],
        cotangents: &Tensor,
        _want_times: bool,
    ) -> Result<Gradients> {
        differentiate(&self.outputs, cotangents, &self.y0, &self.params, self.nodes)
    }
}

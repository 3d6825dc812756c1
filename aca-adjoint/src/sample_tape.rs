//! Checkpoints of samples with clocks of their own.

use std::sync::Arc;

use aca_core::{Result, RowSteps, SampleSink, SampleSteps, kernels};
use candle_core::Tensor;

/// An accepted step of one sample: its times, and where its start lies among the kept states.
#[derive(Clone, Copy, Debug)]
pub struct SampleCheckpoint {
    /// Where the step starts.
    pub t0: f64,
    /// Where it ends.
    pub t1: f64,
    turn: usize,
    row: usize,
}

/// The sink that keeps the start of every accepted step of every sample: as many states as all samples
/// took steps, whatever the longest took.
#[derive(Clone, Debug, Default)]
pub struct SampleCheckpoints {
    turns: Vec<Tensor>,
    samples: Vec<Vec<SampleCheckpoint>>,
}

impl SampleCheckpoints {
    /// Prepares for `batch` samples.
    pub fn new(batch: usize) -> Self {
        Self { turns: Vec::new(), samples: vec![Vec::new(); batch] }
    }

    /// The steps of each sample.
    pub fn samples(&self) -> &[Vec<SampleCheckpoint>] {
        &self.samples
    }

    /// The steps of rows that hold `samples`, and where their starts lie: each row's own step of that number, or
    /// its rest.
    pub(crate) fn rows(
        &self,
        samples: &Arc<[usize]>,
        steps: impl Iterator<Item = Option<usize>>,
    ) -> (RowSteps, Vec<(&Tensor, usize)>) {
        let (mut t0, mut t1, mut starts) = (Vec::new(), Vec::new(), Vec::new());
        for (&sample, step) in samples.iter().zip(steps) {
            let own = step.map(|step| &self.samples[sample][step]);
            let Some(at) = own.or_else(|| self.rest(sample)) else { continue };
            t0.push(at.t0);
            t1.push(if step.is_some() { at.t1 } else { at.t0 });
            starts.push((&self.turns[at.turn], at.row));
        }
        (RowSteps::new(samples.clone(), t0.into(), t1.into()), starts)
    }

    /// Where a row rests whose sample has no step to go: at the start of the sample's own first step, where the
    /// field was finite; samples without steps rest at that of another. `None` without any steps.
    fn rest(&self, sample: usize) -> Option<&SampleCheckpoint> {
        let own = self.samples[sample].first();
        own.or_else(|| self.samples.iter().find_map(|steps| steps.first()))
    }

    /// Whether it pays to leave rows out of `samples`, of which `under_way` have steps to go. One without any
    /// steps of its own has no place to rest, and always leaves.
    pub(crate) fn pay_to_gather(&self, under_way: usize, samples: &[usize]) -> bool {
        under_way < samples.len()
            && (RowSteps::pays_to_gather(under_way, samples.len())
                || samples.iter().any(|&sample| self.samples[sample].is_empty()))
    }
}

impl SampleSink for SampleCheckpoints {
    fn accept(&mut self, steps: &mut SampleSteps<'_>) -> Result<()> {
        let all = steps.accepted.len() == steps.y0.dims()[0];
        let turn = self.turns.len();
        for (position, step) in steps.accepted.iter().enumerate() {
            let row = if all { step.row } else { position };
            self.samples[step.sample].push(SampleCheckpoint {
                t0: step.t0,
                t1: step.t1,
                turn,
                row,
            });
        }
        self.turns.push(match all {
            true => steps.y0.clone(),
            false => {
                let rows = steps.accepted.iter().map(|step| (steps.y0, step.row));
                kernels::gather_rows(&rows.collect::<Vec<_>>())?
            }
        });
        Ok(())
    }
}

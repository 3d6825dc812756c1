//! How the outputs of samples lie in one tensor.

use aca_core::{Error, Result};
use candle_core::Tensor;

use crate::Ragged;

/// How the outputs of a solve lie in the rows of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum Layout {
    /// `[times, ..state]`: outputs of a state that steps as a whole, with their number.
    Whole(usize),
    /// `[times, batch, ..state]`: all samples have outputs at the same times.
    Alike {
        /// Outputs of each sample.
        times: usize,
        /// Samples.
        batch: usize,
    },
    /// `[outputs, ..state]`: the outputs of one sample after those of the other, with the number of each sample.
    Ragged(Vec<usize>),
}

impl Layout {
    /// Number of samples; a whole state is one.
    pub fn samples(&self) -> usize {
        match self {
            Self::Whole(_) => 1,
            Self::Alike { batch, .. } => *batch,
            Self::Ragged(counts) => counts.len(),
        }
    }

    /// Number of a sample's outputs.
    pub fn count(&self, sample: usize) -> usize {
        match self {
            Self::Whole(times) | Self::Alike { times, .. } => *times,
            Self::Ragged(counts) => counts[sample],
        }
    }

    /// Number of the outputs of all samples.
    pub fn len(&self) -> usize {
        match self {
            Self::Whole(times) => *times,
            Self::Alike { times, batch } => times * batch,
            Self::Ragged(counts) => counts.iter().sum(),
        }
    }

    /// Whether there is no output.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows in which the outputs of a sample lie.
    pub fn rows(&self, sample: usize) -> impl Iterator<Item = usize> + use<> {
        let (start, stride) = match self {
            Self::Whole(_) => (0, 1),
            Self::Alike { batch, .. } => (sample, *batch),
            Self::Ragged(counts) => (counts[..sample].iter().sum(), 1),
        };
        (0..self.count(sample)).map(move |m| start + m * stride)
    }

    /// The dimensions before those of a state.
    pub fn dims(&self) -> Vec<usize> {
        match self {
            Self::Alike { times, batch } => vec![*times, *batch],
            _ => vec![self.len()],
        }
    }

    /// The outputs of one sample among `ys`, `[its times, ..state]`.
    ///
    /// # Errors
    /// [`Error::SampleCount`] beyond the batch.
    pub fn sample(&self, ys: &Tensor, sample: usize) -> Result<Tensor> {
        self.check_sample(sample)?;
        Ok(match self {
            Self::Whole(_) => ys.clone(),
            Self::Alike { .. } => ys.narrow(1, sample, 1)?.squeeze(1)?,
            Self::Ragged(counts) => ys.narrow(0, counts[..sample].iter().sum(), counts[sample])?,
        })
    }

    /// The outputs `ys` of all samples as a list for each.
    pub fn each(&self, ys: &Tensor) -> Result<Ragged> {
        let counts = (0..self.samples()).map(|sample| self.count(sample)).collect();
        let flat = match self {
            Self::Alike { .. } => ys.transpose(0, 1)?.contiguous()?.flatten(0, 1)?,
            _ => ys.clone(),
        };
        Ragged::new(flat, counts)
    }

    pub(crate) fn check_sample(&self, sample: usize) -> Result<()> {
        let expected = self.samples();
        match sample < expected {
            true => Ok(()),
            false => Err(Error::SampleCount { what: "samples", got: sample + 1, expected }),
        }
    }
}

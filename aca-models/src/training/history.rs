//! Counts and history of a training run.

use serde::{Deserialize, Serialize};

/// Sums over the images of the batches so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Sum of the images' losses.
    #[serde(with = "number")]
    pub loss: f64,
    /// Images whose class was found.
    pub correct: usize,
    /// Images seen.
    pub images: usize,
    /// Batches seen.
    pub batches: usize,
    /// Evaluations of fields while solving.
    pub nfe_forward: usize,
    /// Evaluations of fields for gradients.
    pub nfe_backward: usize,
    /// Accepted steps.
    pub accepted: usize,
    /// Rejected steps.
    pub rejected: usize,
    /// Sum of the sizes of accepted steps.
    pub length: f64,
    /// Size of the smallest accepted step; 0 without steps.
    pub h_smallest: f64,
    /// Size of the largest accepted step; 0 without steps.
    pub h_largest: f64,
}

impl Tally {
    /// Mean loss of an image.
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.images.max(1) as f64
    }

    /// Share of the images whose class was found.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.images.max(1) as f64
    }

    /// Mean size of an accepted step; 0 where nothing was solved.
    pub fn mean_step(&self) -> f64 {
        if self.accepted == 0 { 0.0 } else { self.length / self.accepted as f64 }
    }

    /// Evaluations of fields a batch, forward and backward.
    pub fn nfe_a_batch(&self) -> [f64; 2] {
        let batches = self.batches.max(1) as f64;
        [self.nfe_forward as f64 / batches, self.nfe_backward as f64 / batches]
    }

    /// Its sums, without the smallest and the largest step.
    pub(super) fn sums(&self) -> [f64; 9] {
        let Self { correct, images, batches, nfe_forward, nfe_backward, .. } = *self;
        let counts =
            [correct, images, batches, nfe_forward, nfe_backward, self.accepted, self.rejected];
        let [a, b, c, d, e, f, g] = counts.map(|count| count as f64);
        [self.loss, self.length, a, b, c, d, e, f, g]
    }

    /// The tally of these sums, with the smallest and the largest of some steps; 0 is none.
    pub(super) fn from_sums([loss, length, counts @ ..]: [f64; 9], steps: &[[f64; 2]]) -> Self {
        let [correct, images, batches, nfe_forward, nfe_backward, accepted, rejected] =
            counts.map(|count| count as usize);
        let smallest = steps.iter().map(|step| step[0]).filter(|h| *h > 0.0);
        let h_smallest = smallest.reduce(f64::min).unwrap_or(0.0);
        let h_largest = steps.iter().map(|step| step[1]).fold(0.0, f64::max);
        Self {
            loss,
            correct,
            images,
            batches,
            nfe_forward,
            nfe_backward,
            accepted,
            rejected,
            length,
            h_smallest,
            h_largest,
        }
    }

    /// Adds the sums of `other`.
    pub fn add(&mut self, other: &Self) {
        self.h_smallest = match (self.accepted, other.accepted) {
            (0, _) => other.h_smallest,
            (_, 0) => self.h_smallest,
            _ => self.h_smallest.min(other.h_smallest),
        };
        self.h_largest = self.h_largest.max(other.h_largest);
        self.loss += other.loss;
        self.correct += other.correct;
        self.images += other.images;
        self.batches += other.batches;
        self.nfe_forward += other.nfe_forward;
        self.nfe_backward += other.nfe_backward;
        self.accepted += other.accepted;
        self.rejected += other.rejected;
        self.length += other.length;
    }
}

/// The next batch to learn from, and the sums of its epoch up to there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Number of the epoch, from 0.
    pub epoch: usize,
    /// Number of the batch, from 0.
    pub batch: usize,
    /// Sums of the epoch's batches before it.
    pub tally: Tally,
    /// Seconds spent on training and judging so far, over all runs that were resumed.
    pub seconds: f64,
}

/// Results of one epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRow {
    /// Number of the epoch, from 1.
    pub epoch: usize,
    /// Learning rate of its last batch.
    pub lr: f64,
    /// Sums over the training batches.
    pub train: Tally,
    /// Sums over the test images, after the epoch.
    pub test: Tally,
    /// Seconds since training began, over all runs that were resumed.
    pub seconds: f64,
}

/// Numbers that need not be finite, which JSON has no numbers for.
mod number {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(f64),
        Text(String),
    }

    pub(super) fn serialize<S: Serializer>(x: &f64, to: S) -> Result<S::Ok, S::Error> {
        if x.is_finite() { to.serialize_f64(*x) } else { to.collect_str(x) }
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<f64, D::Error> {
        match Written::deserialize(from)? {
            Written::Number(x) => Ok(x),
            Written::Text(text) => text.parse().map_err(D::Error::custom),
        }
    }
}

//! Outputs of samples with clocks of their own, handed out step by step.

use aca_dense::Placement;

/// An output inside a step: its fraction of the step, and its row among all outputs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(crate) s: f64,
    pub(crate) index: usize,
}

/// The outputs of each sample, as rows of one list.
#[derive(Clone, Debug)]
pub(crate) struct SampleOutputs {
    /// First row and number of outputs of each sample, its end included.
    counts: Vec<usize>,
    starts: Vec<usize>,
    placements: Vec<Placement>,
}

impl SampleOutputs {
    /// Joins the placements of all outputs, one sample after the other, to their numbers.
    pub(crate) fn new(counts: &[usize], placements: Vec<Placement>) -> Self {
        let ends = counts.iter().scan(0, |end, count| {
            *end += count;
            Some(*end)
        });
        let starts = ends.zip(counts).map(|(end, count)| end - count).collect();
        Self { counts: counts.to_vec(), starts, placements }
    }

    /// Number of all outputs.
    pub(crate) fn len(&self) -> usize {
        self.placements.len()
    }

    /// Number of the sample's outputs, its end included.
    pub(crate) fn count(&self, sample: usize) -> usize {
        self.counts[sample]
    }

    /// Position of an output among those of its sample.
    pub(crate) fn position(&self, sample: usize, output: Output) -> usize {
        output.index - self.starts[sample]
    }

    /// The sample's outputs in step `step`, its ends included.
    pub(crate) fn of_step(&self, sample: usize, step: usize) -> impl Iterator<Item = Output> + '_ {
        let start = self.starts[sample];
        let own = &self.placements[start..start + self.counts[sample]];
        let first = own.partition_point(|placement| placement.step < step);
        let own = own[first..].iter().enumerate().take_while(move |(_, p)| p.step == step);
        own.map(move |(i, placement)| Output { s: placement.s, index: start + first + i })
    }

    /// All of the sample's outputs.
    pub(crate) fn of_sample(&self, sample: usize) -> std::ops::Range<usize> {
        self.starts[sample]..self.starts[sample] + self.counts[sample]
    }
}

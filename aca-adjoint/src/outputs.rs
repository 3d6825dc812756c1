//! The outputs of a solve, handed out step by step.

use aca_core::kernels::RowTerm;
use aca_dense::Placement;

/// Where the outputs of a solve lie among its accepted steps, sample after sample; a whole state is one sample.
#[derive(Clone, Debug)]
pub struct Outputs {
    /// First row of each sample's outputs, and where the last one's end.
    starts: Vec<usize>,
    placements: Vec<Placement>,
}

/// An output in the step of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowOutput {
    pub(crate) row: usize,
    /// Its fraction of the step.
    pub(crate) s: f64,
    /// Its row among all outputs.
    pub(crate) index: usize,
}

impl RowOutput {
    /// Its cotangent as a term of its row.
    pub(crate) fn term(&self, weight: f64) -> RowTerm {
        RowTerm { row: self.row, weight, source: self.index }
    }
}

/// The outputs of one step of every row.
#[derive(Debug, Default)]
pub(crate) struct StepOutputs {
    pub(crate) starts: Vec<RowOutput>,
    pub(crate) inside: Vec<RowOutput>,
    pub(crate) ends: Vec<RowOutput>,
}

impl Outputs {
    /// Joins the placements of all outputs, one sample's after the other's, to their numbers.
    pub(crate) fn new(counts: &[usize], placements: Vec<Placement>) -> Self {
        let mut starts = vec![0];
        counts.iter().for_each(|count| starts.push(starts[starts.len() - 1] + count));
        Self { starts, placements }
    }

    /// Number of the outputs of all samples.
    pub fn len(&self) -> usize {
        self.placements.len()
    }

    /// Whether there is no output.
    pub fn is_empty(&self) -> bool {
        self.placements.is_empty()
    }

    /// Where all outputs lie, in their order.
    pub fn placements(&self) -> &[Placement] {
        &self.placements
    }

    /// The positions of a sample's outputs among all of them.
    pub fn of_sample(&self, sample: usize) -> std::ops::Range<usize> {
        self.starts[sample]..self.starts[sample + 1]
    }

    /// Position of an output among those of its sample.
    pub(crate) fn position(&self, sample: usize, output: RowOutput) -> usize {
        output.index - self.starts[sample]
    }

    /// Adds the outputs of a row whose sample is in step `step`.
    pub(crate) fn add_step(&self, out: &mut StepOutputs, row: usize, sample: usize, step: usize) {
        for output in self.of_step(row, sample, step) {
            match output.s {
                0.0 => out.starts.push(output),
                1.0 => out.ends.push(output),
                _ => out.inside.push(output),
            }
        }
    }

    /// The outputs in step `step` of a sample that is in row `row`.
    pub(crate) fn of_step(
        &self,
        row: usize,
        sample: usize,
        step: usize,
    ) -> impl Iterator<Item = RowOutput> + '_ {
        let start = self.starts[sample];
        let own = &self.placements[start..self.starts[sample + 1]];
        let first = own.partition_point(|placement| placement.step < step);
        let own = own[first..].iter().enumerate().take_while(move |(_, p)| p.step == step);
        own.map(move |(i, placement)| RowOutput { row, s: placement.s, index: start + first + i })
    }
}

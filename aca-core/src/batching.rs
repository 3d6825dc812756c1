//! Batches: one step for all samples, or a clock for each.

use std::sync::Arc;

use crate::Error;

/// How the samples of a batch step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Batching {
    /// Together: the state is one system, whatever its shape.
    #[default]
    Shared,
    /// Each sample has its own step size, error control and end. The state is `[batch, ..]`. No result depends on the
    /// other samples, provided that the field treats each row alone. It may
    /// hold something for each sample, such as a captured tensor with one row for each.
    ///
    /// The solve checks that at its start: it moves half of the rows, and refuses the field if the slopes of the others
    /// change. Batch norm in training, attention over the batch and a single state of coupled numbers are refused. A
    /// field that couples the rows only later is not noticed.
    PerSample,
}

/// What happens to the other samples when one that steps on its own fails.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum OnFailure {
    /// The others are solved to their ends, then the solve returns
    /// [`Error::SamplesFailed`], which names the failed ones.
    #[default]
    Error,
    /// The solve returns: the failed samples' rows stay where they were last finite, their outputs
    /// after that are NaN, their [`Status`] says why, and no gradient flows through them.
    Keep,
}

/// How the solve of one sample ended.
#[derive(Clone, Debug)]
pub enum Status {
    /// It reached the end of its span.
    Finished,
    /// It could not go on.
    Failed(Arc<Error>),
}

impl Status {
    /// Whether the sample reached the end of its span.
    pub fn is_finished(&self) -> bool {
        matches!(self, Self::Finished)
    }
}

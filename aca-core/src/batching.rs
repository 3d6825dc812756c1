//! Batches: one step for all samples, or a clock for each.

use std::sync::Arc;

use crate::Error;

/// How the samples of a batch step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Batching {
    /// Together: the state is one system, whatever its shape.
    #[default]
    Shared,
    /// Each by steps of its own, with its own step size, error control and end: the state is
    /// `[batch, ..]`, and no sample's result depends on its neighbours, provided that the field
    /// treats the rows alike and apart.
    ///
    /// That is probed at the start: where moving half of the rows changes the slopes of the others, as with batch norm in
    /// training, attention over the batch, or one state of coupled numbers, the solve is refused. A field whose rows meet
    /// later only is not found.
    PerSample,
}

/// What becomes of a batch that step on their own when samples fail.
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

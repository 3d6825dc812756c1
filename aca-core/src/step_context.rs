//! How a run makes steps.

use crate::{Evaluator, Stepper};

/// The method beside the field.
pub(crate) struct StepContext<'a> {
    pub(crate) method: Stepper,
    /// Its number among the methods that the solve switches between; 0 where there is one.
    pub(crate) scheme: u8,
    pub(crate) field: Evaluator<'a>,
}

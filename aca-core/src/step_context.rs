//! How a run makes steps.

use crate::{Evaluator, Stepper};

/// The method beside the field.
pub(crate) struct StepContext<'a> {
    pub(crate) method: Stepper,
    pub(crate) field: Evaluator<'a>,
}

//! How a run makes steps.

use crate::{Evaluator, Method};

/// The method beside the field.
pub(crate) struct Rules<'a> {
    pub(crate) method: Method,
    pub(crate) field: Evaluator<'a>,
}

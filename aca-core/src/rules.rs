//! How a step is made, and where it lies.

use crate::{Evaluator, Method};

/// How a run steps: the method beside the field.
pub(crate) struct Rules<'a> {
    pub(crate) method: Method,
    pub(crate) field: Evaluator<'a>,
}

/// Where a step begins and ends, and its number.
#[derive(Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) index: usize,
    pub(crate) t0: f64,
    pub(crate) t1: f64,
    /// Whether no further step follows.
    pub(crate) last: bool,
}

impl Ends {
    pub(crate) fn h(self) -> f64 {
        self.t1 - self.t0
    }
}

//! What a run moves.

use candle_core::Tensor;

use crate::kernels::Scale;
use crate::{Evaluator, Method, Result, StepSink};

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
}

impl Ends {
    pub(crate) fn h(self) -> f64 {
        self.t1 - self.t0
    }
}

/// The state of a run and the stages of its present step.
pub(crate) trait Body {
    /// The state at the start of the step.
    fn y(&self) -> &Tensor;

    /// The slope there, at `t`.
    fn slope(&mut self, rules: &Rules<'_>, t: f64) -> Result<Tensor>;

    /// Tries a step; its error will be `judged`, or its end is looked at here.
    fn attempt(&mut self, rules: &Rules<'_>, ends: Ends, judged: bool) -> Result<()>;

    /// The error ratio of the step that was tried.
    fn error_ratio(&self, rules: &Rules<'_>, h: f64, scale: &Scale) -> Result<f64>;

    /// Hands the step that was tried to the sink and moves to its end.
    fn accept(&mut self, rules: &Rules<'_>, ends: Ends, sink: &mut dyn StepSink) -> Result<()>;

    /// Undoes the step that was tried; says what is wrong with it where its ratio was not `finite`.
    fn reject(
        &mut self,
        rules: &Rules<'_>,
        ends: Ends,
        finite: bool,
    ) -> Result<Option<crate::Error>>;

    /// Tells of what was only looked at until now.
    fn finish(&self) -> Result<()> {
        Ok(())
    }
}

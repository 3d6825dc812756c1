//! What a run moves.

use candle_core::Tensor;

use crate::kernels::{self, Scale};
use crate::rules::{Ends, Rules};
use crate::stability::{Probe, Reach};
use crate::{Error, Result, StepSink};

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

    /// Hands the step that was tried to the sink and moves to its end. With a probe it estimates how far the
    /// step reached, where its stages show that.
    fn accept(
        &mut self,
        rules: &Rules<'_>,
        ends: Ends,
        sink: &mut dyn StepSink,
        probe: Option<&Probe<'_>>,
    ) -> Result<Option<Reach>>;

    /// Undoes the step that was tried; says what is wrong with it where its ratio was not `finite`.
    fn reject(&mut self, rules: &Rules<'_>, ends: Ends, finite: bool) -> Result<Option<Error>>;

    /// Tells of what was only looked at until now.
    fn finish(&self) -> Result<()> {
        Ok(())
    }
}

/// Refuses a tensor with an entry that is not finite, of a step of size `h` from `t`.
pub(crate) fn check_finite(what: &'static str, (t, h): (f64, f64), x: &Tensor) -> Result<()> {
    match kernels::first_non_finite(x)? {
        Some(index) => Err(Error::NonFinite { what, t, h, index }),
        None => Ok(()),
    }
}

/// A run tries a step before it judges one.
pub(crate) fn untried() -> Error {
    candle_core::Error::msg("no step was tried").into()
}

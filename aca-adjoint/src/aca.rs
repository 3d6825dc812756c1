//! The Adaptive Checkpoint Adjoint.

use std::sync::Arc;

use aca_core::{Error, Evaluator, Result, Stepper, TimeSpan, VectorField, kernels};
use candle_core::Tensor;

use crate::Backward;
use crate::adjoint_state::AdjointProbe;
use crate::backward_pass::BackwardPass;
use crate::checkpoints::Checkpoints;
use crate::report::Untrusted;
use crate::{AdjointState, Gradients, Outputs, Params};

/// Replays accepted steps, newest first: those of a whole state one at a time, of a batch one of every sample at a turn.
/// Exact for the discrete solution with its steps held fixed.
///
/// # Cost
/// Memory: the kept states, and the graphs of one step.
///
/// # Source
/// Zhuang et al., "Adaptive Checkpoint Adjoint Stepper for Gradient Estimation in Neural ODE",
/// ICML 2020, algorithm 2; the outputs' part of the formula is ours.
pub(crate) struct Aca {
    pub(crate) field: Arc<dyn VectorField>,
    pub(crate) params: Params,
    /// The method, or those that the solve switched between.
    pub(crate) methods: Vec<Stepper>,
    pub(crate) y0: Tensor,
    /// States at the ends of the spans, and the slope there where the last step has it.
    pub(crate) end: (Tensor, Option<Tensor>),
    /// Whether that is where the last steps end: not so if an event stopped one inside.
    pub(crate) ends_with_steps: bool,
    pub(crate) checkpoints: Checkpoints,
    /// Which samples have no gradient, because they failed; `None` for a whole state.
    pub(crate) failed: Option<Vec<bool>>,
    /// Accepted steps at the stability limit.
    pub(crate) stability_limited: usize,
    /// Whether the growth of cotangents in a step tells of trouble: with steps of an explicit method under error control.
    /// One of an implicit method may cross a fast layer, where cotangents rightly grow.
    pub(crate) bounds_growth: bool,
    pub(crate) untrusted: Untrusted,
}

impl Backward for Aca {
    fn pullback(
        &self,
        outputs: &Outputs,
        cotangents: &Tensor,
        want_times: bool,
    ) -> Result<Gradients> {
        Ok(self.sweep(outputs, cotangents, want_times, &[])?.0)
    }

    fn adjoint_state(
        &self,
        outputs: &Outputs,
        cotangents: &Tensor,
        ts: &[f64],
    ) -> Result<AdjointState> {
        if ts.is_empty() {
            return Err(Error::NoTimes);
        }
        for sample in 0..self.batch() {
            let (t0, t1) = self.checkpoints.ends(sample).ok_or(aca_dense::DenseError::NoSteps)?;
            for (index, &t) in ts.iter().enumerate() {
                if !t.is_finite() {
                    return Err(Error::TimeNotFinite { index, t });
                }
                TimeSpan { t0, t1 }.check_inside(t)?;
            }
        }
        self.sweep(outputs, cotangents, false, ts)?.1.finish(&self.y0)
    }
}

impl Aca {
    /// The states that a walk back starts from: the ends, but where samples failed or have no steps, which rest in a
    /// state that a step started from, where the field was finite.
    pub(crate) fn rest(&self) -> Result<Tensor> {
        let Some(failed) = &self.failed else { return Ok(self.end.0.clone()) };
        let stepped = |sample: &usize| self.checkpoints.steps(*sample) > 0;
        let Some(any) = (0..self.batch()).find(stepped) else { return Ok(self.end.0.clone()) };
        let row = |sample: usize| match (failed[sample], stepped(&sample)) {
            (false, true) => (&self.end.0, sample),
            (_, true) => (&self.y0, sample),
            (_, false) => (&self.y0, any),
        };
        kernels::gather_rows(&(0..self.batch()).map(row).collect::<Vec<_>>())
    }

    /// Whether the state stepped as a whole.
    pub(crate) fn is_whole(&self) -> bool {
        self.failed.is_none()
    }

    /// Number of samples, 1 for a whole state.
    pub(crate) fn batch(&self) -> usize {
        self.failed.as_ref().map_or(1, Vec::len)
    }

    /// Runs one backward pass that also collects the adjoint states at the times `probed`.
    fn sweep<'a>(
        &self,
        outputs: &Outputs,
        cotangents: &Tensor,
        want_times: bool,
        probed: &'a [f64],
    ) -> Result<(Gradients, AdjointProbe<'a>)> {
        let field = Evaluator::new(self.field.as_ref(), &self.y0)?;
        let field = field.knowing_rows(self.checkpoints.known_rows);
        let statistics = field.snapshot()?;
        let sweep = BackwardPass::new(self, &field, outputs, cotangents, (want_times, probed))?;
        let gradients = sweep.run();
        field.restore(&statistics)?;
        gradients
    }
}

//! What every gradient strategy offers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aca_core::{Error, Fingerprint, Result};
use aca_dense::Placement;
use candle_core::Tensor;

use crate::{AdjointState, Backward, Gradient, GradientReport, Gradients, Params};

/// What a forward pass keeps for its backward pass: the explicit form of a gradient.
///
/// Parameters must not change between the solve and its pullback, which evaluates the field again: a pullback
/// compares fingerprints of their values and refuses those that changed.
#[derive(Clone)]
pub struct Tape {
    pub(crate) backward: Arc<dyn Backward>,
    pub(crate) gradient: Gradient,
    pub(crate) placements: Vec<Placement>,
    pub(crate) state: Vec<usize>,
    pub(crate) nfe: Arc<AtomicUsize>,
    pub(crate) params: Params,
    /// What the parameters were at the solve.
    pub(crate) fingerprints: Arc<[Fingerprint]>,
    /// What the last pullback found out.
    pub(crate) report: Arc<Mutex<Option<GradientReport>>>,
}

impl Tape {
    pub(crate) fn new(
        backward: Arc<dyn Backward>,
        gradient: Gradient,
        placements: Vec<Placement>,
        state: Vec<usize>,
        params: &Params,
    ) -> Result<Self> {
        Ok(Self {
            backward,
            gradient,
            placements,
            state,
            nfe: Arc::default(),
            params: params.clone(),
            fingerprints: params.fingerprints()?.into(),
            report: Arc::default(),
        })
    }

    /// Maps the cotangent of the outputs to gradients with respect to `y0` and the parameters.
    ///
    /// # Shapes
    /// `cotangents`: `[times, ..state]`, like the outputs of the solve.
    ///
    /// # Errors
    /// [`Error::CotangentShape`], and whatever the field returns.
    pub fn pullback(&self, cotangents: &Tensor) -> Result<Gradients> {
        self.pull(cotangents, false)
    }

    /// As [`Tape::pullback`], with gradients with respect to all times as well.
    ///
    /// The field's own dependence on time counts where it uses [`Time::tensor`](aca_core::Time::tensor)
    /// or its pullback gives a cotangent of the time.
    pub fn pullback_with_times(&self, cotangents: &Tensor) -> Result<Gradients> {
        self.pull(cotangents, true)
    }

    /// Returns the adjoint state `a(t) = dL/dy(t)` and `dL/dt` at each of `ts`, which need not be
    /// outputs and may come in any order; after the last output both are zero.
    ///
    /// At the ends of steps `a` is exact for the discrete solution. Inside a step it is that of the
    /// solution restarted from its interpolant, which differs by the method's order.
    ///
    /// # Errors
    /// As [`Tape::pullback`]; [`Error::Unsupported`] unless the strategy is `Aca` or `AcaBudget`.
    pub fn adjoint_state(&self, cotangents: &Tensor, ts: &[f64]) -> Result<AdjointState> {
        let cotangents = self.check(cotangents)?;
        self.params.check_unchanged(&self.fingerprints)?;
        self.backward.adjoint_state(&self.placements, &cotangents, ts)
    }

    /// What the last pullback of this tape found out about its solve; nothing before it, and with strategies
    /// that replay no steps.
    pub fn report(&self) -> Option<GradientReport> {
        self.report.lock().map_or(None, |report| report.clone())
    }

    /// Evaluations of the field by all pullbacks of this tape so far.
    pub fn nfe(&self) -> usize {
        self.nfe.load(Ordering::Relaxed)
    }

    pub(crate) fn pull(&self, cotangents: &Tensor, want_times: bool) -> Result<Gradients> {
        if want_times {
            self.gradient.check_times()?;
        }
        let cotangents = self.check(cotangents)?;
        self.params.check_unchanged(&self.fingerprints)?;
        let gradients = self.backward.pullback(&self.placements, &cotangents, want_times)?;
        self.nfe.fetch_add(gradients.nfe, Ordering::Relaxed);
        if let Ok(mut report) = self.report.lock() {
            report.clone_from(&gradients.report);
        }
        Ok(gradients)
    }

    /// Checks the shape of cotangents and takes them out of candle's graph: with
    /// `CANDLE_GRAD_DO_NOT_DETACH` they carry the graph of the loss, which a backward inside the
    /// field's pullback must not walk.
    fn check(&self, cotangents: &Tensor) -> Result<Tensor> {
        let outputs = std::iter::once(self.placements.len());
        let expected: Vec<usize> = outputs.chain(self.state.iter().copied()).collect();
        if cotangents.dims() != expected {
            return Err(Error::CotangentShape { got: cotangents.dims().to_vec(), expected });
        }
        Ok(cotangents.detach().contiguous()?)
    }
}

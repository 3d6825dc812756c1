//! What every gradient strategy offers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aca_core::{Error, Result};
use aca_dense::Placement;
use candle_core::Tensor;

use crate::Gradients;

/// The backward half of a gradient strategy, bound to one finished solve.
pub(crate) trait Backward: Send + Sync {
    /// Maps cotangents of outputs to gradients of the solve's inputs.
    ///
    /// `placements` run in the solve's direction; `cotangents` are `[outputs, ..state]`, detached.
    fn pullback(
        &self,
        placements: &[Placement],
        cotangents: &Tensor,
        want_times: bool,
    ) -> Result<Gradients>;
}

/// Refuses gradients with respect to times on behalf of a strategy that has none.
pub(crate) fn refuse_times(strategy: &'static str, want_times: bool) -> Result<()> {
    match want_times {
        true => Err(Error::Unsupported { strategy, what: "gradients with respect to times" }),
        false => Ok(()),
    }
}

/// What a forward pass keeps for its backward pass: the explicit form of a gradient.
///
/// Parameters must not change between the solve and its pullback, which evaluates the field again.
#[derive(Clone)]
pub struct Tape {
    pub(crate) backward: Arc<dyn Backward>,
    pub(crate) placements: Vec<Placement>,
    pub(crate) state: Vec<usize>,
    pub(crate) nfe: Arc<AtomicUsize>,
}

impl Tape {
    pub(crate) fn new(
        backward: Arc<dyn Backward>,
        placements: Vec<Placement>,
        state: Vec<usize>,
    ) -> Self {
        Self { backward, placements, state, nfe: Arc::default() }
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

    /// Evaluations of the field by all pullbacks of this tape so far.
    pub fn nfe(&self) -> usize {
        self.nfe.load(Ordering::Relaxed)
    }

    pub(crate) fn pull(&self, cotangents: &Tensor, want_times: bool) -> Result<Gradients> {
        let expected: Vec<usize> =
            std::iter::once(self.placements.len()).chain(self.state.iter().copied()).collect();
        if cotangents.dims() != expected {
            return Err(Error::CotangentShape { got: cotangents.dims().to_vec(), expected });
        }
        // With CANDLE_GRAD_DO_NOT_DETACH the cotangent carries the graph of the loss, which a
        // backward inside the field's pullback must not walk.
        let cotangents = cotangents.detach().contiguous()?;
        let gradients = self.backward.pullback(&self.placements, &cotangents, want_times)?;
        self.nfe.fetch_add(gradients.nfe, Ordering::Relaxed);
        Ok(gradients)
    }
}

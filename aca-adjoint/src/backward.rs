//! What a forward pass keeps for its backward pass.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aca_core::{Fingerprint, Result, kernels};
use aca_dense::{Layout, Placement, Solution};
use candle_core::Tensor;

use crate::{
    AdjointState, Backward, Gradient, GradientError, GradientReport, Gradients, Outputs, Params,
};

/// What a forward pass keeps for its backward pass; [`Tape::pullback`] gets the gradient explicitly.
///
/// Parameters must not change between the solve and its pullback, which evaluates the field again: a pullback
/// compares fingerprints of their values and refuses those that changed.
#[derive(Clone)]
pub struct Tape {
    pub(crate) backward: Arc<dyn Backward>,
    pub(crate) gradient: Gradient,
    outputs: Arc<Outputs>,
    /// The row of each output among those of the cotangents; `None` where both have one order.
    order: Option<Arc<[usize]>>,
    /// Whether the last output of each sample is its end, which nobody named.
    ends: bool,
    /// Shape of the cotangents.
    shape: Vec<usize>,
    /// Dimensions of one sample's state.
    state: Vec<usize>,
    pub(crate) nfe: Arc<AtomicUsize>,
    pub(crate) params: Params,
    /// What the parameters were at the solve.
    pub(crate) fingerprints: Arc<[Fingerprint]>,
    /// What the last pullback found out.
    pub(crate) report: Arc<Mutex<Option<GradientReport>>>,
}

impl Tape {
    /// The tape of a finished solve, for cotangents of its outputs.
    pub(crate) fn new(
        backward: Arc<dyn Backward>,
        gradient: Gradient,
        sol: &Solution,
        params: &Params,
    ) -> Result<Self> {
        let whole = matches!(sol.layout(), Layout::Whole(_));
        let state = sol.y1.dims()[usize::from(!whole)..].to_vec();
        let tape = Self {
            backward,
            gradient,
            outputs: Arc::new(Outputs::new(&[], Vec::new())),
            order: None,
            ends: false,
            shape: Vec::new(),
            state,
            nfe: Arc::default(),
            params: params.clone(),
            fingerprints: params.fingerprints()?.into(),
            report: Arc::default(),
        };
        Ok(tape.of_outputs(sol.layout(), sol.placements()))
    }

    /// The same solve, for cotangents of other outputs.
    pub(crate) fn of_outputs(self, layout: &Layout, placements: &[Placement]) -> Self {
        let shape = [&layout.dims(), &self.state[..]].concat();
        Self { shape, ..self.arranged(layout, placements, &[]) }
    }

    /// The same solve, for cotangents of its outputs and the ends of all samples after them, `[outputs + samples, ..state]`.
    pub(crate) fn of_outputs_and_ends(self, sol: &Solution) -> Self {
        let ends: Vec<Placement> = sol.end_placements().collect();
        let shape = [&[sol.layout().len() + ends.len()], &self.state[..]].concat();
        Self { shape, ..self.arranged(sol.layout(), sol.placements(), &ends) }
    }

    fn arranged(self, layout: &Layout, placements: &[Placement], ends: &[Placement]) -> Self {
        let (mut counts, mut all, mut order) = (Vec::new(), Vec::new(), Vec::new());
        let mut start = 0;
        for sample in 0..layout.samples() {
            let own = &placements[start..start + layout.count(sample)];
            let end = ends.get(sample);
            start += own.len();
            all.extend(own.iter().chain(end));
            order.extend(layout.rows(sample).chain(end.map(|_| layout.len() + sample)));
            counts.push(own.len() + usize::from(end.is_some()));
        }
        let ordered = order.iter().enumerate().all(|(place, &row)| place == row);
        let order = (!ordered).then(|| order.into());
        let (outputs, ends) = (Arc::new(Outputs::new(&counts, all)), !ends.is_empty());
        Self { outputs, order, ends, ..self }
    }

    /// Maps the cotangent of the outputs to gradients with respect to `y0` and the parameters.
    ///
    /// # Shapes
    /// `cotangents`: like the outputs of the solve, `[times, ..state]` or as [`Solution`] tells for samples.
    ///
    /// # Errors
    /// [`GradientError::CotangentShape`], and whatever the field returns.
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
    /// As [`Tape::pullback`]; [`GradientError::Unsupported`] unless the strategy is `Aca` or `AcaBudget`.
    pub fn adjoint_state(&self, cotangents: &Tensor, ts: &[f64]) -> Result<AdjointState> {
        let cotangents = self.check(cotangents)?;
        self.params.check_unchanged(&self.fingerprints)?;
        self.backward.adjoint_state(&self.outputs, &cotangents, ts)
    }

    /// What the last pullback of this tape found out about its solve; `None` before the first one, and with strategies
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
        let mut gradients = self.backward.pullback(&self.outputs, &cotangents, want_times)?;
        if self.ends {
            let all = gradients.times.iter_mut().chain(&mut gradients.sample_times);
            all.for_each(|times| times.ts.truncate(times.ts.len().saturating_sub(1)));
        }
        self.nfe.fetch_add(gradients.nfe, Ordering::Relaxed);
        if let Ok(mut report) = self.report.lock() {
            report.clone_from(&gradients.report);
        }
        Ok(gradients)
    }

    /// Checks the shape of cotangents, takes them out of candle's graph and lays them out sample by sample: with
    /// `CANDLE_GRAD_DO_NOT_DETACH` they carry the graph of the loss, which a backward inside the
    /// field's pullback must not walk.
    fn check(&self, cotangents: &Tensor) -> Result<Tensor> {
        if cotangents.dims() != self.shape {
            let expected = self.shape.clone();
            return Err(GradientError::CotangentShape {
                got: cotangents.dims().to_vec(),
                expected,
            }
            .into());
        }
        let cotangents = cotangents.detach().contiguous()?;
        let Some(order) = &self.order else {
            return Ok(cotangents.reshape([&[self.outputs.len()], &self.state[..]].concat())?);
        };
        let rows = cotangents.reshape([&[order.len()], &self.state[..]].concat())?;
        kernels::pick_rows(&rows, order)
    }
}

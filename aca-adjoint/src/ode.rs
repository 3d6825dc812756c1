//! The call site: a solve that candle can differentiate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aca_core::{Batching, Error, Fingerprint, Result, Solver, Spans, TimeSpan, VectorField};
use aca_dense::{Ragged, SaveAt, Solution};
use candle_core::{DType, Tensor, Var};

use crate::Solve;
use crate::attach::{attach, guard_parameters};
use crate::backward::Tape;
use crate::second_order::is_second_order_enabled;
use crate::{Backsolve, Gradient, GradientError, OdeSolution, Params, Untrusted};

/// An ODE `dy/dt = f(t, y)` with everything that its solve and its gradient need.
///
/// # Gradient
/// Outputs of [`Ode::solve`] are ordinary candle tensors: `backward` finds the gradient with respect
/// to `y0` and the parameters, those of [`Ode::solve_times`] with respect to the times as well.
///
/// # Example
/// ```
/// use aca_adjoint::Ode;
/// use aca_core::{Solver, Time, Tolerance};
/// use aca_dense::SaveAt;
/// use candle_core::{Device, Tensor, Var};
///
/// # fn main() -> aca_core::Result<()> {
/// let rate = Var::new(&[0.5f64], &Device::Cpu)?;
/// let k = rate.clone();
/// let growth = move |_t: &Time, y: &Tensor| y.broadcast_mul(&k);
/// let solver = Solver::adaptive(aca_tableau::DOPRI5, Tolerance { rtol: 1e-10, atol: 1e-10 });
/// let ode = Ode::new(solver, growth, vec![rate.clone()])?;
/// let sol = ode.solve(&Tensor::new(&[1.0f64], &Device::Cpu)?, (0.0, 2.0), &SaveAt::End)?;
/// let grads = sol.y1.sum_all()?.backward()?;
/// let slope = grads.get(&rate).map(|g| g.to_vec1::<f64>()).transpose()?.unwrap_or_default();
/// assert!((slope[0] - 2.0 * 1f64.exp()).abs() < 1e-7); // y1 = e^(2k), so dy1/dk = 2 e^(2k)
/// # Ok(())
/// # }
/// ```
pub struct Ode {
    solver: Solver,
    field: Arc<dyn VectorField>,
    params: Params,
    /// How the gradient is found.
    pub gradient: Gradient,
    /// What happens with a gradient that cannot be trusted.
    pub untrusted: Untrusted,
    /// Whether the field was seen to read no variable but the parameters.
    covered: AtomicBool,
}

impl Ode {
    /// Joins a solver, a field and the variables of the field whose gradient is wanted.
    ///
    /// The first solve evaluates the field once and refuses it if it reads a variable that is not among them. List also
    /// variables that the field first reads later in the span: this check does not see them, and their gradient would
    /// be silently missing.
    ///
    /// List what the field owns. If the field captures the output of another network (the coefficients of a
    /// hypernetwork, say), you can list that network's variables, but every stage then goes back through that network.
    /// Carry the output in the state instead, with slope zero ([`Packing`](aca_core::Packing)): its cotangent is summed
    /// along the solve and goes through the network once. The example `10_coefficients_from_a_network` of aca-models
    /// does both; carrying is 64 times as fast.
    ///
    /// # Errors
    /// Bad settings of the solver, [`GradientError::MixedParameters`](crate::GradientError::MixedParameters).
    pub fn new(
        solver: Solver,
        field: impl VectorField + 'static,
        params: Vec<Var>,
    ) -> Result<Self> {
        Self::shared(solver, Arc::new(field), params)
    }

    /// As [`Ode::new`] for a field that is shared: with other problems, or with code that inspects it.
    ///
    /// # Errors
    /// As [`Ode::new`].
    pub fn shared(solver: Solver, field: Arc<dyn VectorField>, params: Vec<Var>) -> Result<Self> {
        solver.validate()?;
        Ok(Self {
            solver,
            field,
            params: Params::new(params)?,
            gradient: Gradient::default(),
            untrusted: Untrusted::default(),
            covered: AtomicBool::new(false),
        })
    }

    /// Returns the same problem with another [`gradient`](Self::gradient) strategy.
    pub fn gradient(self, gradient: Gradient) -> Self {
        Self { gradient, ..self }
    }

    /// Returns the same problem at tolerances smaller by `factor`, or with fixed steps of half the size.
    pub fn tightened(&self, factor: f64) -> Result<Self> {
        let mut tightened = self.with_solver(self.solver.tightened(factor)?);
        if let Gradient::Backsolve(Backsolve { solver: Some(solver), .. }) = &mut tightened.gradient
        {
            **solver = solver.tightened(factor)?;
        }
        Ok(tightened)
    }

    /// The same problem by another solver.
    pub(crate) fn with_solver(&self, solver: Solver) -> Self {
        Self {
            solver,
            field: self.field.clone(),
            params: self.params.clone(),
            gradient: self.gradient.clone(),
            untrusted: self.untrusted,
            covered: AtomicBool::new(self.covered.load(Ordering::Relaxed)),
        }
    }

    /// Returns the same problem, with gradients that cannot be trusted refused or flagged.
    pub fn untrusted(self, untrusted: Untrusted) -> Self {
        Self { untrusted, ..self }
    }

    /// The parameters, in the order of [`Gradients::theta`](crate::Gradients::theta).
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The field.
    pub(crate) fn field(&self) -> &Arc<dyn VectorField> {
        &self.field
    }

    /// The solver.
    pub fn solver(&self) -> &Solver {
        &self.solver
    }

    /// Solves from `y0` over `span`; the outputs are part of candle's graph.
    ///
    /// With [`Batching::PerSample`] each row of `y0` is a sample that steps on its own. Span and outputs may be shared
    /// or given for each sample.
    ///
    /// # Shapes
    /// `y0`: `[..state]`, `f32` or `f64`; outputs: `[times, ..state]`, or as [`Solution`] tells for samples.
    ///
    /// # Errors
    /// Those of [`Solver::solve`] and of the requested times;
    /// [`GradientError::UnlistedVariable`](crate::GradientError::UnlistedVariable); [`Error::PerSampleUnsupported`] for samples that
    /// step on their own unless the strategy is `Aca`, `AcaBudget`, `Naive` or `Mali`.
    ///
    /// # Example
    /// ```
    /// use aca_adjoint::Ode;
    /// use aca_core::{Batching, Solver, Time, Tolerance};
    /// use aca_dense::SaveAt;
    /// use candle_core::{Device, Tensor, Var};
    ///
    /// # fn main() -> aca_core::Result<()> {
    /// let y0 = Var::new(&[[1.0f64], [1.0]], &Device::Cpu)?;
    /// let decay = |_t: &Time, y: &Tensor| y.neg();
    /// let solver = Solver::adaptive(aca_tableau::DOPRI5, Tolerance { rtol: 1e-9, atol: 1e-9 });
    /// let solver = Solver { batching: Batching::PerSample, ..solver };
    /// let ode = Ode::new(solver, decay, vec![])?;
    /// let sol = ode.solve(&y0, [(0.0, 1.0), (0.0, 2.0)], &SaveAt::End)?;
    /// let grads = sol.y1.sum_all()?.backward()?;
    /// let gradient = grads.get(&y0).map(|g| g.to_vec2::<f64>()).transpose()?.unwrap_or_default();
    /// assert!((gradient[1][0] - (-2f64).exp()).abs() < 1e-8); // each sample by its own span
    /// # Ok(())
    /// # }
    /// ```
    pub fn solve(
        &self,
        y0: &Tensor,
        span: impl Into<Spans>,
        save_at: &SaveAt,
    ) -> Result<OdeSolution> {
        let constant = Tensor::zeros(1, DType::F64, y0.device())?;
        self.attached(y0, &span.into(), save_at, &constant)
    }

    /// Solves from `y0` at the first of `times` to the last, with outputs at all of them; the
    /// outputs are differentiable in `times` as well.
    ///
    /// `times` is a tensor, or where samples step on their own a [`Ragged`] list of each sample's own times.
    ///
    /// A field that depends on time must read it by [`Time::tensor`](aca_core::Time::tensor). If it uses
    /// [`Time::value`](aca_core::Time::value), to look up a table of measurements for instance, candle does not see the
    /// dependence, and the backward pass refuses gradients of times with
    /// [`GradientError::TimeRead`](crate::GradientError::TimeRead).
    ///
    /// # Shapes
    /// `times`: `[n]`, one or more, read as `f64`; outputs: `[n, ..state]`, the first of them `y0`; or as [`Solution`]
    /// tells for samples.
    ///
    /// # Errors
    /// As [`Ode::solve`]; [`GradientError::TimesShape`] for one number or a matrix of times;
    /// [`GradientError::Unsupported`] when candle tracks `times` and the strategy has no
    /// gradient with respect to them (`Naive`, `NaiveThroughStepSize`, `Mali`).
    pub fn solve_times<'t>(
        &self,
        y0: &Tensor,
        times: impl Into<OutputTimes<'t>>,
    ) -> Result<OdeSolution> {
        let times = times.into();
        let tensor = times.tensor();
        if tensor.rank() != 1 {
            return Err(GradientError::TimesShape { shape: tensor.dims().to_vec() }.into());
        }
        if tensor.track_op() {
            self.gradient.check_times_of(&self.solver.method)?;
        }
        let ts = tensor.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        match times {
            OutputTimes::Shared(_) => {
                let (span, save_at) = (ends(&ts)?, SaveAt::Times(ts));
                match (self.solver.batching, y0.dims()) {
                    (Batching::PerSample, [batch, ..]) => {
                        // Every sample has the same times: candle adds up what each finds for them.
                        let each = tensor.unsqueeze(0)?.repeat((*batch, 1))?.flatten_all()?;
                        self.attached(y0, &span.into(), &save_at, &each)
                    }
                    _ => self.attached(y0, &span.into(), &save_at, tensor),
                }
            }
            OutputTimes::PerSample(times) => {
                let (mut spans, mut save_at, mut rest) = (Vec::new(), Vec::new(), &ts[..]);
                for &count in times.counts() {
                    let (own, others) = rest.split_at(count);
                    spans.push(ends(own)?);
                    save_at.push(SaveAt::Times(own.to_vec()));
                    rest = others;
                }
                self.attached(y0, &spans.into(), &SaveAt::PerSample(save_at), tensor)
            }
        }
    }

    /// Solves without touching candle's graph and returns the tape for an explicit pullback.
    ///
    /// # Errors
    /// As [`Ode::solve`].
    pub fn forward(
        &self,
        y0: &Tensor,
        span: impl Into<Spans>,
        save_at: &SaveAt,
    ) -> Result<(Solution, Tape)> {
        self.unattached(y0, &span.into(), save_at)
    }

    fn unattached(&self, y0: &Tensor, spans: &Spans, save_at: &SaveAt) -> Result<(Solution, Tape)> {
        self.check_covered(y0, spans.t0())?;
        let (sol, backward) = self.at(y0, spans, save_at).solve(&self.gradient)?;
        let tape = Tape::new(backward, self.gradient.clone(), &sol, &self.params)?;
        Ok((sol, tape))
    }

    fn attached(
        &self,
        y0: &Tensor,
        spans: &Spans,
        save_at: &SaveAt,
        times: &Tensor,
    ) -> Result<OdeSolution> {
        let whole = self.solver.batching == Batching::Shared;
        if whole && matches!(self.gradient, Gradient::Naive) && is_second_order_enabled() {
            self.check_covered(y0, spans.t0())?;
            let fingerprints: Arc<[Fingerprint]> = self.params.fingerprints()?.into();
            let guard = |x: &Tensor| guard_parameters(x, &self.params, fingerprints.clone());
            let mut sol = self.at(y0, spans, save_at).in_graph()?;
            (sol.ys, sol.y1) = (guard(&sol.ys)?, guard(&sol.y1)?);
            return Ok(OdeSolution::in_graph(sol));
        }
        let (sol, tape) = self.unattached(y0, spans, save_at)?;
        let join = |outputs: &Tensor, tape: Tape| attach(outputs, y0, &self.params, times, tape);
        let attached = if sol.ends_are_outputs() {
            let ys = join(&sol.ys, tape.clone())?;
            let y1 = ys.get(sol.ts.len() - 1)?;
            (ys, y1)
        } else {
            let ends = if whole { sol.y1.unsqueeze(0)? } else { sol.y1.clone() };
            let count = sol.layout().len();
            let flat = sol.ys.reshape([&[count], &ends.dims()[1..]].concat())?;
            let all = Tensor::cat(&[&flat, &ends], 0)?;
            let all = join(&all, tape.clone().of_outputs_and_ends(&sol))?;
            let ys = all.narrow(0, 0, count)?.reshape(sol.ys.shape())?;
            (ys, all.narrow(0, count, ends.dims()[0])?.reshape(sol.y1.shape())?)
        };
        Ok(OdeSolution::new(sol, attached, (y0.clone(), self.params.clone()), tape))
    }

    pub(crate) fn at<'a>(
        &'a self,
        y0: &'a Tensor,
        spans: &'a Spans,
        save_at: &'a SaveAt,
    ) -> Solve<'a> {
        let Self { solver, field, params, untrusted, .. } = self;
        Solve { solver, field, params, y0, spans, save_at, untrusted: *untrusted, watch: None }
    }

    pub(crate) fn check_covered(&self, y0: &Tensor, t0: f64) -> Result<()> {
        if !self.covered.load(Ordering::Relaxed) {
            self.params.check_covers(self.field.as_ref(), t0, y0)?;
            self.covered.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// The first and the last of a list of times, all of which run from the one to the other.
fn ends(ts: &[f64]) -> Result<(f64, f64)> {
    let (&t0, &t1) = ts.first().zip(ts.last()).ok_or(Error::NoTimes)?;
    let span = TimeSpan::new(t0, t1)?;
    let back = |pair: &[f64]| span.before(pair[1], pair[0]);
    match ts.windows(2).position(back) {
        Some(previous) => {
            let (index, t, previous) = (previous + 1, ts[previous + 1], ts[previous]);
            Err(Error::TimesOutOfOrder { index, t, previous, t0, t1 })
        }
        None => Ok((t0, t1)),
    }
}

/// The times of [`Ode::solve_times`].
#[derive(Clone, Copy, Debug)]
pub enum OutputTimes<'a> {
    /// The same for the whole state, or for every sample, `[n]`.
    Shared(&'a Tensor),
    /// Each sample's own; they need [`Batching::PerSample`].
    PerSample(&'a Ragged),
}

impl OutputTimes<'_> {
    fn tensor(&self) -> &Tensor {
        match self {
            Self::Shared(times) => times,
            Self::PerSample(times) => times.flat(),
        }
    }
}

impl<'a> From<&'a Tensor> for OutputTimes<'a> {
    fn from(times: &'a Tensor) -> Self {
        Self::Shared(times)
    }
}

impl<'a> From<&'a Var> for OutputTimes<'a> {
    fn from(times: &'a Var) -> Self {
        Self::Shared(times)
    }
}

impl<'a> From<&'a Ragged> for OutputTimes<'a> {
    fn from(times: &'a Ragged) -> Self {
        Self::PerSample(times)
    }
}

//! The call site: a solve that candle can differentiate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aca_core::{Batching, Error, Fingerprint, Result, Solver, TimeSpan, VectorField};
use aca_dense::{Placement, SaveAt, Solution};
use candle_core::{DType, Tensor, Var};

use crate::attach::{attach, guard_parameters};
use crate::backward::Tape;
use crate::forward::Solve;
use crate::second_order::is_second_order_enabled;
use crate::{Backsolve, Gradient, OdeSolution, Params, Untrusted};

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
/// let grads = sol.y1()?.sum_all()?.backward()?;
/// let slope = grads.get(&rate).map(|g| g.to_vec1::<f64>()).transpose()?.unwrap_or_default();
/// assert!((slope[0] - 2.0 * 1f64.exp()).abs() < 1e-7); // y1 = e^(2k), so dy1/dk = 2 e^(2k)
/// # Ok(())
/// # }
/// ```
pub struct Ode {
    solver: Solver,
    field: Arc<dyn VectorField>,
    params: Params,
    gradient: Gradient,
    untrusted: Untrusted,
    /// Whether the field was seen to read no variable but the parameters.
    covered: AtomicBool,
}

impl Ode {
    /// Joins a solver, a field and the variables of the field whose gradient is wanted.
    ///
    /// The first solve looks which variables the field reads at its start, and refuses one that is not among
    /// them. A variable that a field turns to later on must be listed too: its gradient would be missing
    /// without a word.
    ///
    /// List what the field owns. Where it captures the output of a network in front (the coefficients of a
    /// hypernetwork, say), listing that network's variables gives their gradient, but goes through the network
    /// anew at every stage. Carry the output in the state instead, with slope zero
    /// ([`Packing`](aca_core::Packing)): its cotangent is summed along the solve and goes through the network
    /// once. The example `10_coefficients_from_a_network` of aca-models does both, and finds it 64 times as
    /// fast.
    ///
    /// # Errors
    /// Bad settings of the solver, [`Error::MixedParameters`](aca_core::Error::MixedParameters).
    pub fn new(
        solver: Solver,
        field: impl VectorField + 'static,
        params: Vec<Var>,
    ) -> Result<Self> {
        Self::shared(solver, Arc::new(field), params)
    }

    /// As [`Ode::new`] for a field that others hold too: several problems, or code that looks into the field.
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

    /// Sets the gradient strategy.
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

    /// Sets what becomes of a gradient that cannot be trusted.
    pub fn untrusted(self, untrusted: Untrusted) -> Self {
        Self { untrusted, ..self }
    }

    /// The parameters, in the order of [`Gradients::theta`](crate::Gradients::theta).
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The gradient strategy.
    pub fn strategy(&self) -> &Gradient {
        &self.gradient
    }

    /// The solver.
    pub fn solver(&self) -> &Solver {
        &self.solver
    }

    /// Solves from `y0` at `span.0` to `span.1`; the outputs are part of candle's graph.
    ///
    /// # Shapes
    /// `y0`: `[..state]`, `f32` or `f64`; outputs: `[times, ..state]`.
    ///
    /// # Errors
    /// Those of [`Solver::solve`] and of the requested times;
    /// [`Error::UnlistedVariable`](aca_core::Error::UnlistedVariable).
    pub fn solve(&self, y0: &Tensor, span: (f64, f64), save_at: &SaveAt) -> Result<OdeSolution> {
        let constant = Tensor::zeros(1, DType::F64, y0.device())?;
        match self.solver.batching {
            Batching::Shared => self.attached(y0, span, save_at, &constant),
            Batching::PerSample => {
                self.solve_alike(y0, (&span.into(), &save_at.clone().into()), &constant)
            }
        }
    }

    /// Solves from `y0` at the first of `times` to the last, with outputs at all of them; the
    /// outputs are differentiable in `times` as well.
    ///
    /// A field that depends on time must read it by [`Time::tensor`](aca_core::Time::tensor): what it makes of
    /// [`Time::value`](aca_core::Time::value), a table of measurements looked up by number for instance, is hidden from candle, and the
    /// backward pass refuses gradients of times with [`Error::TimeRead`](aca_core::Error::TimeRead).
    ///
    /// # Shapes
    /// `times`: `[n]`, one or more, read as `f64`; outputs: `[n, ..state]`, the first of them `y0`.
    ///
    /// # Errors
    /// As [`Ode::solve`]; [`Error::TimesShape`] for one number or a matrix of times;
    /// [`Error::Unsupported`] when candle tracks `times` and the strategy has no
    /// gradient with respect to them (`Naive`, `NaiveThroughStepSize`, `Mali`).
    pub fn solve_times(&self, y0: &Tensor, times: &Tensor) -> Result<OdeSolution> {
        if times.rank() != 1 {
            return Err(Error::TimesShape { shape: times.dims().to_vec() });
        }
        let ts = times.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        let ends = ts.first().copied().zip(ts.last().copied());
        let span = ends.ok_or(Error::NoTimes)?;
        if times.track_op() {
            self.gradient.check_times_of(&self.solver.method)?;
        }
        let save_at = SaveAt::Times(ts);
        if self.solver.batching == Batching::PerSample {
            // Every sample has the same times: candle adds up what each finds for them.
            let batch = y0.dims().first().copied().unwrap_or(0);
            let each = times.unsqueeze(0)?.repeat((batch, 1))?.flatten_all()?;
            return self.solve_alike(y0, (&span.into(), &save_at.into()), &each);
        }
        self.attached(y0, span, &save_at, times)
    }

    /// Solves without touching candle's graph and returns the tape for an explicit pullback.
    ///
    /// # Errors
    /// As [`Ode::solve`].
    pub fn forward(
        &self,
        y0: &Tensor,
        span: (f64, f64),
        save_at: &SaveAt,
    ) -> Result<(Solution, Tape)> {
        self.check_covered(y0, span.0)?;
        let (sol, backward) = self.at(y0, span, save_at)?.solve(&self.gradient)?;
        let tape = Tape::new(
            backward,
            self.gradient.clone(),
            sol.placements().to_vec(),
            y0.dims().to_vec(),
            &self.params,
        )?;
        Ok((sol, tape))
    }

    fn attached(
        &self,
        y0: &Tensor,
        span: (f64, f64),
        save_at: &SaveAt,
        times: &Tensor,
    ) -> Result<OdeSolution> {
        if matches!(self.gradient, Gradient::Naive) && is_second_order_enabled() {
            self.check_covered(y0, span.0)?;
            let forward = self.at(y0, span, save_at)?;
            let fingerprints: Arc<[Fingerprint]> = self.params.fingerprints()?.into();
            let guard = |x: &Tensor| guard_parameters(x, &self.params, fingerprints.clone());
            let mut sol = forward.in_graph()?;
            (sol.ys, sol.y1) = (guard(&sol.ys)?, guard(&sol.y1)?);
            return Ok(OdeSolution::in_graph(sol, forward.span));
        }
        let (sol, mut tape) = self.forward(y0, span, save_at)?;
        let ends_at_t1 = sol.ts.last() == Some(&span.1);
        let outputs = if ends_at_t1 {
            sol.ys.clone()
        } else {
            let end = match sol.stats.accepted {
                0 => Placement { step: 0, s: 0.0 },
                n => Placement { step: n - 1, s: 1.0 },
            };
            tape.placements.push(end);
            Tensor::cat(&[&sol.ys, &sol.y1.unsqueeze(0)?], 0)?
        };
        let outputs = attach(&outputs, y0, &self.params, times, tape.clone())?;
        let span = TimeSpan::new(span.0, span.1)?;
        OdeSolution::new(sol, outputs, span, (y0.clone(), self.params.clone()), tape)
    }

    pub(crate) fn at<'a>(
        &'a self,
        y0: &'a Tensor,
        span: (f64, f64),
        save_at: &'a SaveAt,
    ) -> Result<Solve<'a>> {
        let Self { solver, field, params, untrusted, .. } = self;
        let (span, untrusted) = (TimeSpan::new(span.0, span.1)?, *untrusted);
        Ok(Solve { solver, field, params, y0, span, save_at, untrusted })
    }

    pub(crate) fn check_covered(&self, y0: &Tensor, t0: f64) -> Result<()> {
        if !self.covered.load(Ordering::Relaxed) {
            self.params.check_covers(self.field.as_ref(), t0, y0)?;
            self.covered.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

//! How to solve: the method, its tolerances or fixed step, and their limits.

use std::fmt;
use std::sync::Arc;

use candle_core::{DType, Tensor};

use crate::controller::setting;
use crate::{
    Batching, Error, Method, Newton, OnFailure, Pid, Result, StableSteps, TimeSpan, Tolerances,
};

/// How to solve: plain values, checked once per solve.
///
/// Two constructors cover ordinary use; set the rarer fields by struct update.
///
/// # Example
/// ```
/// use aca_core::{Solver, Time, Tolerance};
/// use aca_tableau::DOPRI5;
/// use candle_core::{Device, Tensor};
///
/// # fn main() -> aca_core::Result<()> {
/// let solver = Solver { max_steps: 500, ..Solver::adaptive(DOPRI5, Tolerance { rtol: 1e-8, atol: 1e-8 }) };
/// let decay = |_t: &Time, y: &Tensor| y.neg();
/// let end = solver.solve(&decay, &Tensor::new(&[1.0f64], &Device::Cpu)?, (0.0, 1.0), &mut ())?;
/// assert!((end.y1.to_vec1::<f64>()?[0] - (-1.0f64).exp()).abs() < 1e-8);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Solver {
    /// The method.
    pub method: Method,
    /// Adaptive steps with their tolerances, or fixed ones.
    pub stepping: Stepping,
    /// Step-size control of adaptive steps.
    pub controller: Pid,
    /// Magnitude of the first adaptive step; chosen by the solve when `None`.
    pub first_step: Option<f64>,
    /// Smallest magnitude of an adaptive step; smaller ones are an error. With 0 the limit is the rounding of the time.
    pub h_min: f64,
    /// Largest magnitude of an adaptive step.
    pub h_max: f64,
    /// Times that steps must hit exactly; those outside the span are ignored.
    pub step_ts: Vec<f64>,
    /// Times at which the field jumps: steps end there exactly, and each step sees the field on its own side only.
    pub jump_ts: Vec<f64>,
    /// In which solves adaptive steps stay inside the method's stability interval.
    pub stable_steps: StableSteps,
    /// Largest number of steps, rejected ones included.
    pub max_steps: usize,
    /// Whether states and slopes stay in candle's graph, through every accepted step; memory then
    /// grows with the steps and with what the field does. Candle drops such a graph by recursion, so beyond
    /// some 4000 nodes (300 steps of RK4) the solve is refused outside of
    /// [`with_large_stack`](crate::with_large_stack); the gradient strategy `Naive` of aca-adjoint takes care
    /// of that itself.
    pub trace: bool,
    /// Whether the samples of a batch share their steps or each steps on its own.
    pub batching: Batching,
    /// What happens to the other samples when one that steps on its own fails.
    pub on_failure: OnFailure,
    /// How implicit stages are solved.
    pub newton: Newton,
    /// Called after every accepted step.
    pub progress: Option<ProgressFn>,
}

/// How the step size is found.
#[derive(Clone, Debug)]
pub enum Stepping {
    /// By error control within the tolerances.
    Adaptive(Tolerances),
    /// Steps of this magnitude; a shorter last one lands on the end exactly.
    FixedSize(f64),
    /// This many equal steps.
    FixedCount(usize),
}

impl Solver {
    /// Default of [`Solver::max_steps`].
    pub const MAX_STEPS: usize = 10_000;

    /// Returns a solver that adapts its steps to `tolerance`.
    pub fn adaptive(method: impl Into<Method>, tolerance: impl Into<Tolerances>) -> Self {
        Self::new(method.into(), Stepping::Adaptive(tolerance.into()))
    }

    /// Returns a solver with fixed steps of magnitude `h`.
    pub fn fixed(method: impl Into<Method>, h: f64) -> Self {
        Self::new(method.into(), Stepping::FixedSize(h))
    }

    /// Returns a solver with `count` equal steps.
    pub fn fixed_count(method: impl Into<Method>, count: usize) -> Self {
        Self::new(method.into(), Stepping::FixedCount(count))
    }

    /// Returns the usual solver for a method: adaptive if the method estimates its error (`h` is then the first step),
    /// else with fixed steps `h`.
    ///
    /// # Errors
    /// [`Error::FixedStepMissing`] when the method needs `h` and none is given.
    pub fn for_method(
        method: impl Into<Method>,
        tolerance: impl Into<Tolerances>,
        h: Option<f64>,
    ) -> Result<Self> {
        let method = method.into();
        match h {
            _ if method.is_adaptive() => {
                Ok(Self { first_step: h, ..Self::adaptive(method, tolerance) })
            }
            Some(h) => Ok(Self::fixed(method, h)),
            None => Err(Error::FixedStepMissing { method: method.name().to_owned() }),
        }
    }

    fn new(method: Method, stepping: Stepping) -> Self {
        Self {
            method,
            stepping,
            controller: Pid::default(),
            first_step: None,
            h_min: 0.0,
            h_max: f64::INFINITY,
            step_ts: Vec::new(),
            jump_ts: Vec::new(),
            stable_steps: StableSteps::default(),
            max_steps: Self::MAX_STEPS,
            trace: false,
            batching: Batching::default(),
            on_failure: OnFailure::default(),
            newton: Newton::default(),
            progress: None,
        }
    }

    /// Returns the same solver with tolerances multiplied by `factor`, or with fixed steps of half the size. Compare a
    /// result with it to see the influence of the tolerance or the step.
    ///
    /// # Errors
    /// Only if a tensor of tolerances cannot be multiplied.
    pub fn tightened(&self, factor: f64) -> Result<Self> {
        let stepping = match &self.stepping {
            Stepping::Adaptive(tolerances) => Stepping::Adaptive(tolerances.scaled(factor)?),
            Stepping::FixedSize(h) => Stepping::FixedSize(0.5 * h),
            Stepping::FixedCount(count) => Stepping::FixedCount(2 * count),
        };
        // Steps grow as a power of the tolerance that is less than a half, but for methods of first order.
        let max_steps = self.max_steps.saturating_mul(4);
        Ok(Self { stepping, max_steps, ..self.clone() })
    }

    /// Returns the initial state as the solve holds it: in candle's graph if it traces, else a copy, since the
    /// state may be a variable, or a view of one, that is set while a solution still holds its start.
    pub fn own(&self, y0: &Tensor) -> Result<Tensor> {
        if self.trace { Ok(y0.clone()) } else { Ok(y0.detach().force_contiguous()?) }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`], [`Error::NoErrorEstimate`] or [`Error::TimeNotFinite`]; values of
    /// tolerances are checked where they meet the state.
    pub fn validate(&self) -> Result<()> {
        self.controller.validate()?;
        match self.stepping {
            Stepping::Adaptive(_) if !self.method.is_adaptive() => {
                return Err(Error::NoErrorEstimate { method: self.method.name().to_owned() });
            }
            Stepping::Adaptive(Tolerances::Uniform(tolerance)) => tolerance.check(DType::F64)?,
            Stepping::FixedSize(h) => positive("fixed step", h)?,
            Stepping::FixedCount(0) => {
                return Err(Error::InvalidSetting {
                    name: "fixed step count",
                    value: 0.0,
                    range: "at least 1",
                });
            }
            _ => {}
        }
        self.method.validate()?;
        if let (Method::Auto(_), Stepping::FixedSize(_) | Stepping::FixedCount(_)) =
            (&self.method, &self.stepping)
        {
            return Err(Error::SwitchingUncontrolled);
        }
        let Newton { fraction, max_iterations } = self.newton;
        setting(
            "newton.fraction",
            fraction,
            0.0 < fraction && fraction <= 1.0,
            "above 0 and at most 1",
        )?;
        setting("newton.max_iterations", max_iterations as f64, max_iterations > 1, "at least 2")?;
        if self.trace && self.method.is_implicit() {
            return Err(Error::TracedImplicit { method: self.method.name().to_owned() });
        }
        if let Some(h) = self.first_step {
            positive("first_step", h)?;
        }
        setting(
            "h_min",
            self.h_min,
            self.h_min >= 0.0 && self.h_min.is_finite(),
            "at least 0 and finite",
        )?;
        setting("h_max", self.h_max, self.h_max > self.h_min, "above h_min")?;
        for ts in [&self.step_ts, &self.jump_ts] {
            if let Some((index, &t)) = ts.iter().enumerate().find(|(_, t)| !t.is_finite()) {
                return Err(Error::TimeNotFinite { index, t });
            }
        }
        Ok(())
    }

    /// Lists the times inside the span that steps must hit, in its direction.
    pub(crate) fn stops(&self, span: TimeSpan) -> Vec<f64> {
        let inside = |t: &&f64| span.before(span.t0, **t) && span.before(**t, span.t1);
        let mut stops: Vec<f64> =
            self.step_ts.iter().chain(&self.jump_ts).filter(inside).copied().collect();
        stops.sort_by(|a, b| (a * span.sign()).total_cmp(&(b * span.sign())));
        stops.dedup();
        stops
    }
}

fn positive(name: &'static str, value: f64) -> Result<()> {
    setting(name, value, value > 0.0 && value.is_finite(), "positive and finite")
}

/// Where a solve stands after an accepted step.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Time reached.
    pub t: f64,
    /// Size of the accepted step, signed.
    pub h: f64,
    /// Fraction of the span that is done, in `[0, 1]`.
    pub fraction: f64,
    /// Accepted steps so far.
    pub accepted: usize,
    /// Rejected steps so far.
    pub rejected: usize,
}

/// A callback for [`Solver::progress`].
#[derive(Clone)]
pub struct ProgressFn(Arc<dyn Fn(Progress) + Send + Sync>);

impl ProgressFn {
    /// Wraps the callback.
    pub fn new(callback: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        Self(Arc::new(callback))
    }

    /// Calls it.
    pub fn call(&self, progress: Progress) {
        (self.0)(progress);
    }
}

impl fmt::Debug for ProgressFn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProgressFn")
    }
}

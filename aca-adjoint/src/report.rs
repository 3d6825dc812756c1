//! What a backward pass finds out about its solve.

use std::sync::Arc;

use crate::GradientError;
use aca_core::Result;
use aca_core::kernels::Products;

/// What happens with a gradient that cannot be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Untrusted {
    /// The backward pass fails with [`GradientError::UntrustedGradient`].
    #[default]
    Refuse,
    /// The gradient is returned, and [`GradientReport::doubt`] says what is wrong with it.
    Flag,
}

/// Estimates of how much the errors of a solve's steps change its loss: the dual-weighted residual `sum_n a_(n+1) .
/// e_n`, where `e_n` is the error estimate of step `n` and `a_(n+1)` the cotangent of its end.
///
/// The estimate is of first order, and `e_n` belongs to the method's lower order, while the solution
/// goes on with the higher: both numbers are usually well above the loss's true error, at tight tolerances by
/// orders of magnitude. Where errors cancel by chance, `signed` may be far too small; `bound` lets nothing cancel.
///
/// # Source
/// Becker, Rannacher, "An optimal control approach to a posteriori error estimation in finite element
/// methods", Acta Numerica 10 (2001); Cao, Petzold, "A posteriori error estimation and global error
/// control for ordinary differential equations by the adjoint method", SIAM J. Sci. Comput. 26 (2004).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossError {
    /// The sum with its signs: an estimate of computed loss minus true loss, up to its sign convention.
    pub signed: f64,
    /// Twice the sum of the magnitudes over steps and entries: a bound, to first order and as far as the steps' own
    /// error estimates are honest.
    pub bound: f64,
}

/// What a backward pass by replay found out about its loss, to first order.
#[derive(Clone, Debug, Default)]
pub struct GradientReport {
    /// How much the errors of all steps change the loss; zero for methods and steps without error estimate.
    pub loss_error: LossError,
    /// The same for each sample, if samples stepped on their own.
    pub sample_loss_errors: Vec<LossError>,
    /// The weight of the outputs in the loss: the sum of their cotangents' norms times the largest norm of the states
    /// on the way. A loss error of this size means that nothing is known about the outputs.
    pub loss_weight: f64,
    /// Largest factor by which the cotangent grew in one step. If it is above 3, compare the gradient with one at a
    /// tighter tolerance: see [`Ode::check_gradient`](crate::Ode::check_gradient). Long steps of implicit methods over
    /// components of different size have more with right gradients.
    pub growth: f64,
    /// Start of the step with that growth.
    pub growth_t: f64,
    /// Accepted steps of the solve.
    pub steps: usize,
    /// How many of them were at the method's stability limit.
    pub stability_limited: usize,
    /// Positions of the parameters that no replayed stage reached: their gradients are zero because nothing depends on
    /// them, or because the field detaches them.
    pub unreached: Vec<usize>,
    /// Why the gradient cannot be trusted, where [`Untrusted::Flag`] let it pass.
    pub doubt: Option<Arc<GradientError>>,
    /// What a judgement of several pieces together needs.
    pub(crate) totals: Totals,
}

/// What a judgement of several pieces of a solve together needs beside their reports.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    /// Sum of `|a . e|` over steps.
    magnitude: f64,
    /// The largest norm of each sample's states.
    pub(crate) sizes: Vec<f64>,
    /// Whether the growth of cotangents in a step says something.
    bounds_growth: bool,
}

impl GradientReport {
    /// Joins this report, of a piece of a solve, to that of what follows.
    pub(crate) fn and(mut self, later: Self) -> Self {
        let add = |own: &mut LossError, later: &LossError| {
            own.signed += later.signed;
            own.bound += later.bound;
        };
        add(&mut self.loss_error, &later.loss_error);
        let samples = self.sample_loss_errors.iter_mut().zip(&later.sample_loss_errors);
        samples.for_each(|(own, later)| add(own, later));
        self.totals.magnitude += later.totals.magnitude;
        self.totals.bounds_growth |= later.totals.bounds_growth;
        let sizes = self.totals.sizes.iter_mut().zip(&later.totals.sizes);
        sizes.for_each(|(own, later)| *own = own.max(*later));
        if later.growth > self.growth {
            (self.growth, self.growth_t) = (later.growth, later.growth_t);
        }
        Self {
            loss_weight: self.loss_weight + later.loss_weight,
            steps: self.steps + later.steps,
            stability_limited: self.stability_limited + later.stability_limited,
            doubt: self.doubt.or(later.doubt),
            ..self
        }
    }

    /// Judges the gradient by what the outputs weigh in the loss.
    ///
    /// # Errors
    /// [`GradientError::UntrustedGradient`] unless such gradients are flagged.
    pub(crate) fn judge(self, untrusted: Untrusted) -> Result<Self> {
        let Self { loss_weight, growth, growth_t: t, stability_limited: limited, steps, .. } = self;
        let bound = self.totals.magnitude / loss_weight;
        // A solution that is zero all along weighs nothing.
        let meaningless = bound > MEANINGLESS && loss_weight > 0.0;
        if !(meaningless || (self.totals.bounds_growth && growth > IMPLAUSIBLE)) {
            return Ok(Self { doubt: None, ..self });
        }
        let doubt = GradientError::UntrustedGradient { bound, growth, t, limited, steps };
        match untrusted {
            Untrusted::Refuse => Err(doubt.into()),
            Untrusted::Flag => Ok(Self { doubt: Some(Arc::new(doubt)), ..self }),
        }
    }
}

/// What one row of a replayed step tells.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RowFinding {
    /// Products of the step's error estimate, divided by the step size, with the cotangent that arrived at its end,
    /// outputs inside included; and squares of that one, of the one that left at its start, and of
    /// the state there.
    pub(crate) products: Products,
    /// Sum of the norms of the cotangents of outputs inside the step, or a bound of it.
    pub(crate) outputs: f64,
    /// Distance of the replayed end from what ran, relative to its size.
    pub(crate) off: f64,
}

/// The largest relative distance of a replayed end that rounding can explain, where the field's pullback computes its
/// value in another order than its evaluation.
pub(crate) fn rounding(epsilon: f64) -> f64 {
    256.0 * epsilon
}

/// What a bound counts estimates for: at tolerances around 1e-4 the true error of a step may be some four times its
/// estimate (DOPRI5 on Lotka-Volterra), and a bound within a third of the truth is what users can plan with.
const SAFETY: f64 = 2.0;

/// Part of the loss's weight beyond which its error bound makes a gradient worthless.
const MEANINGLESS: f64 = 1.0;

/// Growth of a cotangent in one step that no step under error control should have: the system amplifies more in it than
/// its error estimate can see, or the step lies far beyond its stability limit in a direction that the solution does not
/// take. Right gradients had up to 28 (BOSH3 on a saturating network), wrong ones from 174 on.
const IMPLAUSIBLE: f64 = 100.0;

/// Collects what the steps of one backward pass tell.
#[derive(Default)]
pub(crate) struct Audit {
    samples: Vec<LossError>,
    /// Sum of `|a . e|` over steps, whose entries may cancel within a step.
    magnitude: f64,
    /// For every sample the sum of its outputs' cotangents' norms, and the largest norm of its states.
    outputs: Vec<[f64; 2]>,
    squared_growth: f64,
    growth_t: f64,
    rounding: f64,
}

impl Audit {
    /// Prepares for so many samples, one for a state that steps as a whole, whose replayed ends may lie as far from
    /// those that ran as `rounding` says.
    pub(crate) fn new(samples: usize, rounding: f64) -> Self {
        let outputs = vec![[0.0; 2]; samples];
        let samples = vec![LossError::default(); samples];
        Self { samples, outputs, rounding, ..Self::default() }
    }

    /// Takes in a sample's step, its number among those of its solve, and what was found in it.
    ///
    /// # Errors
    /// [`GradientError::ReplayMismatch`], [`GradientError::CotangentNotFinite`].
    pub(crate) fn add(
        &mut self,
        sample: usize,
        (step, t0, t1): (usize, f64, f64),
        found: &RowFinding,
    ) -> Result<()> {
        let Products { error, magnitude, arriving, leaving, state } = found.products;
        if found.off > self.rounding || found.off.is_nan() {
            return Err(GradientError::ReplayMismatch { step, t: t1, off: found.off }.into());
        }
        if arriving.is_finite() && !leaving.is_finite() {
            return Err(GradientError::CotangentNotFinite { t: t0, step }.into());
        }
        let (own, h) = (&mut self.samples[sample], t1 - t0);
        own.signed += h * error;
        own.bound += SAFETY * h.abs() * magnitude;
        self.magnitude += (h * error).abs();
        let [outputs, size] = &mut self.outputs[sample];
        *outputs += found.outputs;
        *size = size.max(state.sqrt());
        // A cotangent so small that its square is zero says nothing of growth.
        if arriving > 0.0 && leaving > self.squared_growth * arriving {
            (self.squared_growth, self.growth_t) = (leaving / arriving, t0);
        }
        Ok(())
    }

    /// Takes in the norms of the cotangent of an output at the end of a step, and of the state there.
    pub(crate) fn add_output(&mut self, sample: usize, cotangent: f64, state: f64) {
        let [outputs, size] = &mut self.outputs[sample];
        *outputs += cotangent;
        *size = size.max(state);
    }

    /// Joins all findings; `steps` and how many of them were at the stability limit come from the solve.
    ///
    /// # Errors
    /// [`GradientError::UntrustedGradient`] unless such gradients are flagged.
    pub(crate) fn finish(
        self,
        (steps, stability_limited): (usize, usize),
        (bounds_growth, untrusted): (bool, Untrusted),
    ) -> Result<GradientReport> {
        let mut report = GradientReport {
            loss_weight: self.outputs.iter().map(|[outputs, size]| outputs * size).sum(),
            growth: self.squared_growth.sqrt(),
            growth_t: self.growth_t,
            steps,
            stability_limited,
            totals: Totals {
                magnitude: self.magnitude,
                sizes: self.outputs.iter().map(|[_, size]| *size).collect(),
                bounds_growth,
            },
            ..GradientReport::default()
        };
        for own in &self.samples {
            report.loss_error.signed += own.signed;
            report.loss_error.bound += own.bound;
        }
        if self.samples.len() > 1 {
            report.sample_loss_errors = self.samples;
        }
        report.judge(untrusted)
    }
}

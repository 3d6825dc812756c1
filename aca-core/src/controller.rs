//! Step-size control.

use crate::{Error, Result};

/// Proportional-integral-derivative control of the step size: after a step with error ratio `e_n`
/// the next step is `h * factor`,
///
/// `factor = safety * e_n^(-(p + i + d)/q) * e_(n-1)^((p + 2d)/q) * e_(n-2)^(-d/q)`,
///
/// clipped to `[factor_min, factor_max]`, where the error falls as `h^q`. The factor is at most 1
/// right after a rejection, and a rejected step is retried by the integral term alone.
///
/// # Source
/// Soederlind, "Digital filters in adaptive time-stepping", ACM TOMS 29 (2003); Hairer, Norsett,
/// Wanner I, II.4; the coefficients of [`Pid::PID`] from the documentation of ARKODE (SUNDIALS).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pid {
    /// Proportional coefficient.
    pub p: f64,
    /// Integral coefficient.
    pub i: f64,
    /// Derivative coefficient.
    pub d: f64,
    /// Factor below 1 that keeps the next step from being rejected.
    pub safety: f64,
    /// Smallest factor from one step to the next.
    pub factor_min: f64,
    /// Largest factor from one step to the next.
    pub factor_max: f64,
}

impl Pid {
    /// The classic controller, which looks at the last error only.
    pub const I: Self =
        Self { p: 0.0, i: 1.0, d: 0.0, safety: 0.9, factor_min: 0.2, factor_max: 10.0 };

    /// Gustafsson's choice, smoother where stability rather than accuracy bounds the step.
    pub const PI: Self = Self { p: 0.4, i: 0.3, ..Self::I };

    /// The PID of ARKODE, smoothest of the three.
    pub const PID: Self = Self { p: 0.01, i: 0.47, d: 0.1, ..Self::I };

    pub(crate) fn validate(&self) -> Result<()> {
        let finite = "finite, with p + i + d positive";
        setting("controller.p", self.p, self.p.is_finite(), finite)?;
        setting("controller.d", self.d, self.d.is_finite(), finite)?;
        let gain = self.p + self.i + self.d;
        setting("controller.i", self.i, gain > 0.0 && gain.is_finite(), finite)?;
        let (safety, low, high) = (self.safety, self.factor_min, self.factor_max);
        setting("controller.safety", safety, safety > 0.0 && safety <= 1.0, "in (0, 1]")?;
        setting("controller.factor_min", low, low > 0.0 && low < 1.0, "in (0, 1)")?;
        setting("controller.factor_max", high, high > 1.0 && high.is_finite(), "above 1 and finite")
    }
}

impl Default for Pid {
    fn default() -> Self {
        Self::I
    }
}

pub(crate) fn setting(
    name: &'static str,
    value: f64,
    allowed: bool,
    range: &'static str,
) -> Result<()> {
    if allowed { Ok(()) } else { Err(Error::InvalidSetting { name, value, range }) }
}

/// A [`Pid`] at work: remembers the error ratios of the last two accepted steps.
#[derive(Clone, Debug)]
pub struct StepControl {
    /// Of the last ratio and the two before.
    exponents: [f64; 3],
    /// Of a ratio whose step is rejected.
    retry: f64,
    safety: f64,
    factor_min: f64,
    factor_max: f64,
    ratios: [f64; 2],
    rejected: bool,
}

impl StepControl {
    /// Starts the controller for an error estimate that falls as `h^error_order`, at least 1.
    pub fn new(pid: Pid, error_order: usize) -> Self {
        let Pid { p, i, d, safety, factor_min, factor_max } = pid;
        let order = error_order.max(1) as f64;
        let exponents = [-(p + i + d), p + 2.0 * d, -d].map(|e| e / order);
        let (retry, ratios, rejected) = (-1.0 / order, [1.0; 2], false);
        Self { exponents, retry, safety, factor_min, factor_max, ratios, rejected }
    }

    /// Returns the factor from the accepted step to the next one; a ratio that is not finite, which no
    /// step should be accepted with, shrinks the step as far as allowed.
    pub fn accept(&mut self, ratio: f64) -> f64 {
        let Self { safety, factor_min, factor_max, .. } = *self;
        if !ratio.is_finite() {
            return factor_min;
        }
        // A vanishing error would make the powers infinite; 1e-10 is beyond factor_max anyway.
        let ratio = ratio.max(1e-10);
        let [last, before] = self.ratios;
        let powers = [ratio, last, before].into_iter().zip(self.exponents);
        // A power costs as much as a small stage sum, and the classic controller needs one of three.
        let powers = powers.filter(|(_, e)| *e != 0.0).map(|(x, e)| x.powf(e)).product::<f64>();
        let highest = if self.rejected { 1.0 } else { factor_max };
        self.ratios = [ratio, last];
        self.rejected = false;
        (safety * powers).clamp(factor_min, highest)
    }

    /// Returns the factor from the rejected step to its retry; a ratio that is not finite shrinks
    /// the step as far as allowed.
    pub fn reject(&mut self, ratio: f64) -> f64 {
        let Self { safety, factor_min, .. } = *self;
        self.rejected = true;
        if !ratio.is_finite() {
            return factor_min;
        }
        (safety * ratio.powf(self.retry)).min(safety).max(factor_min)
    }
}

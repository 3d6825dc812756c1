//! Where an output lies.

/// Where an output lies among the accepted steps: at the fraction `s` of step `step`, so at
/// `t0 + s h` of that step; 0 and 1 mean its ends exactly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placement {
    /// Index of the accepted step.
    pub step: usize,
    /// Fraction of the step, in `[0, 1]`.
    pub s: f64,
}

impl Placement {
    /// Places `t` in step `step` from `t0` to `t1`.
    pub fn new(step: usize, (t0, t1): (f64, f64), t: f64) -> Self {
        let s = if t == t1 { 1.0 } else { (t - t0) / (t1 - t0) };
        Self { step, s }
    }

    /// Whether the output lies strictly inside its step, so that the interpolant gives it.
    pub fn is_inside(&self) -> bool {
        self.s != 0.0 && self.s != 1.0
    }
}

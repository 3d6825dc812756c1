//! What a scheme does to the numbers of one step, wherever these live.
//!
//! A step goes from `y0` to `y1 = y0 + h sum(b_i k_i)`: whatever a scheme computes, it leaves slopes `k_i`, and
//! end, error estimates and interpolant are weighted sums of them. So a scheme says two things alone: how its slopes
//! come about ([`Stages`]), and how cotangents of the slopes go back ([`StageCotangents`]). Both are told in
//! weights, and run on tensors of any device and on slices.

use crate::Result;

/// The slopes of a step under way.
pub trait Stages {
    /// How many slopes there are.
    fn known(&self) -> usize;

    /// Appends the slope `f(t0 + c h, y0 + h sum(w_j k_j))`.
    fn evaluate(&mut self, c: f64, weights: &[f64]) -> Result<()>;

    /// Appends the sum `sum(w_j k_j)`.
    fn mix(&mut self, weights: &[f64]) -> Result<()>;
}

/// Cotangents of the slopes of a step, from the last to the first.
///
/// What reaches slope `i` from outside the step, `h (b_i a + sum_m b_i(s_m) g_m)` for the cotangent `a` of the end and
/// `g_m` of outputs at the fractions `s_m`, is there already.
pub trait StageCotangents {
    /// Completes the cotangent of a slope that was evaluated, with what later stages make of it,
    /// `lambda_i = .. + h sum_j(w_j mu_j)`, and pulls it back through the field to `mu_i`. Slopes that nothing depends on
    /// are left out.
    fn pull(&mut self, i: usize, weights: &[f64]) -> Result<()>;
}

//! Schemes: how a method computes the slopes of one step.
//!
//! A step goes from `y0` to `y1 = y0 + h sum(b_i k_i)`. Its end, error estimates and interpolant are weighted sums of
//! its slopes `k_i`, so a scheme defines only two things: how it computes the slopes (by [`Stages`]), and how
//! cotangents of the slopes go back (by [`StageCotangents`]). Both work with weights instead of numbers. They run on
//! tensors of any device and on slices, for a whole state and for samples that step on their own.

use std::fmt;

use aca_tableau::Interpolant;

use crate::{Error, Part, Result};

/// A method that you write: it computes the slopes of a step, and takes their cotangents back.
///
/// # Example
/// The implicit midpoint rule is in the example `12_a_scheme_of_your_own` of aca-models.
pub trait Scheme: fmt::Debug + Send + Sync {
    /// Its name.
    fn name(&self) -> &str;

    /// Its constants, which a solve reads before it starts.
    fn facts(&self) -> Facts;

    /// Appends the slopes of a step: as many as there are weights `b`.
    ///
    /// # Errors
    /// Whatever the field returns; [`Error::SchemeFailed`] where the scheme finds no slopes.
    fn fill(&self, stages: &mut dyn Stages) -> Result<()>;

    /// Pulls cotangents of these slopes back, from the last to the first.
    ///
    /// # Errors
    /// As [`Scheme::fill`].
    fn pull(&self, cotangents: &mut dyn StageCotangents) -> Result<()>;
}

/// The constants of a [`Scheme`], which a solve reads before it starts.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The power of the step size by which the error estimate falls; `None` for fixed steps alone.
    pub error_order: Option<usize>,
    /// The weights of a step's slopes.
    pub b: Vec<f64>,
    /// The weights of the error estimate, which is `h sum(w_i k_i)`; none without one.
    pub b_error: Option<Vec<f64>>,
    /// The solution inside a step; [`Interpolant::hermite_with_ends`] fits any scheme.
    pub interpolant: Interpolant,
}

impl Facts {
    /// Refuses lists of different lengths.
    pub(crate) fn validate(&self, name: &str) -> Result<()> {
        let stages = self.b.len();
        let estimate = self.b_error.as_ref().is_none_or(|weights| weights.len() == stages);
        let own = self.interpolant.stages() == stages + self.interpolant.extra_stages();
        let order = self.error_order.is_some() == self.b_error.is_some();
        match stages > 0 && estimate && own && order && self.error_order != Some(0) {
            true => Ok(()),
            false => Err(Error::InvalidScheme { method: name.to_owned() }),
        }
    }
}

/// A half of the last dimension of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// The first half: positions.
    First,
    /// The second half: momenta.
    Second,
}

/// The slopes of a step under way.
pub trait Stages {
    /// How many slopes there are.
    fn known(&self) -> usize;

    /// Appends the slope `f(t0 + c h, y0 + h sum(w_j k_j))`. If `half` is given, the other half is set to zero.
    fn evaluate(&mut self, c: f64, weights: &[f64], half: Option<Half>) -> Result<()>;

    /// Appends the slope that solves `k = f(t0 + c h, y0 + h sum(w_j k_j) + h gamma k)`, by Newton's iteration from
    /// `sum(g_j k_j)`; without `guess` from the last slope.
    ///
    /// # Errors
    /// [`Error::SchemeFailed`] where the iteration does not converge for any row; slopes of single rows of samples are
    /// NaN then, which rejects their steps. [`Error::JacobianTooLarge`].
    fn solve(&mut self, c: f64, gamma: f64, weights: &[f64], guess: &[f64]) -> Result<()>;

    /// Lets the slopes that follow be those of one part of the field, or of all of it again.
    ///
    /// # Errors
    /// [`Error::FieldNotSplit`] where the field tells no [parts](crate::VectorField::parts).
    fn select(&mut self, part: Option<Part>) -> Result<()>;

    /// Evaluates slope `i` again as `f(t0 + c h, y0 + h sum(w_j k_j))`, its own present value among the `k_j`: one step
    /// of an iteration for an implicit stage. It keeps its half, if it has one. Returns the largest change of a row,
    /// relative to its size.
    fn renew(&mut self, i: usize, c: f64, weights: &[f64]) -> Result<f64>;
}

/// Slopes that a method of this crate adds up itself, and pulls back by a walk of its own.
pub(crate) trait MixedStages: Stages {
    /// Appends the sum `sum(w_j k_j)`.
    fn mix(&mut self, weights: &[f64]) -> Result<()>;
}

/// The halves that slopes were cut down to, with the slopes' numbers: none for most methods.
pub type Halves = Vec<(usize, Half)>;

/// The half that slope `i` was cut down to.
pub fn half_of(halves: &Halves, i: usize) -> Option<Half> {
    halves.iter().find(|(slope, _)| *slope == i).map(|(_, half)| *half)
}

/// Refuses weights of slopes that do not exist.
#[inline]
pub(crate) fn check_weights(weights: &[f64], known: usize) -> Result<()> {
    match weights.len() <= known {
        true => Ok(()),
        false => Err(Error::StageCount { what: "weights", got: weights.len(), expected: known }),
    }
}

/// Cotangents of the slopes of a step, from the last to the first.
///
/// What reaches slope `i` from outside the step, `h (b_i a + sum_m b_i(s_m) g_m)` for the cotangent `a` of the end and
/// `g_m` of outputs at the fractions `s_m`, is included already.
pub trait StageCotangents {
    /// Completes the cotangent of a slope that was evaluated, by the contributions of other stages, `lambda_i = .. + h
    /// sum_j(w_j mu_j)`, and pulls it back through the field to `mu_i`. Slopes that nothing depends on are left out.
    fn pull(&mut self, i: usize, weights: &[f64]) -> Result<()>;

    /// As [`StageCotangents::pull`] of a slope that was [solved](Stages::solve) for with `gamma`: its cotangent solves
    /// `(I - h gamma J)^T lambda_i = .. + h sum_j(w_j mu_j)` over the slopes after it.
    ///
    /// # Errors
    /// As [`Stages::solve`].
    fn solve(&mut self, i: usize, gamma: f64, weights: &[f64]) -> Result<()>;

    /// As [`StageCotangents::pull`], without adding cotangents of the parameters: one step of an iteration for an
    /// implicit stage, with `mu_i` among the `mu_j` (zero at first). Returns the largest change of a row of `mu_i`,
    /// relative to its size.
    fn settle(&mut self, i: usize, weights: &[f64]) -> Result<f64>;
}

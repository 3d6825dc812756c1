//! Implicit stages: `k = f(t, base + h gamma k)` solved by Newton's iteration, and its transposed linear systems.

use candle_core::Tensor;

use crate::{Evaluator, Result, Steps, Time};

mod lu;
mod matrices;
mod newton;

pub use matrices::StageMatrices;
pub(crate) use matrices::{jacobians, jacobians_on_slices, like, numbers};
pub use newton::Newton;

pub use newton::NewtonState;
pub(crate) use newton::{NewtonRule, StageField, failed};

/// How many systems states of these `dims` hold: a sample that steps on its own is one, and so is each row of a whole state
/// whose rows the field treats apart.
///
/// # Errors
/// Whatever the field returns.
pub fn systems(
    field: &Evaluator<'_>,
    steps: &Steps,
    dims: &[usize],
    t: impl FnOnce() -> Result<Time>,
    y: impl FnOnce() -> Result<Tensor>,
) -> Result<usize> {
    match (steps.is_whole(), dims) {
        (false, _) => Ok(steps.rows()),
        (true, [rows, _, ..]) if field.are_rows_apart(t, y)? => Ok(*rows),
        _ => Ok(1),
    }
}

//! Implicit stages: `k = f(t, base + h gamma k)` solved by Newton's iteration, and its transposed linear systems.

use candle_core::Tensor;

use crate::{Error, Evaluator, Result, Steps, Time};

mod band;
mod convergence;
mod gmres;
mod jacobian;
mod lu;
mod matrices;
mod matrix_free;
mod newton;
mod sparsity;
mod transposed;

pub(crate) use convergence::NewtonRule;
pub use jacobian::{Jacobian, Preconditioner, StagePoint, Structure};
pub(crate) use matrices::{StageMatrices, like, numbers};
pub use matrices::{products, products_on_slices};
pub use newton::{Newton, NewtonState};
pub(crate) use newton::{StageField, StageSystem};
pub use sparsity::Sparsity;
pub use transposed::TransposedSystems;

/// Solves `k = f(t, base + h gamma k)` for all systems of a state, from the guess in `k`. Where the rows of a whole state
/// seemed apart and are not solved, `are_apart` asks once more, and rows that are joined here are solved together.
///
/// # Errors
/// [`Error::SchemeFailed`] where no system is solved, or one of a whole state is not; whatever the field returns.
pub(crate) fn solve_stage(
    newton: &mut NewtonState,
    system: &StageSystem<'_>,
    k: &mut [f64],
    (field, blocks, is_whole): (&mut dyn StageField, usize, bool),
    are_apart: impl FnOnce() -> Result<bool>,
) -> Result<()> {
    let mut solved = newton.solve(system, k, (&mut *field, blocks))?;
    if is_whole && solved < blocks && blocks > 1 && !are_apart()? {
        solved = newton.solve_joined(system, k, field)? * blocks;
    }
    if solved == 0 || (is_whole && solved < blocks) {
        let what = "Newton's iteration for an implicit stage does not converge".to_owned();
        return Err(Error::SchemeFailed { method: system.method.to_owned(), what });
    }
    Ok(())
}

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

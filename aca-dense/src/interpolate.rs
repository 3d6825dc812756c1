//! The interpolant of one step.

use aca_core::kernels::{self, Terms};
use aca_core::{Error, Result, Stepper};
use candle_core::Tensor;

/// Returns `y0 + h sum(b_i(s) k_i)` for every fraction `s` of a step, in one pass.
///
/// # Shapes
/// `y0` and every `k_i` (all of the interpolant's stages): `[..state]`; result: `[s, ..state]`.
///
/// # Errors
/// [`Error::StageCount`] when stages are missing.
pub fn interpolate(
    method: &Stepper,
    y0: &Tensor,
    h: f64,
    k: &[Tensor],
    s: &[f64],
) -> Result<Tensor> {
    check_stages(method, k)?;
    kernels::combine_rows(y0, &weights(method, h, k.len(), s), &k.iter().collect::<Vec<_>>())
}

/// The weights `h b_i(s)` of the slopes, a row for every fraction.
fn weights(method: &Stepper, h: f64, stages: usize, s: &[f64]) -> Vec<f64> {
    let mut weights = vec![0.0; s.len() * stages];
    for (row, &s) in weights.chunks_exact_mut(stages).zip(s) {
        method.interpolant().weights_into(s, row);
        row.iter_mut().for_each(|w| *w *= h);
    }
    weights
}

/// Returns `y'(t0 + s h) = sum(b_i'(s) k_i)`.
///
/// # Shapes
/// As [`interpolate`]; result: `[..state]`.
///
/// # Errors
/// As [`interpolate`].
pub fn interpolate_derivative(method: &Stepper, k: &[Tensor], s: f64) -> Result<Tensor> {
    check_stages(method, k)?;
    let weights = method.interpolant().derivative_weights(s);
    kernels::combine(None, &weights.into_iter().zip(k).collect::<Terms<'_>>())
}

/// Refuses the stages of a step that was not completed.
fn check_stages(method: &Stepper, k: &[Tensor]) -> Result<()> {
    match (k.len(), method.interpolant().stages()) {
        (got, expected) if got == expected => Ok(()),
        (got, expected) => Err(Error::StageCount { what: "slopes", got, expected }),
    }
}

//! The first step size.

use candle_core::Tensor;

use crate::kernels::{self, Scale};
use crate::{Evaluator, Result, TimeSpan};

/// Returns the magnitude of a first step whose error is probably below the tolerance; costs one
/// evaluation of the field.
///
/// # Source
/// Hairer, Norsett, Wanner I, II.4, "starting step size"; unlike there the trial step ends at the
/// first stop at the latest, so that the field is evaluated neither outside the span nor beyond a
/// jump.
pub(crate) fn initial_step(
    f: &Evaluator<'_>,
    ahead: TimeSpan,
    y0: &Tensor,
    k1: &Tensor,
    scale: &Scale,
    error_order: usize,
) -> Result<f64> {
    let length = (ahead.t1 - ahead.t0).abs();
    let norm = |x: &[&Tensor], weights: Vec<f64>| -> Result<f64> {
        Ok(kernels::scaled_norms(y0, y0, scale, x, &[weights])?[0])
    };
    let (d0, d1) = (norm(&[y0], vec![1.0])?, norm(&[k1], vec![1.0])?);
    let h0 = if d0 < 1e-5 || d1 < 1e-5 { 1e-6 } else { 0.01 * d0 / d1 };
    let h0 = h0.min(length);
    let y1 = kernels::combine(Some(y0), &[(ahead.sign() * h0, k1)])?;
    let t1 = if h0 == length { ahead.t1 } else { ahead.t0 + ahead.sign() * h0 };
    let k2 = f.eval(t1, &y1)?;
    let d2 = norm(&[&k2, k1], vec![1.0, -1.0])? / h0;
    let steepest = d1.max(d2);
    let h1 = if steepest <= 1e-15 {
        (h0 * 1e-3).max(1e-6)
    } else {
        (0.01 / steepest).powf(1.0 / error_order as f64)
    };
    // NaN slopes at the trial point leave h0 alone: the first step finds out what is wrong.
    Ok(h1.min(100.0 * h0).min(length).max(f64::MIN_POSITIVE))
}

//! The first step size.

use candle_core::Tensor;
use smallvec::SmallVec;

use crate::kernels::{self, RowNorms, Scale};
use crate::{Evaluator, Result, Steps, Time};

/// Returns for every row the magnitude of a first step whose error is probably below the tolerance; costs one
/// evaluation of the field. Rows that rest get any number.
///
/// # Source
/// Hairer, Norsett, Wanner I, II.4, "starting step size"; unlike there the trial step ends at the
/// first stop at the latest, where the steps `ahead` end, so that the field is evaluated neither outside the span nor
/// beyond a jump.
pub(crate) fn initial_steps(
    f: &Evaluator<'_>,
    ahead: &Steps,
    (y0, k1): (&Tensor, &Tensor),
    scale: &Scale,
    error_order: usize,
) -> Result<SmallVec<[f64; 1]>> {
    let norms = |x: &[&Tensor], weights: &[Vec<f64>]| -> Result<RowNorms> {
        kernels::norms(ahead.rows(), (y0, y0), scale, x, weights)
    };
    // Norms of two tensors, of which a GPU makes both at once.
    let (d, h) = (norms(&[y0, k1], &[vec![1.0, 0.0], vec![0.0, 1.0]])?, ahead.h());
    let h0: SmallVec<[f64; 1]> = d.iter().zip(h).map(|(d, h)| trial(d[0], d[1], h.abs())).collect();
    let signed: SmallVec<[f64; 1]> = h0.iter().zip(h).map(|(h0, h)| h0.copysign(*h)).collect();
    let y1 = kernels::combine_steps(Some(y0), &signed, &[(1.0, k1)])?;
    let end = |row: usize| match (ahead.ends(row), h0[row] == h[row].abs()) {
        ((_, t1), true) => t1,
        ((t0, _), false) => t0 + signed[row],
    };
    let ends = match ahead.samples() {
        None => Time::new(end(0)),
        Some(samples) => Time::of_samples((0..ahead.rows()).map(end).collect(), samples.clone())?,
    };
    let k2 = f.eval_at(&ends, &y1)?;
    let d2 = norms(&[&k2, k1], &[vec![1.0, -1.0]])?;
    let first = |row: usize| {
        let steepest = steepest(d[row][1], d2[row][0] / h0[row]);
        first(h0[row], steepest, h[row].abs(), error_order)
    };
    Ok((0..ahead.rows()).map(first).collect())
}

/// Magnitude of the step that tries out the field, from the norms of state and slope.
fn trial(d0: f64, d1: f64, length: f64) -> f64 {
    let h0 = if d0 < 1e-5 || d1 < 1e-5 { 1e-6 } else { 0.01 * d0 / d1 };
    h0.min(length)
}

/// Norm of the steepest derivative that is known: the first one, `d1`, or the second, `d2`. Where the field
/// overflows at the trial point, or is no number there, the slope at the start has to do: an infinite `d2`
/// would ask for a step of no length, and error control finds a good one from too long a step soon.
fn steepest(d1: f64, d2: f64) -> f64 {
    if d2.is_finite() { d1.max(d2) } else { d1 }
}

/// Magnitude of the first step, from the norm of the steepest derivative that the trial met.
fn first(h0: f64, steepest: f64, length: f64, error_order: usize) -> f64 {
    let h1 = if steepest <= 1e-15 {
        (h0 * 1e-3).max(1e-6)
    } else {
        (0.01 / steepest).powf(1.0 / error_order as f64)
    };
    h1.min(100.0 * h0).min(length).max(f64::MIN_POSITIVE)
}

//! Bounds of gradients.

use aca_core::kernels;
use candle_core::backprop::GradStore;
use candle_core::{Result, Var, bail};

/// Scales all gradients of `parameters` by one factor so that their joint norm is at most `max_norm`; returns the norm
/// before.
///
/// # Errors
/// When the norm is not finite, with nothing changed: the loss or its gradient overflowed, and a step by it would
/// spoil every parameter.
pub fn clip_global_norm(
    gradients: &mut GradStore,
    parameters: &[Var],
    max_norm: f64,
) -> Result<f64> {
    if max_norm.is_nan() || max_norm <= 0.0 {
        bail!("gradients were to be clipped to the norm {max_norm}; give a number above 0");
    }
    let mut squares = 0.0;
    for gradient in parameters.iter().filter_map(|var| gradients.get(var)) {
        let gradient = gradient.detach();
        squares += kernels::dot(&gradient, &gradient)?;
    }
    let norm = squares.sqrt();
    if !norm.is_finite() {
        bail!(
            "the norm of the gradients is {norm}; lower the learning rate, check the loss, or skip this step"
        );
    }
    if norm > max_norm {
        for var in parameters {
            if let Some(gradient) = gradients.remove(var) {
                gradients.insert(var, (gradient * (max_norm / norm))?);
            }
        }
    }
    Ok(norm)
}

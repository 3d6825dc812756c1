//! Van der Pol oscillators of the peers' benchmark, each with its stiffness and start.

use aca_models::systems::{ClosedForm, VanDerPol};
use candle_core::{Device, Result, Tensor};

/// Number of oscillators.
pub const COUNT: usize = 256;

/// End of the span.
pub const END: f64 = 10.0;

/// The field, with stiffnesses from 1 to `mu_max`.
pub fn field(mu_max: f64) -> Result<ClosedForm<VanDerPol>> {
    let part = |i: usize| i as f64 / (COUNT - 1) as f64;
    let mu: Vec<f64> = (0..COUNT).map(|i| 1.0 + (mu_max - 1.0) * part(i)).collect();
    VanDerPol::field(&mu)
}

/// Initial positions and speeds, `[COUNT, 2]`.
pub fn starts() -> Result<Tensor> {
    let starts = (0..COUNT).flat_map(|i| {
        let (sin, cos) = (i as f64).sin_cos();
        [1.5 + 0.5 * sin, 0.5 * cos]
    });
    Tensor::from_iter(starts, &Device::Cpu)?.reshape((COUNT, 2))
}

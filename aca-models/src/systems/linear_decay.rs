use aca_core::Time;
use candle_core::{Result, Tensor};

use super::closed_form::GpuKernels;
use super::{ClosedForm, Real, System};

/// `dy/dt = -k y`: the closed solution is `y0 e^(-k t)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinearDecay;

impl LinearDecay {
    /// Returns the field with rate `k`.
    pub fn field(k: f64) -> Result<ClosedForm<Self>> {
        ClosedForm::from_slice(Self, &[k])
    }
}

impl System for LinearDecay {
    const DIM: usize = 1;
    const PARAMS: usize = 1;
    const AUTONOMOUS: bool = true;

    #[inline]
    fn slope<T: Real>(&self, _t: f64, k: &[T], y: &[T], dy: &mut [T]) {
        dy[0] = T::zero() - k[0] * y[0];
    }

    #[inline]
    fn pullback<T: Real>(
        &self,
        _t: f64,
        k: &[T],
        y: &[T],
        lambda: &[T],
        y_bar: &mut [T],
        k_bar: &mut [T],
    ) -> T {
        y_bar[0] = T::zero() - k[0] * lambda[0];
        k_bar[0] -= y[0] * lambda[0];
        T::zero()
    }

    fn trace(&self, _t: &Time, k: &Tensor, y: &Tensor) -> Result<Tensor> {
        y.broadcast_mul(k)?.neg()
    }

    fn kernels(&self) -> Option<GpuKernels> {
        Some(GpuKernels("LinearDecay"))
    }
}

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

    #[inline]
    fn slope<T: Real>(&self, k: &[T], y: &[T], dy: &mut [T]) {
        dy[0] = T::zero() - k[0] * y[0];
    }

    #[inline]
    fn pullback<T: Real>(&self, k: &[T], y: &[T], lambda: &[T], y_bar: &mut [T], k_bar: &mut [T]) {
        y_bar[0] = T::zero() - k[0] * lambda[0];
        k_bar[0] -= y[0] * lambda[0];
    }

    fn trace(&self, k: &Tensor, y: &Tensor) -> Result<Tensor> {
        y.broadcast_mul(k)?.neg()
    }

    fn kernels(&self) -> Option<GpuKernels> {
        Some(GpuKernels("LinearDecay"))
    }
}

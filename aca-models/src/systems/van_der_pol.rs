use aca_core::Time;
use candle_core::{D, Result, Tensor};

use super::closed_form::GpuKernels;
use super::{ClosedForm, Real, System};

/// Van der Pol's oscillator: `x' = v`, `v' = mu (1 - x^2) v - x`; stiff when `mu` is large.
#[derive(Clone, Copy, Debug, Default)]
pub struct VanDerPol;

impl VanDerPol {
    /// Returns the field with stiffness `mu`, one for all oscillators or one for each.
    pub fn field(mu: &[f64]) -> Result<ClosedForm<Self>> {
        ClosedForm::from_slice(Self, mu)
    }
}

impl System for VanDerPol {
    const DIM: usize = 2;
    const PARAMS: usize = 1;
    const AUTONOMOUS: bool = true;

    #[inline]
    fn slope<T: Real>(&self, _t: f64, mu: &[T], y: &[T], dy: &mut [T]) {
        let (x, v) = (y[0], y[1]);
        dy[0] = v;
        dy[1] = mu[0] * (T::one() - x * x) * v - x;
    }

    #[inline]
    fn pullback<T: Real>(
        &self,
        _t: f64,
        mu: &[T],
        y: &[T],
        lambda: &[T],
        y_bar: &mut [T],
        mu_bar: &mut [T],
    ) -> T {
        let (x, v, w) = (y[0], y[1], lambda[1]);
        let spread = T::one() - x * x;
        y_bar[0] = T::zero() - w * (mu[0] * (x + x) * v + T::one());
        y_bar[1] = lambda[0] + w * mu[0] * spread;
        mu_bar[0] += w * spread * v;
        T::zero()
    }

    fn trace(&self, _t: &Time, mu: &Tensor, y: &Tensor) -> Result<Tensor> {
        let (x, v) = (y.narrow(D::Minus1, 0, 1)?, y.narrow(D::Minus1, 1, 1)?);
        let spread = x.sqr()?.affine(-1.0, 1.0)?;
        Tensor::cat(&[&v, &(spread * &v)?.broadcast_mul(mu)?.sub(&x)?], D::Minus1)
    }

    fn kernels(&self) -> Option<GpuKernels> {
        Some(GpuKernels("VanDerPol"))
    }
}

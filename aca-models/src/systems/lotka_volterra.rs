use aca_core::Time;
use candle_core::{D, Result, Tensor};

use super::closed_form::GpuKernels;
use super::{ClosedForm, Real, System};

/// Lotka and Volterra's prey `u` and predators `v`: `u' = alpha u - beta u v`,
/// `v' = delta u v - gamma v`.
#[derive(Clone, Copy, Debug, Default)]
pub struct LotkaVolterra;

impl LotkaVolterra {
    /// Returns the field with rates `[alpha, beta, delta, gamma]`.
    pub fn field(rates: [f64; 4]) -> Result<ClosedForm<Self>> {
        ClosedForm::from_slice(Self, &rates)
    }
}

impl System for LotkaVolterra {
    const DIM: usize = 2;
    const PARAMS: usize = 4;
    const AUTONOMOUS: bool = true;

    #[inline]
    fn slope<T: Real>(&self, _t: f64, theta: &[T], y: &[T], dy: &mut [T]) {
        let (u, v) = (y[0], y[1]);
        dy[0] = (theta[0] - theta[1] * v) * u;
        dy[1] = (theta[2] * u - theta[3]) * v;
    }

    #[inline]
    fn pullback<T: Real>(
        &self,
        _t: f64,
        theta: &[T],
        y: &[T],
        lambda: &[T],
        y_bar: &mut [T],
        theta_bar: &mut [T],
    ) -> T {
        let (u, v, a, b) = (y[0], y[1], lambda[0], lambda[1]);
        y_bar[0] = a * (theta[0] - theta[1] * v) + b * theta[2] * v;
        y_bar[1] = b * (theta[2] * u - theta[3]) - a * theta[1] * u;
        theta_bar[0] += a * u;
        theta_bar[1] -= a * u * v;
        theta_bar[2] += b * u * v;
        theta_bar[3] -= b * v;
        T::zero()
    }

    fn trace(&self, _t: &Time, theta: &Tensor, y: &Tensor) -> Result<Tensor> {
        let (u, v) = (y.narrow(D::Minus1, 0, 1)?, y.narrow(D::Minus1, 1, 1)?);
        let rate = |i: usize| theta.narrow(D::Minus1, i, 1);
        let uv = (&u * &v)?;
        let du = u.broadcast_mul(&rate(0)?)?.sub(&uv.broadcast_mul(&rate(1)?)?)?;
        let dv = uv.broadcast_mul(&rate(2)?)?.sub(&v.broadcast_mul(&rate(3)?)?)?;
        Tensor::cat(&[du, dv], D::Minus1)
    }

    fn kernels(&self) -> Option<GpuKernels> {
        Some(GpuKernels("LotkaVolterra"))
    }
}

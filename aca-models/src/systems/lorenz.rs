use aca_core::Time;
use candle_core::{D, Result, Tensor};

use super::closed_form::GpuKernels;
use super::{ClosedForm, Real, System};

/// Lorenz's convection: `x' = sigma (y - x)`, `y' = x (rho - z) - y`, `z' = x y - beta z`; chaotic
/// at the classic parameters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lorenz;

impl Lorenz {
    /// `[sigma, rho, beta]` of Lorenz's paper (Journal of the Atmospheric Sciences 20, 1963).
    pub const CLASSIC: [f64; 3] = [10.0, 28.0, 8.0 / 3.0];

    /// Returns the field with parameters `[sigma, rho, beta]`.
    pub fn field(theta: [f64; 3]) -> Result<ClosedForm<Self>> {
        ClosedForm::from_slice(Self, &theta)
    }
}

impl System for Lorenz {
    const DIM: usize = 3;
    const PARAMS: usize = 3;
    const AUTONOMOUS: bool = true;

    #[inline]
    fn slope<T: Real>(&self, _t: f64, theta: &[T], p: &[T], dp: &mut [T]) {
        let (x, y, z) = (p[0], p[1], p[2]);
        dp[0] = theta[0] * (y - x);
        dp[1] = x * (theta[1] - z) - y;
        dp[2] = x * y - theta[2] * z;
    }

    #[inline]
    fn pullback<T: Real>(
        &self,
        _t: f64,
        theta: &[T],
        p: &[T],
        lambda: &[T],
        p_bar: &mut [T],
        theta_bar: &mut [T],
    ) -> T {
        let (x, y, z) = (p[0], p[1], p[2]);
        let (a, b, c) = (lambda[0], lambda[1], lambda[2]);
        p_bar[0] = b * (theta[1] - z) + c * y - a * theta[0];
        p_bar[1] = a * theta[0] - b + c * x;
        p_bar[2] = T::zero() - b * x - c * theta[2];
        theta_bar[0] += a * (y - x);
        theta_bar[1] += b * x;
        theta_bar[2] -= c * z;
        T::zero()
    }

    fn trace(&self, _t: &Time, theta: &Tensor, p: &Tensor) -> Result<Tensor> {
        let part = |i: usize| p.narrow(D::Minus1, i, 1);
        let theta = |i: usize| theta.narrow(D::Minus1, i, 1);
        let (x, y, z) = (part(0)?, part(1)?, part(2)?);
        let dx = (&y - &x)?.broadcast_mul(&theta(0)?)?;
        let dy = (x.broadcast_mul(&theta(1)?)? - (&x * &z)? - &y)?;
        let dz = ((&x * &y)? - z.broadcast_mul(&theta(2)?)?)?;
        Tensor::cat(&[dx, dy, dz], D::Minus1)
    }

    fn kernels(&self) -> Option<GpuKernels> {
        Some(GpuKernels("Lorenz"))
    }
}

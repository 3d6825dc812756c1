use aca_core::Time;
use candle_core::{D, Result, Tensor};

use super::{ClosedForm, Real, System};

/// The Oregonator, a model of the Belousov-Zhabotinskii reaction in scaled form: `x' = s (y + x (1 - q x - y))`,
/// `y' = (z - (1 + x) y) / s`, `z' = w (x - z)`.
///
/// # Source
/// Field, Noyes, "Oscillations in chemical systems IV", 1974; as in the test set for initial value problem solvers of Bari.
#[derive(Clone, Copy, Debug, Default)]
pub struct Oregonator;

impl Oregonator {
    /// `[s, q, w]`.
    pub const CLASSIC: [f64; 3] = [77.27, 8.375e-6, 0.161];
    /// The initial state.
    pub const Y0: [f64; 3] = [1.0, 2.0, 3.0];

    /// Returns the field with the parameters `[s, q, w]`.
    pub fn field(parameters: [f64; 3]) -> Result<ClosedForm<Self>> {
        ClosedForm::from_slice(Self, &parameters)
    }
}

impl System for Oregonator {
    const DIM: usize = 3;
    const PARAMS: usize = 3;
    const AUTONOMOUS: bool = true;

    #[inline]
    fn slope<T: Real>(&self, _t: f64, theta: &[T], y: &[T], dy: &mut [T]) {
        let (one, [s, q, w], [x, y, z]) =
            (T::from_f64(1.0), [theta[0], theta[1], theta[2]], [y[0], y[1], y[2]]);
        dy[0] = s * (y + x * (one - q * x - y));
        dy[1] = (z - (one + x) * y) / s;
        dy[2] = w * (x - z);
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
        let (one, two, [s, q, w]) =
            (T::from_f64(1.0), T::from_f64(2.0), [theta[0], theta[1], theta[2]]);
        let ([x, y, z], [a, b, c]) = ([y[0], y[1], y[2]], [lambda[0], lambda[1], lambda[2]]);
        y_bar[0] = a * s * (one - two * q * x - y) - b * y / s + c * w;
        y_bar[1] = a * s * (one - x) - b * (one + x) / s;
        y_bar[2] = b / s - c * w;
        theta_bar[0] += a * (y + x * (one - q * x - y)) - b * (z - (one + x) * y) / (s * s);
        theta_bar[1] -= a * s * x * x;
        theta_bar[2] += c * (x - z);
        T::zero()
    }

    fn trace(&self, _t: &Time, theta: &Tensor, y: &Tensor) -> Result<Tensor> {
        let at = |x: &Tensor, i: usize| x.narrow(D::Minus1, i, 1);
        let (s, q, w) = (at(theta, 0)?, at(theta, 1)?, at(theta, 2)?);
        let (x, y, z) = (at(y, 0)?, at(y, 1)?, at(y, 2)?);
        let left = ((1.0 - x.broadcast_mul(&q)?)? - &y)?;
        let dx = (&y + (&x * left)?)?.broadcast_mul(&s)?;
        let dy = (&z - ((&x + 1.0)? * &y)?)?.broadcast_div(&s)?;
        let dz = (x - z)?.broadcast_mul(&w)?;
        Tensor::cat(&[dx, dy, dz], D::Minus1)
    }
}

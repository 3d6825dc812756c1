use aca_core::Time;
use aca_dense::Event;
use candle_core::{D, Result, Tensor, Var};

use super::ball::rows;
use super::{ClosedForm, Real, System};

/// Izhikevich's neuron: `v' = 0.04 v^2 + 5 v + 140 - u + current`, `u' = a (b v - u)`, in mV and ms; where `v` comes to
/// 30 it spikes: `v` falls to `c`, `u` rises by `d`.
///
/// # Source
/// Izhikevich, "Simple model of spiking neurons", IEEE Transactions on Neural Networks 14 (2003).
#[derive(Clone, Copy, Debug, Default)]
pub struct Izhikevich;

impl Izhikevich {
    /// A neuron that spikes regularly: a, b, c, d, current.
    pub const REGULAR: [f64; 5] = [0.02, 0.2, -65.0, 8.0, 10.0];
    /// Where it rests without a current.
    pub const Y0: [f64; 2] = [-70.0, -14.0];
    /// The potential of a spike's top.
    pub const TOP: f64 = 30.0;

    /// Returns the field with parameters of all neurons, five each, or of each one.
    pub fn field(theta: &[f64; 5]) -> Result<ClosedForm<Self>> {
        ClosedForm::from_slice(Self, theta)
    }

    /// Returns the event that a neuron spikes.
    pub fn spike(theta: &Var) -> Event {
        let theta = theta.clone();
        Event::component(0, Self::TOP).rising().jump(move |t, y| {
            let own = rows(&theta, t)?;
            let u = y.narrow(D::Minus1, 1, 1)?;
            let v = u.zeros_like()?.broadcast_add(&own.narrow(D::Minus1, 2, 1)?)?;
            Tensor::cat(&[&v, &u.broadcast_add(&own.narrow(D::Minus1, 3, 1)?)?], D::Minus1)
        })
    }
}

impl System for Izhikevich {
    const DIM: usize = 2;
    const PARAMS: usize = 5;
    const AUTONOMOUS: bool = true;

    #[inline]
    fn slope<T: Real>(&self, _t: f64, theta: &[T], y: &[T], dy: &mut [T]) {
        let (v, u) = (y[0], y[1]);
        let number = |x: f64| T::from_f64(x);
        dy[0] = (number(0.04) * v + number(5.0)) * v + number(140.0) - u + theta[4];
        dy[1] = theta[0] * (theta[1] * v - u);
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
        let (v, u) = (y[0], y[1]);
        let rise = T::from_f64(0.08) * v + T::from_f64(5.0);
        y_bar[0] = lambda[0] * rise + lambda[1] * theta[0] * theta[1];
        y_bar[1] = T::zero() - lambda[0] - lambda[1] * theta[0];
        theta_bar[0] += lambda[1] * (theta[1] * v - u);
        theta_bar[1] += lambda[1] * theta[0] * v;
        theta_bar[4] += lambda[0];
        T::zero()
    }

    fn trace(&self, _t: &Time, theta: &Tensor, y: &Tensor) -> Result<Tensor> {
        let part = |i: usize| theta.narrow(D::Minus1, i, 1);
        let (v, u) = (y.narrow(D::Minus1, 0, 1)?, y.narrow(D::Minus1, 1, 1)?);
        let rise = ((v.affine(0.04, 5.0)? * &v)?.affine(1.0, 140.0)? - &u)?;
        let recover = (v.broadcast_mul(&part(1)?)? - &u)?.broadcast_mul(&part(0)?)?;
        Tensor::cat(&[&rise.broadcast_add(&part(4)?)?, &recover], D::Minus1)
    }
}

use aca_core::Time;
use aca_dense::Event;
use candle_core::{D, Result, Tensor, Var};

use super::{ClosedForm, Real, System};

/// A ball that falls, `height' = speed`, `speed' = -g`, and of whose speed each bounce leaves the part `restitution`.
///
/// Both are parameters of the field, so that one variable holds them: the field reads the first, [`Ball::bounce`] the
/// second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ball;

impl Ball {
    /// Gravity on earth, and the restitution of a rubber ball.
    pub const CLASSIC: [f64; 2] = [9.81, 0.8];

    /// Returns the field with gravity and restitution.
    pub fn field(theta: &[f64; 2]) -> Result<ClosedForm<Self>> {
        ClosedForm::from_slice(Self, theta)
    }

    /// Returns the event that the ball bounces off the ground.
    pub fn bounce(theta: &Var) -> Event {
        let theta = theta.clone();
        Event::component(0, 0.0).falling().jump(move |t, y| {
            let restitution = rows(&theta, t)?.narrow(D::Minus1, 1, 1)?;
            let (height, speed) = (y.narrow(D::Minus1, 0, 1)?, y.narrow(D::Minus1, 1, 1)?);
            let speed = speed.broadcast_mul(&restitution)?.neg()?;
            Tensor::cat(&[&height.zeros_like()?, &speed], D::Minus1)
        })
    }
}

/// The parameters of the samples that rows hold: the same for all, or their own.
pub(super) fn rows(theta: &Tensor, t: &Time) -> Result<Tensor> {
    match t.samples().filter(|_| theta.rank() > 1) {
        Some(samples) => {
            let rows = Tensor::from_iter(samples.iter().map(|&i| i as u32), theta.device())?;
            theta.index_select(&rows, 0)
        }
        None => Ok(theta.clone()),
    }
}

impl System for Ball {
    const DIM: usize = 2;
    const PARAMS: usize = 2;
    const AUTONOMOUS: bool = true;

    #[inline]
    fn slope<T: Real>(&self, _t: f64, theta: &[T], y: &[T], dy: &mut [T]) {
        dy[0] = y[1];
        dy[1] = T::zero() - theta[0];
    }

    #[inline]
    fn pullback<T: Real>(
        &self,
        _t: f64,
        _theta: &[T],
        _y: &[T],
        lambda: &[T],
        y_bar: &mut [T],
        theta_bar: &mut [T],
    ) -> T {
        y_bar[0] = T::zero();
        y_bar[1] = lambda[0];
        theta_bar[0] -= lambda[1];
        T::zero()
    }

    fn trace(&self, _t: &Time, theta: &Tensor, y: &Tensor) -> Result<Tensor> {
        let speed = y.narrow(D::Minus1, 1, 1)?;
        let down = speed.zeros_like()?.broadcast_sub(&theta.narrow(D::Minus1, 0, 1)?)?;
        Tensor::cat(&[&speed, &down], D::Minus1)
    }
}

/// A ball thrown through air: `[x, height, vx, vy]` with `v' = -drag |v| v - [0, g]`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThrownBall;

impl ThrownBall {
    /// Gravity on earth, and the drag of a tennis ball in 1/m.
    pub const CLASSIC: [f64; 2] = [9.81, 0.014];

    /// Returns the field with gravity and drag.
    pub fn field(theta: &[f64; 2]) -> Result<ClosedForm<Self>> {
        ClosedForm::from_slice(Self, theta)
    }

    /// Returns the event that the ball is at its highest.
    pub fn apex() -> Event {
        Event::component(3, 0.0).falling().record()
    }

    /// Returns the event that the ball comes to the ground.
    pub fn ground() -> Event {
        Event::component(1, 0.0).falling()
    }
}

impl System for ThrownBall {
    const DIM: usize = 4;
    const PARAMS: usize = 2;
    const AUTONOMOUS: bool = true;

    #[inline]
    fn slope<T: Real>(&self, _t: f64, theta: &[T], y: &[T], dy: &mut [T]) {
        let (vx, vy) = (y[2], y[3]);
        let drag = theta[1] * (vx * vx + vy * vy).sqrt();
        (dy[0], dy[1]) = (vx, vy);
        dy[2] = T::zero() - drag * vx;
        dy[3] = T::zero() - drag * vy - theta[0];
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
        let (vx, vy, ax, ay) = (y[2], y[3], lambda[2], lambda[3]);
        let speed = (vx * vx + vy * vy).sqrt();
        let along = vx * ax + vy * ay;
        // At rest the drag has no slope.
        let by_speed = if speed > T::zero() { along / speed } else { T::zero() };
        (y_bar[0], y_bar[1]) = (T::zero(), T::zero());
        y_bar[2] = lambda[0] - theta[1] * (speed * ax + by_speed * vx);
        y_bar[3] = lambda[1] - theta[1] * (speed * ay + by_speed * vy);
        theta_bar[0] -= ay;
        theta_bar[1] -= speed * along;
        T::zero()
    }

    fn trace(&self, _t: &Time, theta: &Tensor, y: &Tensor) -> Result<Tensor> {
        let v = y.narrow(D::Minus1, 2, 2)?;
        let speed = v.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
        let drag = speed.broadcast_mul(&theta.narrow(D::Minus1, 1, 1)?)?;
        let slow = v.broadcast_mul(&drag)?.neg()?;
        let sideways = slow.narrow(D::Minus1, 0, 1)?;
        let down = slow.narrow(D::Minus1, 1, 1)?;
        let down = down.broadcast_sub(&theta.narrow(D::Minus1, 0, 1)?)?;
        Tensor::cat(&[&v, &sideways, &down], D::Minus1)
    }
}

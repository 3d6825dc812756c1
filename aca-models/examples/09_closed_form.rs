//! How do I make my own law of physics fast? A pendulum with friction, in closed form: its derivative is checked, then
//! its length and friction are fitted and compared with the same law as a closure.
#![allow(clippy::print_stdout, reason = "examples talk")]

use std::time::Instant;

use aca_adjoint::Ode;
use aca_core::{Result, Solver, Time, Tolerance, VectorField};
use aca_dense::{SaveAt, solve};
use aca_models::systems::{ClosedForm, Real, System};
use aca_tableau::DOPRI5;
use candle_core::{D, Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, loss};

/// `angle' = speed`, `speed' = -pull sin(angle) - friction speed`.
struct Pendulum;

impl System for Pendulum {
    const DIM: usize = 2;
    const PARAMS: usize = 2;
    const AUTONOMOUS: bool = true;

    #[inline]
    fn slope<T: Real>(&self, _t: f64, theta: &[T], y: &[T], dy: &mut [T]) {
        dy[0] = y[1];
        dy[1] = -theta[0] * y[0].sin() - theta[1] * y[1];
    }

    #[inline]
    fn pullback<T: Real>(
        &self,
        _t: f64,
        theta: &[T],
        y: &[T],
        bar: &[T],
        y_bar: &mut [T],
        theta_bar: &mut [T],
    ) -> T {
        y_bar[0] = -theta[0] * y[0].cos() * bar[1];
        y_bar[1] = bar[0] - theta[1] * bar[1];
        theta_bar[0] -= y[0].sin() * bar[1];
        theta_bar[1] -= y[1] * bar[1];
        T::zero()
    }

    fn trace(&self, _t: &Time, theta: &Tensor, y: &Tensor) -> candle_core::Result<Tensor> {
        let part = |x: &Tensor, i: usize| x.narrow(D::Minus1, i, 1);
        let (angle, speed) = (part(y, 0)?, part(y, 1)?);
        let pull = angle.sin()?.broadcast_mul(&part(theta, 0)?)?;
        let friction = speed.broadcast_mul(&part(theta, 1)?)?;
        Tensor::cat(&[&speed, &(pull + friction)?.neg()?], D::Minus1)
    }
}

fn main() -> Result<()> {
    aca_adjoint::init();
    let start = Tensor::new(&[2.5f64, 0.0], &Device::Cpu)?;
    let truth = ClosedForm::from_slice(Pendulum, &[9.81, 0.3])?;
    println!(
        "derivative is off by {:.1e}",
        truth.check(&Tensor::new(&[1.0f64, -2.0], &Device::Cpu)?)?.worst()
    );

    let solver = Solver::adaptive(DOPRI5, Tolerance { rtol: 1e-7, atol: 1e-9 });
    let times = SaveAt::Times((1..=100).map(|i| f64::from(i) / 20.0).collect());
    let observed = solve(&solver, &truth, &start, (0.0, 5.0), &times)?.ys;
    let fit = |name: &str, theta: &Var, field: &dyn Fn() -> Result<Ode>| -> Result<()> {
        let (begin, ode) = (Instant::now(), field()?);
        let params = ParamsAdamW { lr: 0.05, weight_decay: 0.0, ..ParamsAdamW::default() };
        let mut opt = AdamW::new(vec![theta.clone()], params)?;
        for _ in 0..300 {
            opt.backward_step(&loss::mse(&ode.solve(&start, (0.0, 5.0), &times)?.ys, &observed)?)?;
        }
        let found = theta.to_vec1::<f64>()?;
        println!("{name}: pull {:.4}, friction {:.4}, {:.2?}", found[0], found[1], begin.elapsed());
        Ok(())
    };
    let guess = || Var::new(&[9.0f64, 0.1], &Device::Cpu);
    let theta = guess()?;
    let closed = || {
        let field = ClosedForm::new(Pendulum, theta.clone());
        Ode::new(solver.clone(), field, vec![theta.clone()])
    };
    fit("closed form", &theta, &closed)?;
    let theta = guess()?;
    let closure = || {
        let law = ClosedForm::new(Pendulum, theta.clone());
        let field = move |t: &Time, y: &Tensor| law.trace(t, y);
        Ode::new(solver.clone(), field, vec![theta.clone()])
    };
    fit("closure    ", &theta, &closure)?;
    println!("true pull 9.8100, friction 0.3000");
    Ok(())
}

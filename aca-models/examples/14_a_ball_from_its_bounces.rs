//! How do I fit a model to the times at which something happens? Gravity and restitution of a ball that fell from a known
//! height, from the times at which its bounces were heard.
#![allow(clippy::print_stdout, reason = "examples talk")]

use aca_adjoint::Ode;
use aca_core::{Result, Solver, Tolerance};
use aca_dense::{Events, SaveAt};
use aca_models::systems::{Ball, ClosedForm};
use aca_tableau::DOPRI5;
use candle_core::{Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, loss};

fn main() -> Result<()> {
    aca_adjoint::init();
    // Heard to a millisecond: gravity 9.81, restitution 0.75, from 2 m.
    let heard = [0.639, 1.596, 2.315, 2.854, 3.258, 3.561, 3.788, 3.959];
    let heard = Tensor::new(&heard, &Device::Cpu)?;
    let theta = Var::new(&[8.0f64, 0.6], &Device::Cpu)?;
    let y0 = Tensor::new(&[2.0f64, 0.0], &Device::Cpu)?; // let go at a known height

    let solver = Solver::adaptive(DOPRI5, Tolerance { rtol: 1e-8, atol: 1e-8 });
    let ode = Ode::new(solver, ClosedForm::new(Ball, theta.clone()), vec![theta.clone()])?;
    let bounces = Events::new([Ball::bounce(&theta).until(8)]);
    let params = ParamsAdamW { lr: 0.05, weight_decay: 0.0, ..ParamsAdamW::default() };
    let mut adam = AdamW::new(vec![theta.clone()], params)?;
    for iteration in 0..=1500 {
        let sol = ode.solve_events(&y0, (0.0, 60.0), &SaveAt::End, &bounces)?;
        let off = loss::mse(&sol.event_times, &heard)?;
        if iteration % 500 == 0 {
            let (theta, rms) = (theta.to_vec1::<f64>()?, off.to_scalar::<f64>()?.sqrt());
            println!(
                "{iteration:4}: rms {rms:.1e} s, gravity {:.3}, restitution {:.4}",
                theta[0], theta[1]
            );
        }
        adam.backward_step(&off)?;
    }
    println!("true:                gravity 9.810, restitution 0.7500");
    Ok(())
}

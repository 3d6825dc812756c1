//! How do I fit an unknown constant? The stiffness of van der Pol's oscillator, from one orbit.
#![allow(clippy::print_stdout, reason = "examples talk")]

use aca_adjoint::Ode;
use aca_core::{Result, Solver, Tolerance};
use aca_dense::{SaveAt, solve};
use aca_models::systems::VanDerPol;
use aca_tableau::DOPRI5;
use candle_core::{Device, Tensor};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, loss};

fn main() -> Result<()> {
    aca_adjoint::init();
    let solver = Solver::adaptive(DOPRI5, Tolerance { rtol: 1e-7, atol: 1e-9 });
    let y0 = Tensor::new(&[2.0f64, 0.0], &Device::Cpu)?;
    let times = SaveAt::Times((1..=100).map(|i| f64::from(i) / 20.0).collect());
    let observed = solve(&solver, &VanDerPol::field(&[1.7])?, &y0, (0.0, 5.0), &times)?.ys;

    let field = VanDerPol::field(&[1.0])?;
    let stiffness = field.theta().clone();
    let ode = Ode::new(solver, field, vec![stiffness.clone()])?;
    let params = ParamsAdamW { lr: 0.05, weight_decay: 0.0, ..ParamsAdamW::default() };
    let mut opt = AdamW::new(vec![stiffness.clone()], params)?;
    for epoch in 0..=200 {
        let sol = ode.solve(&y0, (0.0, 5.0), &times)?;
        let loss = loss::mse(&sol.ys, &observed)?;
        opt.backward_step(&loss)?;
        if epoch % 40 == 0 {
            let mu = stiffness.to_vec1::<f64>()?[0];
            println!("epoch {epoch:3}: loss {:.3e}, mu {mu:.6}", loss.to_scalar::<f64>()?);
        }
    }
    println!("true mu 1.7");
    Ok(())
}

//! How do I fit series that were observed at different times? Prey and predators in three ponds, each observed at its
//! own times; the four rates are unknown.
#![allow(clippy::print_stdout, reason = "examples talk")]

use aca_adjoint::Ode;
use aca_core::{Batching, Result, Solver, Tolerance};
use aca_dense::Ragged;
use aca_models::systems::LotkaVolterra;
use aca_tableau::DOPRI5;
use candle_core::{Device, Tensor};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};

fn main() -> Result<()> {
    aca_adjoint::init();
    let tolerance = Tolerance { rtol: 1e-7, atol: 1e-9 };
    let solver = Solver { batching: Batching::PerSample, ..Solver::adaptive(DOPRI5, tolerance) };
    let y0 = Tensor::new(&[[1.2f64, 1.8], [2.0, 0.7], [0.6, 0.9]], &Device::Cpu)?;
    // The first time of a pond is that of its start.
    let times = [
        0.0, 0.4, 1.9, 2.0, 5.5, // the first pond
        1.0, 3.0, 3.1, // the second
        0.0, 2.2, 2.9, 4.1, 6.0, 6.1, 9.0, // the third
    ];
    let times = Ragged::new(Tensor::new(&times, &Device::Cpu)?, vec![5, 3, 7])?;
    let field = LotkaVolterra::field([0.5, 0.4, 0.6, 0.3])?;
    let known = vec![field.theta().clone()];
    let truth = Ode::new(solver.clone(), field, known)?;
    let observed = truth.solve_times(&y0, &times)?.ys.detach();

    let field = LotkaVolterra::field([0.4, 0.5, 0.5, 0.4])?;
    let rates = field.theta().clone();
    let ode = Ode::new(solver, field, vec![rates.clone()])?;
    let params = ParamsAdamW { lr: 0.02, weight_decay: 0.0, ..ParamsAdamW::default() };
    let mut opt = AdamW::new(vec![rates.clone()], params)?;
    for epoch in 0..=300 {
        let sol = ode.solve_times(&y0, &times)?;
        let loss = (&sol.ys - &observed)?.sqr()?.mean_all()?;
        opt.backward_step(&loss)?;
        if epoch % 60 == 0 {
            let steps = sol.samples.iter().map(|end| end.stats.accepted).collect::<Vec<_>>();
            let (loss, rates) = (loss.to_scalar::<f64>()?, rates.to_vec1::<f64>()?);
            println!("epoch {epoch:3}: loss {loss:.2e}, rates {rates:.4?}, steps {steps:?}");
        }
    }
    Ok(())
}

//! How do I train a neural ODE? A small network learns the field of a damped cubic spiral.
#![allow(clippy::print_stdout, reason = "examples talk")]

use aca_adjoint::Ode;
use aca_core::{Result, Solver, Time, Tolerance};
use aca_dense::{SaveAt, solve};
use aca_models::systems::CubicSpiral;
use aca_tableau::TSIT5;
use candle_core::{DType, Device, Tensor};
use candle_nn::{AdamW, Module, Optimizer, VarBuilder, VarMap, linear, loss};

fn main() -> Result<()> {
    aca_adjoint::init();
    let solver = Solver::adaptive(TSIT5, Tolerance { rtol: 1e-5, atol: 1e-6 });
    // Forty starts on the unit square's grid, watched for a short while each.
    let starts =
        (0..40).flat_map(|i| [f64::from(i % 8) / 2.0 - 1.75, f64::from(i / 8) / 1.25 - 1.6]);
    let y0 = Tensor::from_iter(starts, &Device::Cpu)?.reshape((40, 2))?;
    let times = SaveAt::Times((1..=10).map(|i| f64::from(i) * 0.05).collect());
    let truth =
        solve(&solver, &CubicSpiral::field(CubicSpiral::CLASSIC)?, &y0, (0.0, 0.5), &times)?;
    let (y0, observed) = (y0.to_dtype(DType::F32)?, truth.ys.to_dtype(DType::F32)?);

    let varmap = VarMap::new();
    let vb = VarBuilder::from_varmap(&varmap, DType::F32, &Device::Cpu);
    let (inner, outer) = (linear(2, 50, vb.pp("inner"))?, linear(50, 2, vb.pp("outer"))?);
    let field = move |_t: &Time, y: &Tensor| {
        let cubes = (y.sqr()? * y)?;
        outer.forward(&inner.forward(&cubes)?.tanh()?)
    };
    let ode = Ode::new(solver, field, varmap.all_vars())?;
    let mut opt = AdamW::new_lr(varmap.all_vars(), 1e-2)?;
    for step in 0..=300 {
        let sol = ode.solve(&y0, (0.0, 0.5), &times)?;
        let loss = loss::mse(&sol.ys, &observed)?;
        opt.backward_step(&loss)?;
        if step % 50 == 0 {
            let (loss, nfe) = (loss.to_scalar::<f32>()?, sol.stats.nfe);
            println!("step {step:3}: loss {loss:.3e}, {nfe} + {} evaluations", sol.nfe_backward());
        }
    }
    Ok(())
}

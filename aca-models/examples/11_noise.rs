//! How do I use noise in a field whose gradient is a replay? Draw it once per solve, outside the field.
//!
//! The backward pass of ACA evaluates the field again. Dropout inside the field would draw another mask there, so the
//! replayed steps would differ from the steps of the solve; the library refuses such a gradient. A mask drawn before
//! the solve is the same in every evaluation.

#![allow(clippy::print_stdout, reason = "examples talk")]

use std::sync::{Arc, RwLock};

use aca_adjoint::Ode;
use aca_core::{Solver, Time, Tolerance};
use aca_dense::SaveAt;
use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::ops::dropout;

fn main() -> Result<()> {
    aca_core::init();
    let solver = Solver::adaptive(aca_tableau::DOPRI5, Tolerance { rtol: 1e-6, atol: 1e-6 });
    let y0 = Var::from_tensor(&Tensor::ones((4, 8), DType::F64, &Device::Cpu)?)?;

    let redrawn = |_: &Time, y: &Tensor| dropout(&y.tanh()?, 0.5);
    let refused = Ode::new(Solver::fixed_count(aca_tableau::RK4, 8), redrawn, vec![])?
        .solve(&y0, (0.0, 1.0), &SaveAt::End)
        .and_then(|sol| Ok(sol.y1.sum_all()?.backward()?));
    match refused {
        Err(error) => println!("noise inside the field: {error}\n"),
        Ok(_) => println!("noise inside the field was not noticed"),
    }

    // The field reads the mask of the present solve; training draws a new one before each.
    let mask = Arc::new(RwLock::new(Tensor::ones((4, 8), DType::F64, &Device::Cpu)?));
    let held = mask.clone();
    let field = move |_: &Time, y: &Tensor| match held.read() {
        Ok(mask) => y.tanh()? * &*mask,
        Err(_) => candle_core::bail!("another thread failed while it drew a mask"),
    };
    let ode = Ode::new(solver, field, vec![])?;
    for step in 0..3 {
        let drawn = dropout(&Tensor::ones((4, 8), DType::F64, &Device::Cpu)?, 0.5)?;
        if let Ok(mut mask) = mask.write() {
            *mask = drawn;
        }
        let loss = ode.solve(&y0, (0.0, 1.0), &SaveAt::End)?.y1.sqr()?.mean_all()?;
        let grads = loss.backward()?;
        let gradient = grads.get(&y0).map_or_else(|| y0.zeros_like(), |g| Ok(g.clone()))?;
        let size = gradient.sqr()?.sum_all()?.sqrt()?.to_scalar::<f64>()?;
        println!(
            "mask {step}: loss {:.4}, norm of the gradient {size:.4}",
            loss.to_scalar::<f64>()?
        );
    }
    Ok(())
}

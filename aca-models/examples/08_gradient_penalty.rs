//! How do I keep a field smooth? The squared gradient of the output by the input enters the loss, which
//! takes second derivatives through the solve.
#![allow(clippy::print_stdout, reason = "examples talk")]

use std::{env, process::Command};

use aca_adjoint::{Gradient, Ode, gradients_in_graph, is_second_order_enabled};
use aca_core::{Result, Solver};
use aca_dense::SaveAt;
use aca_models::fields::{Mlp, MlpConfig, TimeInput};
use aca_models::layers::Activation;
use aca_tableau::RK4;
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer, VarBuilder, VarMap};

fn main() -> Result<()> {
    aca_adjoint::init();
    if !is_second_order_enabled() {
        // Candle reads this once per thread, before its first backward: so begin again with it set.
        let program = env::current_exe().map_err(candle_core::Error::wrap)?;
        let again = Command::new(program).env("CANDLE_GRAD_DO_NOT_DETACH", "1").status();
        again.map_err(candle_core::Error::wrap)?;
        return Ok(());
    }
    for weight in [0.0, 0.02] {
        let (loss, slope) = train(weight)?;
        println!("penalty {weight}: loss {loss:.5}, mean squared slope {slope:.3}");
    }
    Ok(())
}

/// Fits a steep step by an ODE; returns the loss and the mean squared derivative of the fit.
fn train(penalty: f64) -> Result<(f64, f64)> {
    let x = Tensor::arange(-20i64, 21, &Device::Cpu)?.to_dtype(DType::F64)?;
    let x = Var::from_tensor(&(x / 10.0)?.unsqueeze(1)?)?;
    let target = (x.as_detached_tensor() * 4.0)?.tanh()?;

    let varmap = VarMap::new();
    let vb = VarBuilder::from_varmap(&varmap, DType::F64, &Device::Cpu);
    let (activation, time) = (Activation::Tanh, TimeInput::Concatenated);
    let config = MlpConfig { dim: 1, hidden: vec![16], activation, time };
    let field = Mlp::new(&config, vb)?;
    let variables = field.variables();
    // Only the graph through the solve itself can be differentiated twice.
    let ode = Ode::new(Solver::fixed_count(RK4, 4), field, variables)?.gradient(Gradient::Naive);
    let mut opt = AdamW::new_lr(varmap.all_vars(), 1e-2)?;
    let mut last = (0.0, 0.0);
    for _ in 0..150 {
        let y = ode.solve(&x, (0.0, 1.0), &SaveAt::End)?.y1;
        let slope = gradients_in_graph(&y.sum_all()?, &[&x])?.remove(0);
        let (loss, slope) = ((y - &target)?.sqr()?.mean_all()?, slope.sqr()?.mean_all()?);
        opt.backward_step(&(&loss + (&slope * penalty)?)?)?;
        last = (loss.to_scalar()?, slope.to_scalar()?);
    }
    Ok(last)
}

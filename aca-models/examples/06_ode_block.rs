//! How do I put an ODE into a candle network? Two intertwined spirals, told apart by three layers.
#![allow(clippy::print_stdout, reason = "examples talk")]

use aca_adjoint::Ode;
use aca_core::{Result, Solver, Tolerance};
use aca_dense::SaveAt;
use aca_models::fields::{Mlp, MlpConfig, TimeInput};
use aca_models::layers::Activation;
use aca_tableau::BOSH3;
use candle_core::{DType, Device, Tensor};
use candle_nn::{AdamW, Module, Optimizer, VarBuilder, VarMap, linear, loss};

fn main() -> Result<()> {
    aca_adjoint::init();
    // A hundred points of each spiral, turned by half a circle from the other.
    let angle = |i: u32| 0.5 + 5.5 * f64::from(i / 2) / 100.0;
    let half_turn = |i: u32| std::f64::consts::PI * f64::from(i % 2);
    let points = (0..200).flat_map(|i| {
        let (sin, cos) = (angle(i) + half_turn(i)).sin_cos();
        [angle(i) / 3.0 * cos, angle(i) / 3.0 * sin]
    });
    let points =
        Tensor::from_iter(points, &Device::Cpu)?.reshape((200, 2))?.to_dtype(DType::F32)?;
    let labels = Tensor::from_iter((0..200u32).map(|i| i % 2), &Device::Cpu)?;

    let varmap = VarMap::new();
    let vb = VarBuilder::from_varmap(&varmap, DType::F32, &Device::Cpu);
    let (first, last) = (linear(2, 8, vb.pp("first"))?, linear(8, 2, vb.pp("last"))?);
    let (activation, time) = (Activation::Tanh, TimeInput::None);
    let config = MlpConfig { dim: 8, hidden: vec![32], activation, time };
    let field = Mlp::new(&config, vb.pp("field"))?;
    let variables = field.variables();
    let solver = Solver::adaptive(BOSH3, Tolerance { rtol: 1e-3, atol: 1e-3 });
    let ode = Ode::new(solver, field, variables)?;

    let mut opt = AdamW::new_lr(varmap.all_vars(), 2e-2)?;
    for epoch in 0..=150 {
        let sol = ode.solve(&first.forward(&points)?, (0.0, 1.0), &SaveAt::End)?;
        let logits = last.forward(&sol.y1)?;
        let loss = loss::cross_entropy(&logits, &labels)?;
        opt.backward_step(&loss)?; // through the last layer, the ODE and the first layer
        if epoch % 30 == 0 {
            let right = logits.argmax(1)?.eq(&labels)?.to_dtype(DType::F32)?.mean_all()?;
            let (loss, right) = (loss.to_scalar::<f32>()?, 100.0 * right.to_scalar::<f32>()?);
            println!("epoch {epoch:3}: loss {loss:.4}, {right:.1} % right, {} NFE", sol.stats.nfe);
        }
    }
    Ok(())
}

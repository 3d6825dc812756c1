//! How do I let a network compute the coefficients of an ODE? Carry them in the state, with slope zero: their
//! cotangents are summed along the solve and go back through the network once. If the field captures them, every stage
//! goes back through the network.
#![allow(clippy::print_stdout, reason = "examples talk")]

use std::time::Instant;

use aca_adjoint::Ode;
use aca_core::{Packing, Result, Solver, Time};
use aca_dense::SaveAt;
use aca_tableau::RK4;
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{Activation, Module, VarBuilder, VarMap, linear, seq};

/// Oscillators `position' = speed`, `speed' = -pull position - friction speed`, each with coefficients of its own.
///
/// `y`: `[n, 2]`; `c`: `[n, 2]`, pull and friction.
fn oscillate(y: &Tensor, c: &Tensor) -> candle_core::Result<Tensor> {
    let force = (y * c)?.sum_keepdim(1)?.neg()?;
    Tensor::cat(&[&y.narrow(1, 1, 1)?, &force], 1)
}

fn solver() -> Solver {
    Solver::fixed_count(RK4, 25)
}

/// The end of a solve that carries the coefficients beside the state.
fn carried(y0: &Tensor, c: &Tensor) -> Result<Tensor> {
    let (packing, start) = Packing::pack(&[y0.clone(), c.clone()])?;
    let field = packing.field(|_: &Time, parts: &[Tensor]| {
        Ok(vec![oscillate(&parts[0], &parts[1])?, parts[1].zeros_like()?])
    });
    // No variable is listed: the field owns none.
    let ode = Ode::new(solver(), field, vec![])?;
    let end = ode.solve(&start, (0.0, 2.0), &SaveAt::End)?.y1;
    Ok(packing.unpack(&end)?.swap_remove(0))
}

/// The same by a field that captures them, for which all variables of the network are listed.
fn captured(y0: &Tensor, c: &Tensor, network: Vec<Var>) -> Result<Tensor> {
    let c = c.clone();
    let ode = Ode::new(solver(), move |_: &Time, y: &Tensor| oscillate(y, &c), network)?;
    Ok(ode.solve(y0, (0.0, 2.0), &SaveAt::End)?.y1.clone())
}

fn main() -> Result<()> {
    let varmap = VarMap::new();
    let vb = VarBuilder::from_varmap(&varmap, DType::F32, &Device::Cpu);
    let network = seq()
        .add(linear(16, 256, vb.pp("first"))?)
        .add(Activation::Silu)
        .add(linear(256, 256, vb.pp("second"))?)
        .add(Activation::Silu)
        .add(linear(256, 2, vb.pp("last"))?);
    let conditions = Tensor::randn(0f32, 1.0, (128, 16), &Device::Cpu)?;
    let y0 = Tensor::randn(0f32, 1.0, (128, 2), &Device::Cpu)?;

    // Gradients with respect to the network's variables, in their order, and the seconds that they took.
    let gradients = |end: &dyn Fn(&Tensor) -> Result<Tensor>| -> Result<(Vec<Tensor>, f64)> {
        let start = Instant::now();
        let mut grads = end(&network.forward(&conditions)?)?.sqr()?.mean_all()?.backward()?;
        let of = |var: &Var| grads.remove(var).map_or_else(|| var.zeros_like(), Ok);
        let all = varmap.all_vars().iter().map(of).collect::<candle_core::Result<Vec<_>>>()?;
        Ok((all, start.elapsed().as_secs_f64()))
    };
    let (carried, fast) = gradients(&|c| carried(&y0, c))?;
    let (captured, slow) = gradients(&|c| captured(&y0, c, varmap.all_vars()))?;
    let norm = |x: &Tensor| x.sqr()?.sum_all()?.sqrt()?.to_scalar::<f32>();
    for (a, b) in carried.iter().zip(&captured) {
        println!("gradient {:?}: the ways differ by {:.1e}", a.dims(), norm(&(a - b)?)? / norm(b)?);
    }
    println!("carried {:.1} ms, captured {:.1} ms", 1e3 * fast, 1e3 * slow);
    println!("carrying the coefficients is {:.0} times faster", slow / fast);
    Ok(())
}

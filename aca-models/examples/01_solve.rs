//! How do I solve an ODE? Predators and prey over ten years, and what the solve cost.
#![allow(clippy::print_stdout, reason = "examples talk")]

use aca_core::{Result, Solver, Time, Tolerance};
use aca_dense::{SaveAt, solve};
use aca_tableau::DOPRI5;
use candle_core::{Device, Tensor};

fn main() -> Result<()> {
    aca_core::init();
    // Any closure of candle operations is a field: u' = u (1 - v) / 2, v' = v (u - 1) / 2.
    let field = |_t: &Time, y: &Tensor| {
        let (u, v) = (y.get(0)?, y.get(1)?);
        let du = (&u * v.affine(-0.5, 0.5)?)?;
        let dv = (&v * u.affine(0.5, -0.5)?)?;
        Tensor::stack(&[du, dv], 0)
    };
    let solver = Solver::adaptive(DOPRI5, Tolerance { rtol: 1e-6, atol: 1e-9 });
    let y0 = Tensor::new(&[1.5f64, 1.5], &Device::Cpu)?;
    let times = (0..=10).map(f64::from).collect();
    let sol = solve(&solver, &field, &y0, (0.0, 10.0), &SaveAt::Times(times))?;
    for (t, y) in sol.ts.iter().zip(sol.ys.to_vec2::<f64>()?) {
        println!("t = {t:4}: prey {:.6}, predators {:.6}", y[0], y[1]);
    }
    println!("{:?}", sol.stats);
    Ok(())
}

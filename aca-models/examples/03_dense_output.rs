//! How do I look between the steps? y(t) and y'(t) of a decay at times chosen after the solve.
#![allow(clippy::print_stdout, reason = "examples talk")]

use aca_core::{Result, Solver, Tolerance};
use aca_dense::{SaveAt, solve};
use aca_models::systems::LinearDecay;
use aca_tableau::DOP853;
use candle_core::{Device, Tensor};

fn main() -> Result<()> {
    aca_core::init();
    let solver = Solver::adaptive(DOP853, Tolerance { rtol: 1e-10, atol: 1e-12 });
    let y0 = Tensor::new(&[1.0f64], &Device::Cpu)?;
    let sol = solve(&solver, &LinearDecay::field(1.0)?, &y0, (0.0, 5.0), &SaveAt::Dense)?;
    let dense = sol.dense()?;
    println!("{} steps over [0, 5]", sol.stats.accepted);
    for t in [0.1, 1.234, 4.9] {
        let (y, slope) =
            (dense.at(t)?.to_vec1::<f64>()?[0], dense.derivative(t)?.to_vec1::<f64>()?[0]);
        let exact = (-t).exp();
        println!(
            "t = {t}: y off by {:.1e}, y' off by {:.1e}",
            (y - exact).abs(),
            (slope + exact).abs()
        );
    }
    Ok(())
}

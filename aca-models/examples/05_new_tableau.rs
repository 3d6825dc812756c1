//! How do I add a Runge-Kutta method? Ralston's method of third order, measured: its error falls as h^3.
#![allow(clippy::print_stdout, reason = "examples talk")]

use aca_core::{Result, Solver};
use aca_dense::{SaveAt, solve};
use aca_models::systems::LinearDecay;
use aca_tableau::{Tableau, TableauDraft};
use candle_core::{Device, Tensor};

fn main() -> Result<()> {
    aca_core::init();
    let ralston3 = Tableau::new(TableauDraft {
        name: "ralston3".to_owned(),
        order: 3,
        a: vec![vec![], vec![0.5], vec![0.0, 0.75]],
        b: vec![2.0 / 9.0, 1.0 / 3.0, 4.0 / 9.0],
        c: vec![0.0, 0.5, 0.75],
        ..TableauDraft::default()
    })?;
    let field = LinearDecay::field(1.0)?;
    let y0 = Tensor::new(&[1.0f64], &Device::Cpu)?;
    let mut last = f64::NAN;
    for steps in [5, 10, 20, 40, 80] {
        let solver = Solver::fixed_count(ralston3.clone(), steps);
        let y1 = solve(&solver, &field, &y0, (0.0, 1.0), &SaveAt::End)?.y1.to_vec1::<f64>()?[0];
        let error = (y1 - (-1.0f64).exp()).abs();
        println!("{steps:3} steps: error {error:.3e}, order {:.2}", (last / error).log2());
        last = error;
    }
    // The same with a wrong claim is refused, and the refusal says why.
    let wrong = TableauDraft { order: 4, ..ralston3.to_draft() };
    println!("{}", Tableau::new(wrong).map_or_else(|error| error.to_string(), |_| String::new()));
    Ok(())
}

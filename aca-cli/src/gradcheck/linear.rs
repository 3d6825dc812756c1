//! The linear problem of the ACA paper, whose gradient is known in closed form.

use aca_adjoint::OdeSolution;
use aca_core::Result as AcaResult;
use aca_dense::SaveAt;
use aca_models::systems::LinearDecay;
use candle_core::{Device, Tensor, Var};

use super::measure::Task;
use super::row::{self, Row};
use super::setting::{Setting, tolerances};
use super::{Checked, Plan, draw};
use crate::report::{self, Result};
use crate::strategy::Strategy;

/// Negative: the system contracts, so what is solved backward in time expands.
const K: f64 = -0.5;
const Z0: f64 = 1.0;
/// The absolute tolerance as a part of the relative one.
const ATOL: f64 = 1e-3;

const TEXT: &str = "\
linear: dz/dt = k z, L = z(T)^2, dL/dz0 = 2 z0 e^(2kT), with k = -0.5, z0 = 1, atol = rtol/1000
        k < 0 contracts: solved backward, the state expands while the adjoint falls to 2 e^(-T), far below atol;
        mali's leapfrog is not damped: where a system contracts, its steps shrink without end";

/// Compares the strategies over spans of growing length.
pub fn run(plan: &Plan<'_>) -> Result<Checked> {
    let (ends, rtols): (Vec<f64>, Vec<f64>) = match plan.quick {
        true => (vec![5.0, 10.0], vec![1e-3]),
        false => ((1..=20).map(f64::from).collect(), tolerances(3, 7, 2)),
    };
    let mut rows = Vec::new();
    for &rtol in &rtols {
        for strategy in Strategy::ALL {
            for &end in &ends {
                rows.push(
                    task(end)?.measure(&Setting::usual(strategy, rtol, ATOL * rtol), plan.reps),
                );
            }
        }
    }
    report::line(TEXT)?;
    let shown = |row: &&Row| row.end.is_some_and(|end| end % 10.0 == 0.0 || end == 5.0);
    report::line(&(row::table(rows.iter().filter(shown)) + "\n"))?;
    let files = draw::linear(&plan.out.join("linear"), &rows, &rtols)?;
    Ok(Checked { rows, files, ..Checked::default() })
}

fn task(end: f64) -> Result<Task<LinearDecay>> {
    let y0 = Var::new(&[Z0], &Device::Cpu)?;
    Ok(Task {
        problem: "linear",
        end: Some(end),
        system: LinearDecay,
        theta: Var::new(&[-K], &Device::Cpu)?,
        y0: y0.clone(),
        span: (0.0, end),
        save_at: SaveAt::End,
        loss: square,
        wanted: vec![y0],
        exact: vec![2.0 * Z0 * (2.0 * K * end).exp()],
    })
}

/// The square of the state at the end.
pub fn square(sol: &OdeSolution) -> AcaResult<Tensor> {
    Ok(sol.y1.sqr()?.sum_all()?)
}

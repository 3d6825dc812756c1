//! The three-body workload: a chaotic system, and what an accurate gradient of it costs.

use aca_adjoint::OdeSolution;
use aca_core::Method;
use aca_core::Result as AcaResult;
use aca_dense::SaveAt;
use aca_models::systems::ThreeBody;
use aca_tableau::{DOP853, DOPRI5, TSIT5};
use candle_core::{Device, Tensor, Var};

use super::measure::Task;
use super::setting::{Setting, Steps, tolerances};
use super::{Checked, Plan, draw, row, verdict};
use crate::report::{self, Result};
use crate::strategy::Strategy;

/// Where the gradient is taken: off the truth by a few percent.
const MASSES: [f64; 3] = [1.05, 0.95, 1.0];

/// The gradient, from an 8th-order solve in f64 at 1e-13 by diffrax's Dopri8 that steps onto every
/// output time; it agrees with the same at 1e-11 to 1.4e-6.
const GRADIENT: [f64; 3] = [-0.10444943715604288, 0.05341189039383215, 0.09448121579681523];

const TEXT: &str = "\
three-body: the mean square of 1000 positions of three bodies, differentiated by their masses; atol = rtol
            naive strategies build candle's graphs, the others call the closed-form pullback;
            errors below 1e-7 are the reference's own; backsolve starts anew from every output of the
            forward solve, as other libraries do, or (no restart) follows the state back from the end";

/// Compares error and time of the strategies over many tolerances.
pub fn run(plan: &Plan<'_>) -> Result<Checked> {
    let task = task()?;
    let rows: Vec<_> =
        settings(plan.quick).iter().map(|setting| task.measure(setting, plan.reps)).collect();
    report::line(TEXT)?;
    report::line(&row::table(rows.iter()))?;
    report::line(&(verdict::text(&rows) + "\n"))?;
    let caption = "Three bodies: error of the gradient against its time";
    let files = draw::work_precision(&plan.out.join("three-body"), caption, &rows)?;
    Ok(Checked { rows, files, ..Checked::default() })
}

fn settings(quick: bool) -> Vec<Setting> {
    let entrants: [(Strategy, Method, (i32, i32)); 7] = [
        (Strategy::Aca, DOPRI5.into(), (4, 12)),
        (Strategy::Aca, TSIT5.into(), (4, 12)),
        (Strategy::Aca, DOP853.into(), (4, 12)),
        (Strategy::Naive, DOPRI5.into(), (4, 12)),
        (Strategy::NaiveThroughStepSize, DOPRI5.into(), (4, 10)),
        (Strategy::Backsolve, DOPRI5.into(), (4, 12)),
        (Strategy::Mali, Method::Leapfrog, (3, 3)),
    ];
    let mut settings = Vec::new();
    for (strategy, method, (first, last)) in entrants {
        let rtols = match quick {
            true if strategy == Strategy::Mali => vec![1e-1],
            true => vec![1e-7],
            false => tolerances(first, last, 1),
        };
        let setting = |&tol: &f64| Setting::within(strategy, method.clone(), tol);
        settings.extend(rtols.iter().map(setting));
        if strategy == Strategy::Backsolve {
            let followed = |tol: &f64| Setting { restart: false, ..setting(tol) };
            settings.extend(rtols.iter().map(followed));
        }
    }
    // Error control of the leapfrog ends in steps without number; equal ones do better.
    let counts = if quick { vec![] } else { vec![1 << 16, 1 << 17, 1 << 18] };
    settings.extend(counts.into_iter().map(|count| Setting {
        strategy: Strategy::Mali,
        method: Method::Leapfrog,
        steps: Steps::Equal(count),
        restart: true,
    }));
    settings
}

fn task() -> Result<Task<ThreeBody>> {
    let masses = Var::new(&MASSES, &Device::Cpu)?;
    Ok(Task {
        problem: "three-body",
        end: None,
        system: ThreeBody,
        theta: masses.clone(),
        y0: Var::new(&ThreeBody::Y0, &Device::Cpu)?,
        span: (0.0, 1.0),
        save_at: SaveAt::Times((0..1000).map(|i| f64::from(i) / 999.0).collect()),
        loss: mean_square_of_positions,
        wanted: vec![masses],
        exact: GRADIENT.to_vec(),
    })
}

fn mean_square_of_positions(sol: &OdeSolution) -> AcaResult<Tensor> {
    Ok(sol.ys.narrow(1, 0, 9)?.sqr()?.mean_all()?)
}

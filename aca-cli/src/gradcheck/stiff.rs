//! Van der Pol's oscillator with mu = 100: stiff, so that explicit methods are bound by stability.

use aca_core::Method;
use aca_dense::SaveAt;
use aca_models::systems::VanDerPol;
use aca_tableau::{DOPRI5, ESDIRK4, KVAERNO3, KVAERNO5};
use candle_core::{Device, Var};

use super::linear::square;
use super::measure::Task;
use super::setting::{Setting, tolerances};
use super::{Checked, Plan, draw, row, verdict};
use crate::report::{self, Result};
use crate::strategy::Strategy;

/// The gradient with respect to mu and the initial state, from the variational equations by two methods of other kinds
/// (Dormand and Prince's of order 8, Radau IIA of order 5) at tolerances of 1e-13, which agree to 1e-14.
const GRADIENT: [f64; 3] = [0.0219490459276053, 5.48918900904974, 0.0182975000076596];

const TEXT: &str = "\
stiff: L = |y(60)|^2 of van der Pol's oscillator from y = (2, 0) with mu = 100, differentiated by mu and y(0); atol = rtol
       explicit steps are held inside the stability interval, as wherever a gradient is wanted";

/// Compares the gradients of implicit and explicit methods.
pub fn run(plan: &Plan<'_>) -> Result<Checked> {
    let task = task()?;
    let settings = settings(plan.quick);
    let rows: Vec<_> = settings.iter().map(|setting| task.measure(setting, plan.reps)).collect();
    report::line(TEXT)?;
    report::line(&row::table(rows.iter()))?;
    report::line(&(verdict::text(&rows) + "\n"))?;
    let caption = "A stiff problem: error of the gradient against its time";
    let files = draw::work_precision(&plan.out.join("stiff"), caption, &rows)?;
    Ok(Checked { rows, files, ..Checked::default() })
}

fn settings(quick: bool) -> Vec<Setting> {
    let entrants: [(Strategy, Method); 7] = [
        (Strategy::Aca, KVAERNO5.into()),
        (Strategy::Aca, ESDIRK4.into()),
        (Strategy::Aca, KVAERNO3.into()),
        (Strategy::Aca, Method::auto()),
        (Strategy::Aca, DOPRI5.into()),
        (Strategy::Naive, DOPRI5.into()),
        (Strategy::Backsolve, DOPRI5.into()),
    ];
    let within = |(strategy, method): (Strategy, Method)| {
        let all = match (quick, strategy) {
            (true, _) => vec![1e-6],
            (false, Strategy::Aca) => tolerances(3, 11, 1),
            (false, _) => tolerances(4, 8, 2),
        };
        all.into_iter().map(move |tolerance| Setting::within(strategy, method.clone(), tolerance))
    };
    entrants.into_iter().flat_map(within).collect()
}

fn task() -> Result<Task<VanDerPol>> {
    let mu = Var::new(&[100f64], &Device::Cpu)?;
    let y0 = Var::new(&[2f64, 0.0], &Device::Cpu)?;
    Ok(Task {
        problem: "stiff",
        end: None,
        system: VanDerPol,
        theta: mu.clone(),
        y0: y0.clone(),
        span: (0.0, 60.0),
        save_at: SaveAt::End,
        loss: square,
        wanted: vec![mu, y0],
        exact: GRADIENT.to_vec(),
    })
}

//! Van der Pol's oscillator: contracting, so that its past is lost to a solve backward in time.

use aca_core::Method;
use aca_dense::SaveAt;
use aca_models::systems::VanDerPol;
use aca_tableau::{DOP853, DOPRI5, TSIT5};
use candle_core::{Device, Var};

use super::linear::square;
use super::measure::Task;
use super::setting::{Setting, tolerances};
use super::{Checked, Plan, draw, reverse, row, verdict};
use crate::report::{self, Result};
use crate::strategy::Strategy;

pub const MU: f64 = 1.0;
pub const Y0: [f64; 2] = [2.0, 0.0];
pub const END: f64 = 20.0;

/// The gradient with respect to `mu` and `Y0`, from the variational equations by Taylor series in
/// 30 digits (mpmath's `odefun` with tolerance 1e-24).
const GRADIENT: [f64; 3] = [0.07936011787980173, 0.014862240759149932, 0.005480040076674236];

const TEXT: &str = "\
van-der-pol: L = |y(20)|^2 from y = (2, 0) with mu = 1, differentiated by mu and y(0); atol = rtol
             naive strategies build candle's graphs, the others call the closed-form pullback";

/// Solves forward and backward, then compares the gradients of the strategies.
pub fn run(plan: &Plan<'_>) -> Result<Checked> {
    let Checked { mut rows, mut files, .. } = reverse::run(plan)?;
    let task = task()?;
    let settings = settings(plan.quick);
    let gradients: Vec<_> =
        settings.iter().map(|setting| task.measure(setting, plan.reps)).collect();
    report::line(TEXT)?;
    report::line(&row::table(gradients.iter()))?;
    report::line(&(verdict::text(&gradients) + "\n"))?;
    let caption = "Van der Pol: error of the gradient against its time";
    files.extend(draw::work_precision(&plan.out.join("van-der-pol"), caption, &gradients)?);
    rows.extend(gradients);
    Ok(Checked { rows, files, ..Checked::default() })
}

fn settings(quick: bool) -> Vec<Setting> {
    let entrants: [(Strategy, Method); 7] = [
        (Strategy::Aca, DOPRI5.into()),
        (Strategy::Aca, TSIT5.into()),
        (Strategy::Aca, DOP853.into()),
        (Strategy::Naive, DOPRI5.into()),
        (Strategy::NaiveThroughStepSize, DOPRI5.into()),
        (Strategy::Backsolve, DOPRI5.into()),
        (Strategy::Mali, Method::Leapfrog),
    ];
    let mut settings = Vec::new();
    for (strategy, method) in entrants {
        let rtols = match (strategy, quick) {
            (Strategy::Mali, _) => vec![1e-3],
            (_, true) => vec![1e-7],
            (_, false) => tolerances(3, 12, 1),
        };
        let setting = |tol| Setting::within(strategy, method.clone(), tol);
        settings.extend(rtols.into_iter().map(setting));
    }
    settings
}

fn task() -> Result<Task<VanDerPol>> {
    let (mu, y0) = (Var::new(&[MU], &Device::Cpu)?, Var::new(&Y0, &Device::Cpu)?);
    Ok(Task {
        problem: "van-der-pol",
        end: None,
        system: VanDerPol,
        theta: mu.clone(),
        y0: y0.clone(),
        span: (0.0, END),
        save_at: SaveAt::End,
        loss: square,
        wanted: vec![mu, y0],
        exact: GRADIENT.to_vec(),
    })
}

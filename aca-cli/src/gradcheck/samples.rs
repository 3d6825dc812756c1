//! Oscillators of different stiffness in one batch: one step for all of them, or a clock for each.

use aca_adjoint::Ode;
use aca_core::{Batching, Solver, Tolerance};
use aca_dense::SaveAt;
use aca_tableau::{DOP853, DOPRI5, Tableau};
use candle_core::DType;
use serde::Serialize;

use super::{Checked, Plan, draw, write_csv};
use crate::bench::timing::median;
use crate::oscillators;
use crate::report::{self, Result, Side, aligned};

/// Largest stiffness of each batch; the smallest is 1.
const MU_MAX: [f64; 5] = [1.0, 3.0, 10.0, 30.0, 100.0];

const TEXT: &str = "\
samples: 256 van der Pol oscillators with mu from 1 to a largest, L = mean of y(10)^2, dL/dmu,
         dopri5 at rtol = atol = 1e-6; error against dop853 at 1e-12 with a clock for each";

/// What one way to step found.
#[derive(Serialize)]
pub struct Finding {
    pub mu_max: f64,
    /// Whether every oscillator stepped on its own.
    pub own_clocks: bool,
    /// Fewest and most accepted steps of an oscillator.
    accepted_least: usize,
    accepted_most: usize,
    /// Evaluations of the field, forward and backward, of any number of oscillators.
    evaluations: usize,
    pub ms: f64,
    pub error: f64,
}

/// A gradient and what it took.
struct Found {
    gradient: Vec<f64>,
    accepted: (usize, usize),
    evaluations: usize,
}

/// Compares both ways over growing spreads of stiffness.
pub fn run(plan: &Plan<'_>) -> Result<Checked> {
    let mut findings = Vec::new();
    for mu_max in MU_MAX.into_iter().filter(|mu| !plan.quick || *mu <= 10.0) {
        let exact = find(mu_max, &DOP853, 1e-12, Batching::PerSample)?.gradient;
        for batching in [Batching::Shared, Batching::PerSample] {
            let (ms, found) = median(plan.reps, || find(mu_max, &DOPRI5, 1e-6, batching))?;
            findings.push(Finding {
                mu_max,
                own_clocks: batching == Batching::PerSample,
                accepted_least: found.accepted.0,
                accepted_most: found.accepted.1,
                evaluations: found.evaluations,
                ms,
                error: distance(&found.gradient, &exact),
            });
        }
    }
    report::line(&format!("{TEXT}\n{}\n", table(&findings).join("\n")))?;
    let mut files = draw::samples(&plan.out.join("samples"), &findings)?;
    files.push(write_csv(plan.out.join("samples.csv"), &findings)?);
    Ok(Checked { samples: findings, files, ..Checked::default() })
}

fn find(mu_max: f64, tableau: &Tableau, tolerance: f64, batching: Batching) -> Result<Found> {
    let field = oscillators::field(mu_max)?;
    let mu = field.theta().clone();
    let tolerance = Tolerance { rtol: tolerance, atol: tolerance };
    let solver = Solver::adaptive(tableau.clone(), tolerance);
    let solver = Solver { batching, max_steps: 100_000, ..solver };
    let ode = Ode::new(solver, field, vec![mu.clone()])?;
    let sol = ode.solve(&oscillators::starts()?, (0.0, oscillators::END), &SaveAt::End)?;
    let mut grads = sol.y1.sqr()?.mean_all()?.backward()?;
    let gradient = grads.remove(&mu).map_or_else(|| mu.zeros_like(), Ok)?;
    let each = sol.samples.iter().map(|end| end.stats.accepted);
    let least = each.clone().min().unwrap_or(sol.stats.accepted);
    Ok(Found {
        gradient: gradient.to_dtype(DType::F64)?.to_vec1()?,
        accepted: (least, each.max().unwrap_or(sol.stats.accepted)),
        evaluations: sol.stats.nfe + sol.nfe_backward(),
    })
}

/// Norm of the difference relative to the norm of `exact`.
fn distance(found: &[f64], exact: &[f64]) -> f64 {
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let difference = norm(&mut found.iter().zip(exact).map(|(found, exact)| found - exact));
    difference / norm(&mut exact.iter().copied())
}

fn table(findings: &[Finding]) -> Vec<String> {
    let heads = ["largest mu", "steps", "accepted", "evaluations", "ms", "error"];
    let rows = findings.iter().map(|found| {
        let steps = if found.own_clocks { "own" } else { "shared" };
        let accepted = match found.own_clocks {
            true => format!("{} to {}", found.accepted_least, found.accepted_most),
            false => found.accepted_most.to_string(),
        };
        vec![
            found.mu_max.to_string(),
            steps.to_owned(),
            accepted,
            found.evaluations.to_string(),
            format!("{:.2}", found.ms),
            format!("{:.1e}", found.error),
        ]
    });
    let rows: Vec<_> = std::iter::once(heads.map(str::to_owned).to_vec()).chain(rows).collect();
    aligned(&rows, |column| if column == 1 { Side::Left } else { Side::Right })
}

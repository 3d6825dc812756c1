//! A trajectory solved forward, then backward from its end, against its checkpoints replayed.

use std::path::Path;

use aca_adjoint::{Checkpoint, Checkpoints};
use aca_core::{SolveEnd, Solver, Stats, Tolerance};
use aca_dense::{SaveAt, Saver, Solution};
use aca_models::systems::{ClosedForm, VanDerPol};
use aca_tableau::DOPRI5;
use candle_core::{Device, Tensor};

use super::row::Row;
use super::setting::Setting;
use super::van_der_pol::{END, MU, Y0};
use super::{Checked, Plan, draw, row};
use crate::report::{self, Error, Result};
use crate::strategy::Strategy;

/// Times at which the trajectories are compared.
const POINTS: usize = 401;

const TEXT: &str = "\
van-der-pol-reverse: solved to t = 20 with mu = 1 from y = (2, 0), then back; atol = rtol
                     error: largest distance of the states from those of the forward solve,
                     replayed from checkpoints (aca) or solved backward in time (backsolve)";

/// A solve forward and back.
pub struct Return {
    pub rtol: f64,
    pub ts: Vec<f64>,
    /// States of the forward solve at `ts`.
    pub forward: Vec<Vec<f64>>,
    /// States of the solve backward at `ts`; those before it failed are missing.
    pub backward: States,
}

impl Return {
    /// Distances between the states of both solves, with their times.
    pub fn distances(&self) -> Vec<(f64, f64)> {
        let pairs = self.ts.iter().zip(&self.forward).zip(&self.backward);
        let distances = pairs.filter_map(|((&t, forward), backward)| {
            backward.as_ref().map(|backward| (t, distance(forward, backward)))
        });
        distances.collect()
    }
}

/// Solves forward and back at several tolerances.
pub fn run(plan: &Plan<'_>) -> Result<Checked> {
    let rtols = if plan.quick { vec![1e-3, 1e-7] } else { vec![1e-3, 1e-5, 1e-7, 1e-9, 1e-11] };
    let (mut rows, mut returns) = (Vec::new(), Vec::new());
    for rtol in rtols {
        let (both, turned) = there_and_back(rtol)?;
        rows.extend(both);
        returns.push(turned);
    }
    report::line(TEXT)?;
    report::line(&(row::table(rows.iter()) + "\n"))?;
    let mut files = draw::reverse(&plan.out.join("van-der-pol-reverse"), &returns)?;
    let table = plan.out.join("van-der-pol-reverse.csv");
    write_csv(&table, &returns)?;
    files.push(table);
    Ok(Checked { rows, files, ..Checked::default() })
}

fn there_and_back(rtol: f64) -> Result<([Row; 2], Return)> {
    let field = VanDerPol::field(&[MU])?;
    let solver = Solver::adaptive(DOPRI5, Tolerance { rtol, atol: rtol });
    let ts: Vec<f64> = (0..POINTS).map(|i| END * i as f64 / (POINTS - 1) as f64).collect();
    let (y0, mut kept) = (Tensor::new(&Y0, &Device::Cpu)?, Checkpoints::default());
    let times = SaveAt::Times(ts.clone());
    let sol = Solution::record(&solver, &field, &y0, (0.0, END), &times, &mut kept)?;
    let replayed = replayed(&solver, &field, &kept.of_sample(0)?, &sol, rtol)?;

    let (backward, end) = back(&solver, &field, &sol.y1, &ts)?;
    let turned = Return { rtol, ts, forward: sol.ys.to_vec2()?, backward };
    let row = row(Strategy::Backsolve, rtol, &sol);
    let solved = match end {
        Ok(Stats { nfe, accepted, rejected, .. }) => {
            let error = turned.distances().into_iter().map(|(_, off)| off).reduce(f64::max);
            Row { error, nfe_backward: nfe, accepted, rejected, ..row }
        }
        Err(error) => row.failed(&error),
    };
    Ok(([replayed, solved], turned))
}

type States = Vec<Option<Vec<f64>>>;

/// Solves backward in time from the last of `ts`; returns the states there, as far as the solve
/// came, and how it ended.
fn back(
    solver: &Solver,
    field: &ClosedForm<VanDerPol>,
    y1: &Tensor,
    ts: &[f64],
) -> Result<(States, aca_core::Result<Stats>)> {
    let times = SaveAt::Times(ts.iter().rev().copied().collect());
    let mut saver = Saver::new(solver, &times, &(END, 0.0).into(), y1)?;
    let end = solver.solve(field, y1, (END, 0.0), &mut saver);
    let came_to = match &end {
        Ok(end) => end.clone(),
        Err(_) => SolveEnd::whole(y1.clone(), 0.0, Stats::default()),
    };
    let saved = saver.finish(came_to)?.ys.to_vec2::<f64>()?;
    let mut states = vec![None; ts.len()];
    states.iter_mut().rev().zip(saved).for_each(|(place, y)| *place = Some(y));
    Ok((states, end.map(|end| end.stats)))
}

/// Repeats every step from its checkpoint and compares its end with the next checkpoint.
fn replayed(
    solver: &Solver,
    field: &ClosedForm<VanDerPol>,
    kept: &[Checkpoint],
    sol: &Solution,
    rtol: f64,
) -> Result<Row> {
    let mut found = Row { error: Some(0.0), ..row(Strategy::Aca, rtol, sol) };
    let ends = kept.iter().skip(1).map(|later| &later.y0).chain([&sol.y1]);
    for (step, y1) in kept.iter().zip(ends) {
        let end = solver.replay(field, &step.y0, &[step.t0, step.t1], &mut ())?;
        let off = distance(&end.y1.to_vec1()?, &y1.to_vec1()?);
        found.error = found.error.map(|error| error.max(off));
        found.nfe_backward += end.stats.nfe;
        found.accepted += 1;
    }
    Ok(found)
}

fn row(strategy: Strategy, rtol: f64, sol: &Solution) -> Row {
    let setting = Setting::within(strategy, DOPRI5, rtol);
    let row = Row::new("van-der-pol-reverse", None, &setting);
    Row { nfe_forward: sol.stats.nfe, ..row }
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

fn write_csv(path: &Path, returns: &[Return]) -> Result<()> {
    let mut writer = csv::Writer::from_path(path)?;
    writer.write_record(["rtol", "t", "x", "v", "x_reverse", "v_reverse"])?;
    for Return { rtol, ts, forward, backward } in returns {
        for ((t, forward), backward) in ts.iter().zip(forward).zip(backward) {
            let missing = vec![String::new(); forward.len()];
            let numbers = |y: &Vec<f64>| y.iter().map(f64::to_string).collect();
            let backward = backward.as_ref().map_or(missing, numbers);
            let head = vec![format!("{rtol:e}"), t.to_string()];
            writer.write_record([head, numbers(forward), backward].concat())?;
        }
    }
    writer.flush().map_err(Error::file("write", path))
}

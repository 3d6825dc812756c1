//! `aca three-body`: recovers three masses from their orbits.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use aca_core::{Solver, Tolerance};
use aca_models::systems::ThreeBody;
use candle_core::{Device, Tensor};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;

use crate::args::ThreeBodyArgs;
use crate::method::method;
use crate::plot::{self, Chart, Mark, Orbits};
use crate::report::{self, Error, Result};

mod fit;
mod log;
mod polish;

use fit::{Adam, Evaluation, Objective, Problem, max_mass_error};
use log::{Log, Row};

/// What the Adam stage reached.
#[derive(Clone, Copy, Serialize)]
struct AdamSummary {
    max_mass_error: f64,
    best_sum_sq: f64,
    best_epoch: usize,
}

/// What the whole run reached.
#[derive(Serialize)]
struct Summary {
    masses: [f64; 3],
    max_mass_error: f64,
    best_sum_sq: f64,
    adam: AdamSummary,
    seconds: f64,
    nfe_forward: usize,
    nfe_backward: usize,
    accepted: usize,
    rejected: usize,
}

/// Trains, polishes, predicts, and writes everything into the run's folder.
pub fn run(args: &ThreeBodyArgs) -> Result<()> {
    let tableau = method(&args.method)?;
    if !tableau.is_adaptive() {
        return Err(Error::NotAdaptive { method: tableau.name().to_owned() });
    }
    fs::create_dir_all(&args.out).map_err(Error::file("create", &args.out))?;
    write_config(args)?;
    let mut log = Log::new(&args.out, args.epochs as usize)?;
    let mut problem = Problem::new(start_masses(args.seed), tableau)?;
    let (after_adam, adam) = train(args, &mut problem, &mut log)?;
    let best = match args.no_polish {
        true => after_adam,
        false => polish::polish(&mut problem, after_adam, &mut |e| log.row("polish", None, e))?,
    };
    let seconds = log.start.elapsed().as_secs_f64();
    log.finish();
    save(&args.out, best.masses)?;
    let cost = problem.cost;
    let summary = Summary {
        masses: best.masses,
        max_mass_error: max_mass_error(best.masses),
        best_sum_sq: best.sum_sq,
        adam,
        seconds,
        nfe_forward: cost.nfe_forward,
        nfe_backward: cost.nfe_backward,
        accepted: cost.accepted,
        rejected: cost.rejected,
    };
    predict(args, &summary, &log.rows)?;
    if args.json { report::json(&summary) } else { Ok(()) }
}

/// Start masses within 10 % of 1, as in the original, but seeded.
fn start_masses(seed: u64) -> [f64; 3] {
    let mut rng = StdRng::seed_from_u64(seed);
    [0; 3].map(|_| (rng.random::<f64>() - 0.5) * 0.2 + 1.0)
}

/// The original's recipe; the best epoch by the plain sum of squares is kept.
fn train(
    args: &ThreeBodyArgs,
    problem: &mut Problem,
    log: &mut Log,
) -> Result<(Evaluation, AdamSummary)> {
    let objective = Objective::adam(Tolerance { rtol: args.rtol, atol: args.atol });
    let mut adam = Adam::new(start_masses(args.seed))?;
    let mut best: Option<(usize, Evaluation)> = None;
    for epoch in 0..args.epochs as usize {
        let rate = adam.begin_epoch();
        let evaluation = problem.evaluate(adam.masses()?, objective)?;
        log.row("adam", Some(rate), &evaluation)?;
        if best.is_none_or(|(_, best)| evaluation.sum_sq < best.sum_sq) {
            best = Some((epoch, evaluation));
        }
        adam.step(evaluation.gradient)?;
    }
    let (best_epoch, best) = best.ok_or(Error::NoEpoch)?;
    let max_mass_error = max_mass_error(best.masses);
    Ok((best, AdamSummary { max_mass_error, best_sum_sq: best.sum_sq, best_epoch }))
}

/// Follows the fitted masses to twice the training span, at times between the observations.
fn predict(args: &ThreeBodyArgs, summary: &Summary, rows: &[Row]) -> Result<()> {
    let times: Vec<f64> = (0..2000).map(|i| (i as f64 + 0.5) / 1000.0).collect();
    let truth = fit::true_orbits(ThreeBody::MASSES, 2.0, &times)?;
    let solver = Solver::for_tableau(method(&args.method)?, polish::TOLERANCE, None)?;
    let fitted = fit::orbits(&solver, summary.masses, 2.0, &times)?;
    let apart = (&fitted - &truth)?.abs()?;
    let worst = |start: usize| -> Result<f64> {
        Ok(apart.narrow(0, start, 1000)?.max_all()?.to_scalar::<f64>()?)
    };
    let (seen, unseen) = (worst(0)?, worst(1000)?);
    tell(summary, seen, unseen, &args.out)?;
    if args.no_plots {
        return Ok(());
    }
    let (truth, fitted) = (bodies(&truth)?, bodies(&fitted)?);
    let caption = format!(
        "Three bodies from fitted masses: worst position error {unseen:.1e} up to twice the training span"
    );
    plot::orbits(&args.out.join("trajectory.png"), &truth, &fitted, &caption)?;
    plot::animation(
        &args.out.join("orbits.gif"),
        &truth,
        &fitted,
        &times,
        "Three bodies, true and predicted",
    )?;
    draw_loss(args, summary, rows)
}

fn draw_loss(args: &ThreeBodyArgs, summary: &Summary, rows: &[Row]) -> Result<()> {
    let of = |stage: &str| -> Vec<(f64, f64)> {
        let rows = rows.iter().enumerate().filter(|(_, row)| row.stage == stage);
        rows.map(|(i, row)| (i as f64, row.sum_sq)).collect()
    };
    let (adam, polish) = (of("adam"), of("polish"));
    let mut series = vec![("Adam", adam)];
    if !polish.is_empty() {
        series.push(("L-BFGS", polish));
    }
    let AdamSummary { best_sum_sq, best_epoch, .. } = summary.adam;
    let mark = Mark {
        at: (best_epoch as f64, best_sum_sq),
        label: format!("best epoch {best_epoch}: {best_sum_sq:.2e}"),
    };
    let chart = Chart {
        series: &series,
        x_label: "gradient evaluation",
        y_label: "sum of squared position errors",
        caption: "Fitting three masses",
        mark: Some(mark),
    };
    plot::loss_curve(&args.out.join("loss.png"), &chart)
}

fn tell(summary: &Summary, seen: f64, unseen: f64, out: &Path) -> Result<()> {
    let Summary { masses, adam, .. } = summary;
    report::line(&format!(
        "masses        {:.9} {:.9} {:.9} (true 1.1 1.1 0.9)\n\
         mass error    {:.1e} (after Adam {:.1e}, best epoch {})\n\
         sum of squares {:.2e} (after Adam {:.2e})\n\
         position error {seen:.1e} on [0, 1], {unseen:.1e} on [1, 2], which was not trained on\n\
         cost          {:.1} s, {} + {} field evaluations, {} steps, {} rejected\n\
         results in {}",
        masses[0],
        masses[1],
        masses[2],
        summary.max_mass_error,
        adam.max_mass_error,
        adam.best_epoch,
        summary.best_sum_sq,
        adam.best_sum_sq,
        summary.seconds,
        summary.nfe_forward,
        summary.nfe_backward,
        summary.accepted,
        summary.rejected,
        out.display()
    ))
}

/// Splits positions `[times, 9]` into the paths of the bodies.
fn bodies(positions: &Tensor) -> Result<Orbits> {
    let rows = positions.to_vec2::<f64>()?;
    Ok([0, 3, 6].map(|at| rows.iter().map(|row| [row[at], row[at + 1], row[at + 2]]).collect()))
}

fn save(out: &Path, masses: [f64; 3]) -> Result<()> {
    let masses = Tensor::new(&masses, &Device::Cpu)?;
    let tensors = HashMap::from([("masses".to_owned(), masses)]);
    Ok(candle_core::safetensors::save(&tensors, out.join("best.safetensors"))?)
}

/// The settings of the run, as a file that says how to repeat it.
#[derive(Serialize)]
struct Config<'a> {
    seed: u64,
    epochs: u32,
    method: &'a str,
    rtol: f64,
    atol: f64,
    polish: bool,
    polish_tolerance: f64,
    start_masses: [f64; 3],
}

fn write_config(args: &ThreeBodyArgs) -> Result<()> {
    let config = Config {
        seed: args.seed,
        epochs: args.epochs,
        method: &args.method,
        rtol: args.rtol,
        atol: args.atol,
        polish: !args.no_polish,
        polish_tolerance: polish::TOLERANCE.rtol,
        start_masses: start_masses(args.seed),
    };
    let path = args.out.join("config.toml");
    let text = toml::to_string(&config)
        .map_err(|error| Error::file("write", &path)(std::io::Error::other(error)))?;
    fs::write(&path, text).map_err(Error::file("write", &path))
}

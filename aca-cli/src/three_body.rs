//! `aca three-body`: recovers three masses from their orbits.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use aca_core::{Method, Tolerance};
use candle_core::{Device, Tensor};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::args::{DeviceName, ThreeBodyArgs};
use crate::distributed;
use crate::method::method;
use crate::report::{self, Error, Result};

mod ensemble;
mod fit;
mod log;
mod polish;
mod predict;

use fit::{Adam, Evaluation, Objective, Problem, max_mass_error};
use log::Log;

/// What the Adam stage reached.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct AdamSummary {
    max_mass_error: f64,
    best_sum_sq: f64,
    best_epoch: usize,
}

/// What the whole run reached.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
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

/// Fits with one seed, or with many and then with the best of them.
pub fn run(args: &ThreeBodyArgs) -> Result<()> {
    match &args.seeds {
        None => record(args, adaptive(args)?),
        Some(seeds) => distributed::run(args.distributed, DeviceName::Cpu, None, |ranks, _| {
            ensemble::run(args, seeds.clone(), &*ranks)
        }),
    }
}

/// The method that was asked for.
fn adaptive(args: &ThreeBodyArgs) -> Result<Method> {
    let tableau = method(&args.method)?;
    match tableau.is_adaptive() {
        true => Ok(tableau),
        false => Err(Error::NotAdaptive { method: tableau.name().to_owned() }),
    }
}

/// Trains, polishes, predicts, and writes everything into the run's folder.
fn record(args: &ThreeBodyArgs, tableau: Method) -> Result<()> {
    fs::create_dir_all(&args.out).map_err(Error::file("create", &args.out))?;
    let mut log = Log::new(&args.out, args.epochs as usize);
    let fitted = fit(args, tableau, &mut |stage, rate, evaluation| {
        // What an earlier run left stays until this one has something to write.
        if log.rows.is_empty() {
            remove_results(&args.out)?;
            write_config(args)?;
        }
        log.row(stage, rate, evaluation)
    });
    log.finish();
    let summary = fitted?;
    save(&args.out, summary.masses)?;
    predict::predict(args, &summary, &log.rows)?;
    if args.json { report::json(&summary) } else { Ok(()) }
}

/// Hears of every evaluation: its stage, its learning rate, and what it gave.
type Watch<'a> = &'a mut dyn FnMut(&'static str, Option<f64>, &Evaluation) -> Result<()>;

/// Fits the masses from those of the seed.
fn fit(args: &ThreeBodyArgs, tableau: Method, watch: Watch<'_>) -> Result<Summary> {
    let start = Instant::now();
    let mut problem = Problem::new(start_masses(args.seed), tableau)?;
    let (after_adam, adam) = train(args, &mut problem, watch)?;
    let best = match args.no_polish {
        true => after_adam,
        false => polish::polish(&mut problem, after_adam, &mut |e| watch("polish", None, e))?,
    };
    let cost = problem.cost;
    Ok(Summary {
        masses: best.masses,
        max_mass_error: max_mass_error(best.masses),
        best_sum_sq: best.sum_sq,
        adam,
        seconds: start.elapsed().as_secs_f64(),
        nfe_forward: cost.nfe_forward,
        nfe_backward: cost.nfe_backward,
        accepted: cost.accepted,
        rejected: cost.rejected,
    })
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
    watch: Watch<'_>,
) -> Result<(Evaluation, AdamSummary)> {
    let objective = Objective::adam(Tolerance { rtol: args.rtol, atol: args.atol });
    let mut adam = Adam::new(start_masses(args.seed))?;
    let mut best: Option<(usize, Evaluation)> = None;
    for epoch in 0..args.epochs as usize {
        let rate = adam.begin_epoch();
        let evaluation = problem.evaluate(adam.masses()?, objective)?;
        watch("adam", Some(rate), &evaluation)?;
        if best.is_none_or(|(_, best)| evaluation.sum_sq < best.sum_sq) {
            best = Some((epoch, evaluation));
        }
        adam.step(evaluation.gradient)?;
    }
    let (best_epoch, best) = best.ok_or(Error::NoEpoch)?;
    let max_mass_error = max_mass_error(best.masses);
    Ok((best, AdamSummary { max_mass_error, best_sum_sq: best.sum_sq, best_epoch }))
}

/// Removes what an earlier run found, lest its results stand beside the settings of another.
fn remove_results(out: &Path) -> Result<()> {
    for name in ["best.safetensors", "trajectory.png", "orbits.gif", "loss.png"] {
        let path = out.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::file("remove", &path)(error));
            }
            _ => {}
        }
    }
    Ok(())
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

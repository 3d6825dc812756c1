//! `aca three-body`: recovers three masses from their orbits.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use aca_core::{Method, Number, Tolerance};
use candle_core::{Device, Tensor};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::args::{DeviceName, ThreeBodyArgs};
use crate::distributed;
use crate::method::{adaptive, check_tolerance, check_tolerances};
use crate::report::{self, Error, Result};
use crate::results::Results;

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
        None => record(args, checked(args)?),
        Some(seeds) => distributed::run(args.distributed, DeviceName::Cpu, None, |ranks, _| {
            ensemble::run(args, seeds.clone(), &*ranks)
        }),
    }
}

/// The method that was asked for, with tolerances and a number of steps by which the whole run can be done.
fn checked(args: &ThreeBodyArgs) -> Result<Method> {
    let tableau = adaptive(&args.method, "aca three-body")?;
    check_tolerances(&tableau, Some(args.rtol), Some(args.atol))?;
    check_tolerance("--polish-tol", args.polish_tol)?;
    predict::check(args, &tableau)?;
    Ok(tableau)
}

/// Files of the results beside their settings.
const FILES: [&str; 6] =
    ["metrics.csv", "best.safetensors", "trajectory.png", "orbits.gif", "loss.png", ENSEMBLE];
/// The table of an ensemble.
const ENSEMBLE: &str = "ensemble.csv";

/// Looks whether the run may write where it wants to.
fn claim<'a>(args: &'a ThreeBodyArgs, settings: &Config<'_>) -> Result<Results<'a>> {
    let place = (args.out.as_path(), "config.toml");
    Results::claim("aca three-body", place, settings, &FILES, args.overwrite)
}

/// Trains, polishes, predicts, and writes everything into the run's folder.
fn record(args: &ThreeBodyArgs, tableau: Method) -> Result<()> {
    let results = claim(args, &Config::new(args))?;
    fs::create_dir_all(&args.out).map_err(Error::file("create", &args.out))?;
    report::line(&header(args))?;
    let mut log = Log::new(&args.out, args.epochs as usize);
    let fitted = fit(args, tableau.clone(), &mut |stage, rate, evaluation| {
        // What an earlier run left stays until this one has something to write.
        if log.rows.is_empty() {
            if args.overwrite {
                remove_results(&args.out)?;
            }
            results.begin()?;
        }
        log.row(stage, rate, evaluation)
    });
    log.finish();
    let summary = fitted?;
    save(&args.out, summary.masses)?;
    predict::predict(args, &tableau, &summary, &log.rows)?;
    if args.json { report::json(&summary) } else { Ok(()) }
}

/// The lines that the fit starts with.
fn header(args: &ThreeBodyArgs) -> String {
    let ThreeBodyArgs { epochs, seed, method, rtol, atol, .. } = args;
    let polish = match args.no_polish {
        true => "no polish".to_owned(),
        false => format!("then L-BFGS at {}", Number(args.polish_tol)),
    };
    report::facts(&[
        ("fits", format!("3 masses to 1000 observed positions of 3 bodies on [0, 1], seed {seed}")),
        ("gradient", "aca".to_owned()),
        ("solver", format!("{method}, rtol {}, atol {}", Number(*rtol), Number(*atol))),
        ("plan", format!("{epochs} epochs of Adam, {polish}")),
        ("threads", report::threads()),
        ("results", args.out.display().to_string()),
    ])
}

/// Hears of every evaluation: its stage, its learning rate, and what it gave.
type Watch<'a> = &'a mut dyn FnMut(&'static str, Option<f64>, &Evaluation) -> Result<()>;

/// Fits the masses from those of the seed.
fn fit(args: &ThreeBodyArgs, tableau: Method, watch: Watch<'_>) -> Result<Summary> {
    let start = Instant::now();
    let mut problem = Problem::new(start_masses(args.seed), tableau, args.max_steps)?;
    let (after_adam, adam) = train(args, &mut problem, watch)?;
    let best = match args.no_polish {
        true => after_adam,
        false => {
            let tolerance = final_tolerance(args);
            polish::polish(&mut problem, after_adam, tolerance, &mut |e| watch("polish", None, e))?
        }
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

/// The tolerance of the last stage of the fit, and of what is predicted from it.
fn final_tolerance(args: &ThreeBodyArgs) -> Tolerance {
    match args.no_polish {
        true => Tolerance { rtol: args.rtol, atol: args.atol },
        false => Tolerance { rtol: args.polish_tol, atol: args.polish_tol },
    }
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
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    /// First seed of an ensemble and the one after its last.
    seeds: Vec<u64>,
    epochs: u32,
    method: &'a str,
    rtol: f64,
    atol: f64,
    max_steps: usize,
    polish: bool,
    polish_tolerance: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_masses: Option<[f64; 3]>,
}

impl<'a> Config<'a> {
    fn new(args: &'a ThreeBodyArgs) -> Self {
        Self {
            seed: Some(args.seed),
            seeds: args.seeds.iter().flat_map(|seeds| [seeds.start, seeds.end]).collect(),
            epochs: args.epochs,
            method: &args.method,
            rtol: args.rtol,
            atol: args.atol,
            max_steps: args.max_steps,
            polish: !args.no_polish,
            polish_tolerance: args.polish_tol,
            start_masses: Some(start_masses(args.seed)),
        }
    }

    /// The same of an ensemble, before it is known which of its seeds is the best.
    fn of_ensemble(args: &'a ThreeBodyArgs) -> Self {
        Self { seed: None, start_masses: None, ..Self::new(args) }
    }
}

//! `aca classify test`: a trained network with other solvers, without training it again.

use std::path::Path;
use std::time::Instant;

use aca_core::Number;
use aca_models::data::DataSet;
use aca_models::networks::Network;
use aca_models::training::{Checkpoint, evaluate, load_network};
use serde::Serialize;

use super::folder::file_of;
use super::run::BEST;
use super::{draw, setting::Setting, stored_setting};
use crate::args::{SolverArgs, TestArgs};
use crate::report::{self, Error, Refusal, Result, Side, aligned};
use crate::results::Results;

/// Methods that need a step, and the steps of the table.
const FIXED: [&str; 4] = ["euler", "midpoint", "heun", "rk4"];
const STEPS: [f64; 4] = [1.0, 0.5, 0.2, 0.1];
/// Methods that choose their steps, and the tolerances of the table.
const ADAPTIVE: [&str; 4] = ["heun_euler", "bosh3", "dopri5", "tsit5"];
const TOLERANCES: [f64; 4] = [1e-1, 1e-2, 1e-3, 1e-4];
/// Images judged at a time.
const BATCH: usize = 128;

/// What a network reached with one solver.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    pub method: String,
    /// Fixed step, if there is one.
    pub h: Option<f64>,
    /// Tolerance, relative and absolute, of an adaptive method.
    pub tolerance: Option<f64>,
    pub test_accuracy: f64,
    pub test_loss: f64,
    /// Evaluations of fields for a batch.
    pub nfe: f64,
    pub seconds: f64,
    /// Whether the network was trained like this.
    pub trained: bool,
}

/// Tests with one solver, or with all.
pub fn run(args: &TestArgs) -> Result<()> {
    let path = file_of(&args.checkpoint, BEST);
    if !path.exists() {
        return Err(Refusal::NothingTrained { path }.into());
    }
    let checkpoint = Checkpoint::load(&path)?;
    let trained = stored_setting(&checkpoint, Some(&path))?.with_data(&args.data);
    let data = super::images(&trained, &args.data)?;
    let mut bench = Bench { network: trained.network(&data, args.device.open()?)?, data, trained };
    load_network(&bench.network, &checkpoint)?;
    match args.all_solvers {
        true => all_solvers(args, claim(args, (&path, &checkpoint), &bench.trained)?, &mut bench),
        false => one(args, &mut bench),
    }
}

/// What the table of all solvers follows from.
#[derive(Serialize)]
struct Config {
    checkpoint: String,
    epochs: usize,
    seed: u64,
    t0: f64,
    t1: f64,
    max_steps: usize,
}

/// Looks whether the table of all solvers may be written where the user wants it.
fn claim<'a>(
    args: &'a TestArgs,
    (path, checkpoint): (&Path, &Checkpoint),
    trained: &Setting,
) -> Result<Results<'a>> {
    let Setting { t0, t1, max_steps, .. } = trained.clone().solved(&args.solver)?;
    let about = &checkpoint.about;
    let (epochs, seed) = (about.history.len(), about.plan.seed);
    let checkpoint = path.display().to_string();
    let config = Config { checkpoint, epochs, seed, t0, t1, max_steps };
    let files = ["solvers.csv", "solvers.png", "solvers.svg"];
    let place = (args.out.as_path(), "solvers.toml");
    Results::claim("aca classify test --all-solvers", place, &config, &files, args.overwrite)
}

/// A trained network, what it was trained with, and the images to judge it by.
struct Bench {
    network: Network,
    data: DataSet,
    trained: Setting,
}

impl Bench {
    fn judge(&mut self, setting: &Setting) -> Result<Finding> {
        let ode = setting.ode()?;
        let is_fixed = !ode.solver.method.is_adaptive();
        self.network.set_ode(ode)?;
        let start = Instant::now();
        let DataSet { test, recipe, .. } = &self.data;
        let judged = evaluate(&self.network, test, recipe, BATCH);
        let sums = judged.map_err(|error| setting.told(error.into()))?.sums;
        Ok(Finding {
            method: setting.method.clone(),
            h: setting.h.filter(|_| is_fixed),
            tolerance: (!is_fixed).then_some(setting.rtol),
            test_accuracy: sums.accuracy(),
            test_loss: sums.mean_loss(),
            nfe: sums.nfe_a_batch()[0],
            seconds: start.elapsed().as_secs_f64(),
            trained: setting.solves_like(&self.trained),
        })
    }
}

fn one(args: &TestArgs, bench: &mut Bench) -> Result<()> {
    let setting = bench.trained.clone().solved(&args.solver)?;
    let found = bench.judge(&setting)?;
    report::line(&table(std::slice::from_ref(&found)).join("\n"))?;
    if args.json { report::json(&found) } else { Ok(()) }
}

/// The table of the paper: trained with one solver, tested with every other.
fn all_solvers(args: &TestArgs, results: Results<'_>, bench: &mut Bench) -> Result<()> {
    let length = (bench.trained.t1 - bench.trained.t0).abs();
    let fixed =
        FIXED.iter().flat_map(|method| STEPS.map(|part| (*method, Some(part * length), None)));
    let adaptive =
        ADAPTIVE.iter().flat_map(|method| TOLERANCES.map(|tol| (*method, None, Some(tol))));
    let mut findings = Vec::new();
    for (method, h, tolerance) in fixed.chain(adaptive) {
        let solver = SolverArgs {
            method: Some(method.to_owned()),
            h,
            rtol: tolerance,
            atol: tolerance,
            ..args.solver.clone()
        };
        findings.push(bench.judge(&bench.trained.clone().solved(&solver)?)?);
    }
    report::line(&table(&findings).join("\n"))?;
    results.begin()?;
    let csv = args.out.join("solvers.csv");
    write_csv(&csv, &findings)?;
    let pictures = draw::solvers(&args.out.join("solvers"), &bench.trained.method, &findings)?;
    for file in [csv].iter().chain(&pictures) {
        report::line(&format!("written  {}", file.display()))?;
    }
    if args.json { report::json(&findings) } else { Ok(()) }
}

fn table(findings: &[Finding]) -> Vec<String> {
    let heads = ["method", "h", "tolerance", "NFE", "accuracy, %", "error, %", "loss", "trained"];
    let number = |x: Option<f64>| x.map_or_else(|| "-".to_owned(), |x| Number(x).to_string());
    let rows = findings.iter().map(|found| {
        vec![
            found.method.clone(),
            number(found.h),
            number(found.tolerance),
            format!("{:.0}", found.nfe),
            format!("{:.2}", 100.0 * found.test_accuracy),
            format!("{:.2}", 100.0 * (1.0 - found.test_accuracy)),
            format!("{:.4}", found.test_loss),
            if found.trained { "yes" } else { "" }.to_owned(),
        ]
    });
    let rows: Vec<_> = std::iter::once(heads.map(str::to_owned).to_vec()).chain(rows).collect();
    aligned(&rows, |column| if column == 0 { Side::Left } else { Side::Right })
}

fn write_csv(path: &Path, findings: &[Finding]) -> Result<()> {
    let mut table = csv::Writer::from_path(path)?;
    findings.iter().try_for_each(|finding| table.serialize(finding))?;
    table.flush().map_err(Error::file("write", path))
}

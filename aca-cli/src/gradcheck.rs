//! `aca gradcheck`: the gradient strategies against known gradients.

mod draw;
mod evaluations;
mod linear;
mod measure;
mod memory;
mod reverse;
mod row;
mod samples;
mod setting;
mod stiff;
mod three_body;
mod trust;
mod van_der_pol;
mod verdict;

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::args::{CheckProblem, GradcheckArgs};
use crate::report::{self, Error, Result};
use crate::results::Results;
use crate::strategy::Strategy;
use row::Row;
use samples::Finding;
use trust::Trust;

/// How much to run.
struct Plan<'a> {
    /// Repetitions on the clock.
    reps: usize,
    /// Few tolerances and spans.
    quick: bool,
    /// Folder of the results.
    out: &'a Path,
}

/// What a problem found and wrote.
#[derive(Default)]
struct Checked {
    rows: Vec<Row>,
    /// What the batch found whose samples step on their own.
    samples: Vec<Finding>,
    /// What losses say of their errors.
    trust: Vec<Trust>,
    files: Vec<PathBuf>,
}

/// Checks the strategies on the chosen problems, prints tables, draws and saves them.
pub fn run(args: &GradcheckArgs) -> Result<()> {
    claim(args)?.begin()?;
    if args.memory {
        memory::run()?;
        evaluations::run()?;
    }
    let plan = Plan { reps: args.reps as usize, quick: args.quick, out: &args.out };
    let mut all = Checked::default();
    for problem in chosen(&args.problem) {
        let checked = match problem {
            CheckProblem::Linear => linear::run(&plan)?,
            CheckProblem::VanDerPol => van_der_pol::run(&plan)?,
            CheckProblem::ThreeBody => three_body::run(&plan)?,
            CheckProblem::Samples => samples::run(&plan)?,
            CheckProblem::Stiff => stiff::run(&plan)?,
            CheckProblem::Trust => trust::run(&plan)?,
        };
        all.rows.extend(checked.rows);
        all.samples.extend(checked.samples);
        all.trust.extend(checked.trust);
        all.files.extend(checked.files);
    }
    if !all.rows.is_empty() {
        let table = args.out.join("gradcheck.csv");
        row::write_csv(&table, &all.rows)?;
        all.files.push(table);
    }
    for file in &all.files {
        report::line(&format!("written    {}", file.display()))?;
    }
    if args.json { report::json(&found(&all)) } else { Ok(()) }
}

/// The settings that findings follow from.
#[derive(Serialize)]
struct Config {
    problems: Vec<String>,
    reps: u32,
    quick: bool,
}

/// Tables and figures that the problems write.
const FILES: [&str; 11] = [
    "gradcheck.csv",
    "linear.png",
    "van-der-pol.png",
    "van-der-pol-reverse.csv",
    "van-der-pol-reverse.png",
    "three-body.png",
    "stiff.png",
    "samples.csv",
    "samples.png",
    "trust.csv",
    "trust.png",
];

/// Looks whether findings may be written where the user wants them.
fn claim(args: &GradcheckArgs) -> Result<Results<'_>> {
    let name = |problem: &CheckProblem| {
        problem.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    };
    let problems = chosen(&args.problem).iter().map(name).collect();
    let config = Config { problems, reps: args.reps, quick: args.quick };
    let place = (args.out.as_path(), "config.toml");
    Results::claim("aca gradcheck", place, &config, &FILES, args.overwrite)
}

/// The problems asked for, each once and in a fixed order; all of them when none is named.
fn chosen(asked: &[CheckProblem]) -> Vec<CheckProblem> {
    use CheckProblem::{Linear, Samples, Stiff, ThreeBody, Trust, VanDerPol};
    [Linear, VanDerPol, ThreeBody, Stiff, Samples, Trust]
        .into_iter()
        .filter(|problem| asked.is_empty() || asked.contains(problem))
        .collect()
}

/// Writes findings as a table, one per row.
fn write_csv<T: Serialize>(path: PathBuf, findings: &[T]) -> Result<PathBuf> {
    let mut table = csv::Writer::from_path(&path)?;
    for finding in findings {
        table.serialize(finding)?;
    }
    table.flush().map_err(Error::file("write", &path))?;
    Ok(path)
}

/// The rows of each strategy under its name, and those of batches and of losses' errors, if any, under `samples` and
/// `trust`.
fn found(all: &Checked) -> Value {
    let of = |strategy| all.rows.iter().filter(move |row| row.strategy == strategy);
    let entry =
        |strategy: Strategy| (strategy.name().to_owned(), of(strategy).map(Row::json).collect());
    let samples = (!all.samples.is_empty()).then(|| ("samples".to_owned(), json!(all.samples)));
    let trust = (!all.trust.is_empty()).then(|| ("trust".to_owned(), json!(all.trust)));
    let entries = Strategy::ALL.map(entry).into_iter().chain(samples).chain(trust);
    Value::Object(entries.collect::<Map<_, _>>())
}

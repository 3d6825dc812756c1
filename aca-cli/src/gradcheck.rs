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
mod three_body;
mod van_der_pol;
mod verdict;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::args::{CheckProblem, GradcheckArgs};
use crate::report::{self, Error, Result};
use crate::strategy::Strategy;
use row::Row;
use samples::Finding;

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
    /// What the batch with clocks of its own found.
    samples: Vec<Finding>,
    files: Vec<PathBuf>,
}

/// Checks the strategies on the chosen problems, prints tables, draws and saves them.
pub fn run(args: &GradcheckArgs) -> Result<()> {
    fs::create_dir_all(&args.out).map_err(Error::file("create", &args.out))?;
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
        };
        all.rows.extend(checked.rows);
        all.samples.extend(checked.samples);
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

/// The problems asked for, each once and in a fixed order; all of them when none is named.
fn chosen(asked: &[CheckProblem]) -> Vec<CheckProblem> {
    use CheckProblem::{Linear, Samples, ThreeBody, VanDerPol};
    [Linear, VanDerPol, ThreeBody, Samples]
        .into_iter()
        .filter(|problem| asked.is_empty() || asked.contains(problem))
        .collect()
}

/// The rows of each strategy under its name, and those of batches, if any, under `samples`.
fn found(all: &Checked) -> Value {
    let of = |strategy| all.rows.iter().filter(move |row| row.strategy == strategy);
    let entry =
        |strategy: Strategy| (strategy.name().to_owned(), of(strategy).map(Row::json).collect());
    let samples = (!all.samples.is_empty()).then(|| ("samples".to_owned(), json!(all.samples)));
    Value::Object(Strategy::ALL.map(entry).into_iter().chain(samples).collect::<Map<_, _>>())
}

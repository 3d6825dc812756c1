//! `aca solve`: a built-in system, solved, tabulated and drawn.

mod problem;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use aca_core::{Solver, Stats, Tolerance};
use aca_dense::{SaveAt, Solution};
use candle_core::{Device, Tensor};
use serde::Serialize;

use crate::args::SolveArgs;
use crate::method::method;
use crate::plot::{self, Trajectory};
use crate::report::{self, Error, Result};
use problem::Problem;

/// What a solve did.
#[derive(Serialize)]
struct Summary {
    system: &'static str,
    method: String,
    t0: f64,
    t1: f64,
    accepted: usize,
    rejected: usize,
    nfe: usize,
    h_smallest: f64,
    h_largest: f64,
    /// Time of the solve alone.
    seconds: f64,
    y1: Vec<f64>,
}

/// Solves the system and writes what came out.
pub fn run(args: &SolveArgs) -> Result<()> {
    let problem = Problem::new(args.system)?;
    let (t0, t1) = (args.t0, args.t1.unwrap_or(problem.t1));
    let tolerance = Tolerance { rtol: args.rtol, atol: args.atol };
    let solver = Solver::for_tableau(method(&args.method)?, tolerance, args.h)?;
    let solver = Solver { max_steps: args.max_steps, ..solver };
    let times = SaveAt::Times(spread(t0, t1, args.points));
    let y0 = Tensor::new(problem.y0, &Device::Cpu)?;

    let start = Instant::now();
    let solution = aca_dense::solve(&solver, &*problem.field, &y0, (t0, t1), &times)?;
    let seconds = start.elapsed().as_secs_f64();

    let Stats { accepted, rejected, nfe, h_smallest, h_largest } = solution.stats;
    let summary = Summary {
        system: problem.name,
        method: solver.tableau.name().to_owned(),
        t0,
        t1,
        accepted,
        rejected,
        nfe,
        h_smallest,
        h_largest,
        seconds,
        y1: solution.y1.to_vec1()?,
    };
    let files = write(args, &problem, &solution, &summary)?;
    report::line(&summary.text(problem.names))?;
    for file in files {
        report::line(&format!("{:<11}  {}", "written", file.display()))?;
    }
    if args.json { report::json(&summary) } else { Ok(()) }
}

/// `count` times from `t0` to `t1`, both included.
fn spread(t0: f64, t1: f64, count: u32) -> Vec<f64> {
    let last = f64::from(count - 1);
    let time = |i: u32| if i + 1 == count { t1 } else { t0 + (t1 - t0) * f64::from(i) / last };
    (0..count).map(time).collect()
}

/// Writes the table and the picture; returns their files.
fn write(args: &SolveArgs, problem: &Problem, solution: &Solution, summary: &Summary) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(&args.out).map_err(Error::file("create", &args.out))?;
    let table = args.out.join("trajectory.csv");
    let ys = solution.ys.to_vec2()?;
    write_csv(&table, problem.names, &solution.ts, &ys)?;
    if args.no_plots {
        return Ok(vec![table]);
    }
    let picture = args.out.join("trajectory.png");
    let trajectory = Trajectory { ts: &solution.ts, ys: &ys, names: problem.names };
    plot::trajectory(&picture, &trajectory, problem.portrait, &summary.caption())?;
    Ok(vec![table, picture])
}

fn write_csv(path: &Path, names: &[&str], ts: &[f64], ys: &[Vec<f64>]) -> Result<()> {
    let file = fs::File::create(path).map_err(Error::file("create", path))?;
    let mut csv = csv::Writer::from_writer(file);
    csv.write_record(std::iter::once(&"t").chain(names))?;
    for (t, y) in ts.iter().zip(ys) {
        csv.serialize((t, y))?;
    }
    csv.flush().map_err(Error::file("write", path))
}

impl Summary {
    fn caption(&self) -> String {
        let Self { system, method, accepted, .. } = self;
        format!("{system}, solved by {method} in {accepted} steps")
    }

    fn text(&self, names: &[&str]) -> String {
        let y1 = names.iter().zip(&self.y1).map(|(name, y)| format!("{name} = {y:.10}"));
        let rows = [
            ("system", self.system.to_owned()),
            ("method", self.method.clone()),
            ("span", format!("{} to {}", self.t0, self.t1)),
            ("steps", format!("{} accepted, {} rejected", self.accepted, self.rejected)),
            ("step sizes", format!("{:.3e} to {:.3e}", self.h_smallest, self.h_largest)),
            ("evaluations", self.nfe.to_string()),
            ("seconds", format!("{:.6}", self.seconds)),
            ("end state", y1.collect::<Vec<_>>().join(", ")),
        ];
        rows.map(|(head, text)| format!("{head:<11}  {text}")).join("\n")
    }
}

//! `aca solve`: a built-in system, solved, tabulated and drawn.

mod problem;

use std::fs;
use std::path::Path;
use std::time::Instant;

use aca_core::{Solver, Stats, TimeSpan, Tolerance};
use aca_dense::{SaveAt, Solution};
use candle_core::{Device, Tensor};
use serde::Serialize;

use crate::args::SolveArgs;
use crate::method::{check_tolerances, method};
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
    let setup = Setup::new(args)?;
    let start = Instant::now();
    let solution = setup.solve(args.points)?;
    let summary = setup.summary(&solution, start.elapsed().as_secs_f64())?;
    fs::create_dir_all(&args.out).map_err(Error::file("create", &args.out))?;
    let mut files = vec![args.out.join("trajectory.csv")];
    write_csv(&files[0], setup.problem.names, &solution)?;
    if !args.no_plots {
        let path = args.out.join("trajectory.png");
        setup.draw(&path, solution, &summary)?;
        files.push(path);
    }
    report::line(&summary.text(setup.problem.names))?;
    for file in files {
        report::line(&row("written", &file.display().to_string()))?;
    }
    if args.json { report::json(&summary) } else { Ok(()) }
}

/// All that a solve needs.
struct Setup {
    problem: Problem,
    solver: Solver,
    span: (f64, f64),
}

impl Setup {
    /// Fewer points than this make curves look angular.
    const SMOOTH: u32 = 4000;

    fn new(args: &SolveArgs) -> Result<Self> {
        let problem = Problem::new(args.system)?;
        let tableau = method(&args.method)?;
        check_tolerances(&tableau, args.rtol, args.atol)?;
        let (rtol, atol) = (args.rtol.unwrap_or(1e-6), args.atol.unwrap_or(1e-9));
        let solver = Solver::for_method(tableau, Tolerance { rtol, atol }, args.h)?;
        let span = (args.t0, args.t1.unwrap_or(problem.t1));
        let TimeSpan { t0, t1 } = TimeSpan::new(span.0, span.1)?;
        if t0 == t1 {
            return Err(Error::EmptySpan { t: t0 });
        }
        Ok(Self { problem, solver: Solver { max_steps: args.max_steps, ..solver }, span })
    }

    /// Solves with outputs at `count` times, both ends included.
    fn solve(&self, count: u32) -> Result<Solution> {
        let ((t0, t1), last) = (self.span, f64::from(count - 1));
        let inner = (1..count - 1).map(|i| t0 + (t1 - t0) * f64::from(i) / last);
        let times: Vec<f64> = std::iter::once(t0).chain(inner).chain([t1]).collect();
        if times.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Error::PointsTooClose { points: count, t0, t1 });
        }
        let y0 = Tensor::new(self.problem.y0, &Device::Cpu)?;
        let save_at = SaveAt::Times(times);
        Ok(aca_dense::solve(&self.solver, &*self.problem.field, &y0, self.span, &save_at)?)
    }

    /// Draws the solution, solved once more where its points are too few for a picture.
    fn draw(&self, path: &Path, solution: Solution, summary: &Summary) -> Result<()> {
        let smooth = solution.ts.len() >= Self::SMOOTH as usize;
        // A span too short for so many times is drawn as it was tabulated.
        let solution = match smooth {
            true => solution,
            false => match self.solve(Self::SMOOTH) {
                Err(Error::PointsTooClose { .. }) => solution,
                smoother => smoother?,
            },
        };
        let ys = solution.ys.to_vec2()?;
        let trajectory = Trajectory { ts: &solution.ts, ys: &ys, names: self.problem.names };
        let Summary { method, accepted, .. } = summary;
        let caption = format!("{}: {accepted} steps of {method}", self.problem.title);
        plot::trajectory(path, &trajectory, self.problem.portrait, &caption)
    }

    fn summary(&self, solution: &Solution, seconds: f64) -> Result<Summary> {
        let Stats { accepted, rejected, nfe, h_smallest, h_largest, .. } = solution.stats;
        Ok(Summary {
            system: self.problem.name,
            method: self.solver.method.name().to_owned(),
            t0: self.span.0,
            t1: self.span.1,
            accepted,
            rejected,
            nfe,
            h_smallest,
            h_largest,
            seconds,
            y1: solution.y1.to_vec1()?,
        })
    }
}

fn write_csv(path: &Path, names: &[&str], solution: &Solution) -> Result<()> {
    let file = fs::File::create(path).map_err(Error::file("create", path))?;
    let mut csv = csv::Writer::from_writer(file);
    csv.write_record(std::iter::once(&"t").chain(names))?;
    for (t, y) in solution.ts.iter().zip(solution.ys.to_vec2::<f64>()?) {
        csv.serialize((t, y))?;
    }
    csv.flush().map_err(Error::file("write", path))
}

impl Summary {
    fn text(&self, names: &[&str]) -> String {
        let mut rows = vec![
            row("system", self.system),
            row("method", &self.method),
            row("span", &format!("{} to {}", self.t0, self.t1)),
            row("steps", &format!("{} accepted, {} rejected", self.accepted, self.rejected)),
            row("step sizes", &format!("{:.3e} to {:.3e}", self.h_smallest, self.h_largest)),
            row("evaluations", &self.nfe.to_string()),
            row("seconds", &format!("{:.6}", self.seconds)),
        ];
        let entry = |(name, y): (&&str, &f64)| format!("{name} = {y:.10}");
        let entries: Vec<_> = names.iter().zip(&self.y1).map(entry).collect();
        let heads = ["end state"].into_iter().chain(std::iter::repeat(""));
        rows.extend(heads.zip(entries.chunks(3)).map(|(head, part)| row(head, &part.join(", "))));
        rows.join("\n")
    }
}

fn row(head: &str, text: &str) -> String {
    format!("{head:<11}  {text}")
}

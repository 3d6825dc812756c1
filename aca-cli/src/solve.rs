//! `aca solve`: a built-in system, solved, tabulated and drawn.

mod blow_up;
mod happenings;
mod outputs;
mod problem;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use aca_core::{Batching, Number, Solver, Stats, TimeSpan, Tolerance};
use aca_dense::SaveAt;
use candle_core::{Device, Tensor};
use serde::Serialize;

use crate::args::SolveArgs;
use crate::method::{check_step, check_tolerances, method};
use crate::report::{self, Refusal, Result};
use happenings::{Happened, Watched};
use outputs::Outputs;
use problem::Problem;

/// What a solve did.
#[derive(Serialize)]
struct Summary {
    system: &'static str,
    method: String,
    params: BTreeMap<&'static str, f64>,
    y0: Vec<f64>,
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
    /// What happened on the way, where anything may.
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<Vec<Happened>>,
}

/// What a solve found.
pub struct Solved {
    pub ts: Vec<f64>,
    /// One state a time, those of samples one after the other.
    pub ys: Vec<Vec<f64>>,
    pub y1: Vec<f64>,
    pub t1: f64,
    pub stats: Stats,
    pub happened: Vec<Happened>,
}

/// Solves the system and writes what came out.
pub fn run(args: &SolveArgs) -> Result<()> {
    let setup = Setup::new(args)?;
    let own = Path::new("runs/solve").join(setup.problem.name);
    let outputs = Outputs::claim(args, args.out.as_ref().unwrap_or(&own), &setup)?;
    let start = Instant::now();
    let solution = setup.solve(args.points).map_err(|error| blow_up::told(&setup, error))?;
    let summary = setup.summary(&solution, start.elapsed().as_secs_f64());
    let written = outputs.write(&setup, &solution, &summary)?;
    let samples = setup.problem.watched.as_ref().map_or(1, |watched| watched.samples);
    report::line(&summary.text(setup.problem.names, samples))?;
    if let Some(watched) = &setup.problem.watched {
        report::line(&row("events", &happenings::told(watched, &solution.happened)))?;
    }
    for file in written {
        report::line(&row("written", &file.display().to_string()))?;
    }
    if outputs.prints_json { report::json(&summary) } else { Ok(()) }
}

/// All that a solve needs.
struct Setup {
    problem: Problem,
    solver: Solver,
    tolerance: Tolerance,
    span: (f64, f64),
}

impl Setup {
    fn new(args: &SolveArgs) -> Result<Self> {
        let problem = Problem::new(args)?;
        let tableau = method(&args.method)?;
        check_tolerances(&tableau, args.rtol, args.atol)?;
        check_step(args.h)?;
        let (rtol, atol) = (args.rtol.unwrap_or(1e-6), args.atol.unwrap_or(1e-9));
        let tolerance = Tolerance { rtol, atol };
        let solver = Solver::for_method(tableau, tolerance, args.h)?;
        let span = (args.t0, args.t1.unwrap_or(problem.t1));
        let TimeSpan { t0, t1 } = TimeSpan::new(span.0, span.1)?;
        if t0 == t1 {
            return Err(Refusal::EmptySpan { t: t0 }.into());
        }
        if let Some(first) = problem.log_times
            && !(first > 0.0 && first < (t1 - t0).abs())
        {
            return Err(Refusal::FirstTime { first, length: (t1 - t0).abs() }.into());
        }
        let solver = Solver { max_steps: args.max_steps, ..solver };
        Ok(Self { problem, solver, tolerance, span })
    }

    /// Solves with outputs at `count` times, both ends included.
    fn solve(&self, count: u32) -> Result<Solved> {
        self.solve_by(&self.solver, count)
    }

    /// The same with another solver.
    fn solve_by(&self, solver: &Solver, count: u32) -> Result<Solved> {
        let ((t0, t1), last) = (self.span, f64::from(count - 1));
        let length = t1 - t0;
        let part = |i: u32| match self.problem.log_times {
            None => length * f64::from(i) / last,
            Some(first) => {
                let growth = (length.abs() / first).powf(1.0 / (last - 1.0));
                first.copysign(length) * growth.powf(f64::from(i - 1))
            }
        };
        let inner = (1..count - 1).map(|i| t0 + part(i));
        let times: Vec<f64> = std::iter::once(t0).chain(inner).chain([t1]).collect();
        if times.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Refusal::PointsTooClose { points: count, t0, t1 }.into());
        }
        let y0 = Tensor::new(&self.problem.y0[..], &Device::Cpu)?;
        let save_at = SaveAt::Times(times);
        if let Some(watched) = &self.problem.watched {
            return self.solve_watched(solver, watched, (&y0, &save_at));
        }
        let sol = aca_dense::solve(solver, &*self.problem.field, &y0, self.span, &save_at)?;
        let (ys, y1) = (sol.ys.to_vec2()?, sol.y1.to_vec1()?);
        Ok(Solved { ts: sol.ts, ys, y1, t1: self.span.1, stats: sol.stats, happened: Vec::new() })
    }

    /// The same where something may happen on the way.
    fn solve_watched(
        &self,
        solver: &Solver,
        watched: &Watched,
        (y0, save_at): (&Tensor, &SaveAt),
    ) -> Result<Solved> {
        let (solver, y0) = match watched.samples {
            1 => (solver.clone(), y0.clone()),
            count => {
                let solver = Solver { batching: Batching::PerSample, ..solver.clone() };
                (solver, y0.unsqueeze(0)?.repeat((count, 1))?)
            }
        };
        let rules = (&solver, &watched.events);
        let sol = aca_dense::solve_events(rules, &*self.problem.field, &y0, self.span, save_at)?;
        let (times, before, after) = (
            sol.event_times.to_vec1::<f64>()?,
            sol.states_before.to_vec2::<f64>()?,
            sol.states_after.to_vec2::<f64>()?,
        );
        let samples = sol.counts.iter().enumerate();
        let samples = samples.flat_map(|(sample, &count)| std::iter::repeat_n(sample, count));
        let states = before.into_iter().zip(after);
        let happened = samples.zip(times).zip(&sol.which).zip(states);
        let happened = happened.map(|(((sample, t), &event), (before, after))| Happened {
            t,
            event: watched.names[event],
            sample,
            before,
            after,
        });
        // Where the solve stopped, so do the outputs.
        let ends = sol.samples.iter().map(|end| (end.t1 - self.span.0).abs());
        let length = ends.fold(0.0, f64::max);
        let reached = sol.ts.iter().filter(|t| (**t - self.span.0).abs() <= length).count();
        let ys = sol.ys.narrow(0, 0, reached)?.flatten_from(1)?.to_vec2()?;
        Ok(Solved {
            ts: sol.ts[..reached].to_vec(),
            ys,
            y1: sol.y1.flatten_all()?.to_vec1()?,
            t1: self.span.0 + length * TimeSpan { t0: self.span.0, t1: self.span.1 }.sign(),
            stats: sol.stats,
            happened: happened.collect(),
        })
    }

    fn summary(&self, solution: &Solved, seconds: f64) -> Summary {
        let Stats { accepted, rejected, nfe, h_smallest, h_largest, .. } = solution.stats;
        Summary {
            system: self.problem.name,
            params: self.problem.params.iter().copied().collect(),
            y0: self.problem.y0.clone(),
            method: self.solver.method.name().to_owned(),
            t0: self.span.0,
            t1: solution.t1,
            accepted,
            rejected,
            nfe,
            h_smallest,
            h_largest,
            seconds,
            y1: solution.y1.clone(),
            events: self.problem.watched.as_ref().map(|_| solution.happened.clone()),
        }
    }
}

impl Summary {
    fn text(&self, names: &[&str], samples: usize) -> String {
        let (of_all, at_once, first) = match samples {
            1 => (String::new(), "", ""),
            _ => (format!(", of {samples} samples"), ", each of all samples", " (first sample)"),
        };
        let mut rows = vec![
            row("system", self.system),
            row("method", &self.method),
            row("parameters", &joined(self.params.iter().map(|(name, value)| (*name, *value)))),
            row("span", &format!("{} to {}", Number(self.t0), Number(self.t1))),
            row(
                "steps",
                &format!("{} accepted, {} rejected{of_all}", self.accepted, self.rejected),
            ),
            row("step sizes", &format!("{:.3e} to {:.3e}", self.h_smallest, self.h_largest)),
            row("evaluations", &format!("{}{at_once}", self.nfe)),
            row("seconds", &format!("{:.6}", self.seconds)),
        ];
        let entry = |(name, y): (&&str, &f64)| format!("{name} = {}", digits(*y));
        let entries: Vec<_> = names.iter().zip(&self.y1).map(entry).collect();
        let heads = ["end state"].into_iter().chain(std::iter::repeat(""));
        rows.extend(heads.zip(entries.chunks(3)).map(|(head, part)| row(head, &part.join(", "))));
        rows.join("\n") + first
    }
}

/// "mu = 5, k = 1".
fn joined(params: impl Iterator<Item = (&'static str, f64)>) -> String {
    params.map(|(name, value)| format!("{name} = {}", Number(value))).collect::<Vec<_>>().join(", ")
}

/// A number with eleven significant digits.
fn digits(y: f64) -> String {
    Number(format!("{y:.10e}").parse().unwrap_or(y)).to_string()
}

fn row(head: &str, text: &str) -> String {
    format!("{head:<11}  {text}")
}

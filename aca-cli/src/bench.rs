//! `aca bench`: the workloads shared with other libraries, timed.

mod growth;
mod overhead;
pub mod timing;
mod training;
mod workload;

use aca_adjoint::Gradient;
use aca_core::{Batching, Method, Solver, Tolerance};

use crate::args::{BenchArgs, WorkloadName};
use crate::method::{adaptive, check_tolerances};
use crate::report::{self, Refusal, Result};
use crate::strategy::{self, Strategy};
use workload::Workload;

/// Runs the workload and prints its figures.
pub fn run(args: &BenchArgs) -> Result<()> {
    if args.overhead {
        return overhead::run(args);
    }
    if args.growth {
        return growth::run(args);
    }
    refuse_others(args)?;
    let workload = match args.workload {
        WorkloadName::Node18 => return training::run(args),
        WorkloadName::ThreeBody => Workload::three_body(args)?,
        WorkloadName::Mlp => Workload::mlp(args)?,
        WorkloadName::Conv => Workload::conv(args)?,
        WorkloadName::VanDerPol => Workload::van_der_pol(args)?,
    };
    let timing = timing::time(&workload, args.reps as usize)?;
    if args.json { report::json(&timing) } else { report::line(&timing.to_string()) }
}

/// Refuses options of another workload, which would change nothing.
fn refuse_others(args: &BenchArgs) -> Result<()> {
    let owned = [
        ("--pth", args.pth.is_some(), WorkloadName::Node18, "--workload node18"),
        ("--per-sample", args.per_sample, WorkloadName::VanDerPol, "--workload vdp"),
        ("--mu-max", args.mu_max.is_some(), WorkloadName::VanDerPol, "--workload vdp"),
    ];
    match owned.into_iter().find(|(_, given, owner, _)| *given && *owner != args.workload) {
        Some((option, _, _, owner)) => Err(Refusal::Belongs { option, owner }.into()),
        None => check_stiffness(args.mu_max),
    }
}

/// Refuses a stiffness that no oscillator has.
fn check_stiffness(mu_max: Option<f64>) -> Result<()> {
    match mu_max {
        Some(value) if !(value > 0.0 && value.is_finite()) => {
            let range = "a finite number above 0";
            Err(Refusal::Range { option: "--mu-max", value, range, example: "100" }.into())
        }
        _ => Ok(()),
    }
}

/// The solver of the command line, by the workload's own method and tolerance where the user gives none.
fn solver(args: &BenchArgs, (method, tolerance): (&str, f64)) -> Result<Solver> {
    let own = if args.gradient == Strategy::Mali { Method::Leapfrog.name() } else { method };
    let method = adaptive(args.method.as_deref().unwrap_or(own), "aca bench")?;
    strategy::check(args.gradient, args.checkpoints, &method)?;
    check_tolerances(&method, args.rtol, args.atol)?;
    let (rtol, atol) = (args.rtol.unwrap_or(tolerance), args.atol.unwrap_or(tolerance));
    let batching = if args.per_sample { Batching::PerSample } else { Batching::Shared };
    let solver = Solver::adaptive(method, Tolerance { rtol, atol });
    Ok(Solver { batching, max_steps: args.max_steps, ..solver })
}

/// The gradient strategy of the command line.
fn gradient(args: &BenchArgs) -> Gradient {
    args.gradient.gradient(args.checkpoints.map_or(Strategy::CHECKPOINTS, |n| n as usize))
}

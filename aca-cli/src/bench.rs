//! `aca bench`: the workloads shared with other libraries, timed.

mod growth;
mod overhead;
pub mod timing;
mod training;
mod workload;

use crate::args::{BenchArgs, WorkloadName};
use crate::report::{self, Error, Result};
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
        ("--pth", args.pth.is_some(), WorkloadName::Node18, "node18"),
        ("--per-sample", args.per_sample, WorkloadName::VanDerPol, "vdp"),
        ("--mu-max", args.mu_max.is_some(), WorkloadName::VanDerPol, "vdp"),
    ];
    match owned.into_iter().find(|(_, given, owner, _)| *given && *owner != args.workload) {
        Some((option, _, _, workload)) => Err(Error::OtherWorkload { option, workload }),
        None => check_stiffness(args.mu_max),
    }
}

/// Refuses a stiffness that no oscillator has.
fn check_stiffness(mu_max: Option<f64>) -> Result<()> {
    match mu_max {
        Some(mu) if !(mu > 0.0 && mu.is_finite()) => Err(Error::Stiffness { mu }),
        _ => Ok(()),
    }
}

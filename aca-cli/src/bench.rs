//! `aca bench`: the workloads shared with other libraries, timed.

mod growth;
mod overhead;
pub mod timing;
mod training;
mod workload;

use crate::args::{BenchArgs, WorkloadName};
use crate::report::{self, Result};
use workload::Workload;

/// Runs the workload and prints its figures.
pub fn run(args: &BenchArgs) -> Result<()> {
    if args.overhead {
        return overhead::run(args);
    }
    if args.growth {
        return growth::run(args);
    }
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

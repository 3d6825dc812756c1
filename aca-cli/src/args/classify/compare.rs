//! Options of `aca classify compare`.

use std::path::PathBuf;

use clap::Args;

use super::{DataArgs, NetworkChoice, PlanArgs, SolverArgs};
use crate::args::DeviceName;

/// Options of `aca classify compare`.
#[derive(Clone, Debug, Args)]
pub struct CompareArgs {
    /// The network [default: digits; on CIFAR node18]
    #[arg(long)]
    pub network: Option<NetworkChoice>,
    /// Device
    #[arg(long, default_value = "cpu")]
    pub device: DeviceName,
    /// Trainings of each contestant, with seeds 0, 1, ..
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    #[command(flatten)]
    pub solver: SolverArgs,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub plan: PlanArgs,
    /// Folder of the results; one that holds a comparison is refused
    #[arg(long, default_value = "runs/compare")]
    pub out: PathBuf,
    /// Replace the comparison in --out by this one
    #[arg(long)]
    pub overwrite: bool,
    /// Print one JSON object as the last line
    #[arg(long)]
    pub json: bool,
}

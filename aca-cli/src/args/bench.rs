use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::DeviceName;
use crate::strategy::Strategy;

/// Workloads of the peers' benchmark.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum WorkloadName {
    /// Gradient of the three-body orbits with respect to the masses
    #[value(name = "three_body", alias = "three-body")]
    ThreeBody,
    /// A network 64 -> 256 tanh -> 64 on 256 states in f32
    #[value(name = "mlp")]
    Mlp,
    /// NODE18's first block, conv-bn-relu twice, on 16 images of 64 channels and 32 x 32 pixels in f32
    #[value(name = "conv")]
    Conv,
    /// 256 oscillators of van der Pol, each with its stiffness
    #[value(name = "vdp")]
    VanDerPol,
    /// A training step of NODE18 in f32 on images of CIFAR's shape: 32, on a GPU 128
    #[value(name = "node18")]
    Node18,
}

/// Options of `aca bench`.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// The workload
    #[arg(long, default_value = "three_body")]
    pub workload: WorkloadName,
    /// What computes
    #[arg(long, default_value = "cpu", conflicts_with_all = ["overhead", "growth"])]
    pub device: DeviceName,
    /// Time the solver alone instead: what a step costs beyond the field's own time
    #[arg(long, conflicts_with_all = ["workload", "gradient", "checkpoints", "method", "max_steps", "rtol", "atol", "per_sample", "mu_max", "pth"])]
    pub overhead: bool,
    /// Time a network instead, over growing batches, steps and depths, beside the machine's limits
    #[arg(long, conflicts_with_all = ["workload", "overhead", "gradient", "checkpoints", "method", "max_steps", "rtol", "atol", "per_sample", "mu_max", "pth"])]
    pub growth: bool,
    /// A clock for every sample of vdp instead of one shared step
    #[arg(long)]
    pub per_sample: bool,
    /// Largest stiffness of vdp; 10 when not given
    #[arg(long)]
    pub mu_max: Option<f64>,
    /// Gradient strategy
    #[arg(long, default_value = "aca")]
    pub gradient: Strategy,
    /// Checkpoints that --gradient aca-budget keeps, 1 or more; 10 when not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub checkpoints: Option<u32>,
    /// Adaptive method: a name of `aca tableau list`, or a TOML or JSON file; when not given the workload's own, with mali alf
    #[arg(long)]
    pub method: Option<String>,
    /// Relative tolerance; the workload's own when not given
    #[arg(long)]
    pub rtol: Option<f64>,
    /// Absolute tolerance; the workload's own when not given
    #[arg(long)]
    pub atol: Option<f64>,
    /// Largest number of steps of a solve
    #[arg(long, default_value_t = aca_core::Solver::MAX_STEPS)]
    pub max_steps: usize,
    /// Start NODE18 from this checkpoint of PyTorch
    #[arg(long, value_name = "FILE")]
    pub pth: Option<PathBuf>,
    /// Timed repetitions, of which the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub reps: u32,
    /// Print one JSON object as the last line
    #[arg(long)]
    pub json: bool,
}

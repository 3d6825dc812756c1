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
    /// The first block of NODE18 (twice conv-bn-relu) on 16 images of 64 channels and 32 x 32 pixels in f32
    #[value(name = "conv")]
    Conv,
    /// 256 oscillators of van der Pol, each with its stiffness
    #[value(name = "vdp")]
    VanDerPol,
    /// A training step of NODE18 in f32 on 32 images of CIFAR's shape (128 on a GPU)
    #[value(name = "node18")]
    Node18,
}

/// Options of `aca bench`.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// The workload
    #[arg(long, default_value = "three_body")]
    pub workload: WorkloadName,
    /// Device
    #[arg(long, default_value = "cpu", conflicts_with_all = ["overhead", "growth"])]
    pub device: DeviceName,
    /// Time only the solver: the cost of a step without the time of the field
    #[arg(long, conflicts_with_all = ["workload", "gradient", "checkpoints", "method", "max_steps", "rtol", "atol", "per_sample", "mu_max", "pth"])]
    pub overhead: bool,
    /// Time networks with growing batches, numbers of steps and depths, compared with the machine's limits
    #[arg(long, conflicts_with_all = ["workload", "overhead", "gradient", "checkpoints", "method", "max_steps", "rtol", "atol", "per_sample", "mu_max", "pth"])]
    pub growth: bool,
    /// Give each oscillator of vdp its own steps
    #[arg(long)]
    pub per_sample: bool,
    /// Largest stiffness of vdp [default: 10]
    #[arg(long)]
    pub mu_max: Option<f64>,
    /// Gradient strategy
    #[arg(long, default_value = "aca")]
    pub gradient: Strategy,
    /// States that --gradient aca-budget keeps, 1 or more [default: 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub checkpoints: Option<u32>,
    /// Adaptive method: auto, a name of `aca tableau list`, or a TOML or JSON file [default: the workload's; alf
    /// with --gradient mali]
    #[arg(long)]
    pub method: Option<String>,
    /// Relative tolerance [default: the workload's]
    #[arg(long)]
    pub rtol: Option<f64>,
    /// Absolute tolerance [default: the workload's]
    #[arg(long)]
    pub atol: Option<f64>,
    /// Largest number of steps of a solve
    #[arg(long, default_value_t = aca_core::Solver::MAX_STEPS)]
    pub max_steps: usize,
    /// Start NODE18 from this checkpoint of PyTorch
    #[arg(long, value_name = "FILE")]
    pub pth: Option<PathBuf>,
    /// Timed repetitions, of which the median is reported
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub reps: u32,
    /// Print one JSON object as the last line
    #[arg(long)]
    pub json: bool,
}

//! Options of `aca classify`.

mod compare;

use std::path::PathBuf;

use aca_models::networks::NetworkName;
use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

pub use compare::CompareArgs;

use super::DeviceName;
use crate::strategy::Strategy;

/// What `aca classify` can do.
#[derive(Debug, Subcommand)]
pub enum ClassifyCommand {
    /// Train a classifier; without options a small network on handwritten digits
    Train(TrainArgs),
    /// Test a trained classifier with its own solver, or with others
    Test(TestArgs),
    /// Compare gradient strategies and a network without ODEs: accuracy, time, reliability
    Compare(CompareArgs),
    /// Print the parameters of a network
    Show(ShowArgs),
}

/// Networks to train.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkChoice {
    /// Two ODE blocks, for the digits
    Digits,
    /// ResNet18 with one plain block and one ODE block in each stage
    Node18,
    /// ResNet18 with plain blocks only
    Resnet18,
    /// SqueezeNext-23-1x with ODE blocks
    Squeezenext,
}

/// Images to learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum DataChoice {
    /// 1797 handwritten digits, built in
    Digits,
    /// CIFAR-10, from its binary files
    Cifar10,
    /// CIFAR-100, from its binary files
    Cifar100,
}

/// Presets of the original code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Candle's graph through the accepted steps; the state at the end
    Fast,
    /// Replay of the accepted steps; the state at the end
    MemoryEfficient,
    /// Replay of the accepted steps; outputs at requested times, by the interpolant
    MultiTime,
}

/// How ODE blocks are solved; what is not given comes from the network's preset, or from the
/// checkpoint that is resumed or tested. The defaults in brackets are those of `Setting::preset`.
#[derive(Clone, Debug, Default, Args)]
pub struct SolverArgs {
    /// Method of the ODE blocks: auto, a name of `aca tableau list`, or a TOML or JSON file [default: heun_euler;
    /// alf with --gradient mali]
    #[arg(long)]
    pub method: Option<String>,
    /// Fixed step, or the first step of an adaptive method
    #[arg(long)]
    pub h: Option<f64>,
    /// Start of the span of an ODE block [default: 0]
    #[arg(long)]
    pub t0: Option<f64>,
    /// End of the span of an ODE block [default: 1]
    #[arg(long)]
    pub t1: Option<f64>,
    /// Relative tolerance [default: 0.1 for the network digits, 0.01 for others]
    #[arg(long)]
    pub rtol: Option<f64>,
    /// Absolute tolerance [default: 0.1 for the network digits, 0.01 for others]
    #[arg(long)]
    pub atol: Option<f64>,
    /// Largest number of steps of a solve [default: 50000]
    #[arg(long)]
    pub max_steps: Option<usize>,
}

/// The images.
#[derive(Clone, Debug, Default, Args)]
pub struct DataArgs {
    /// The images [default: digits; with --data cifar10]
    #[arg(long)]
    pub dataset: Option<DataChoice>,
    /// Directory of the binary files of CIFAR
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Fetch CIFAR into the directory of --data unless it is there already
    #[cfg(feature = "download")]
    #[arg(long, requires = "data")]
    pub download: bool,
}

/// How a network is trained; what is not given comes from the preset or the checkpoint.
#[derive(Clone, Debug, Default, Args)]
pub struct PlanArgs {
    /// Passes over the training images [default: 12 on the digits, 90 on CIFAR]
    #[arg(long)]
    pub epochs: Option<usize>,
    /// Images in a batch [default: 32 on the digits, 128 on CIFAR]
    #[arg(long)]
    pub batch_size: Option<usize>,
    /// Largest learning rate [default: 0.1]; on the digits it warms up and falls as a cosine, on CIFAR it falls to a
    /// tenth after epochs 30 and 60
    #[arg(long)]
    pub lr: Option<f64>,
}

/// Options of `aca classify train`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "With --resume, options that are not given come from the checkpoint.")]
pub struct TrainArgs {
    /// The network [default: digits; on CIFAR node18]. Without --data every network learns the built-in digits
    #[arg(long)]
    pub network: Option<NetworkChoice>,
    /// Gradient strategy [default: aca]
    #[arg(long)]
    pub gradient: Option<Strategy>,
    /// States that --gradient aca-budget keeps, 1 or more [default: 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub checkpoints: Option<u32>,
    /// A preset of the original code, instead of --gradient
    #[arg(long, conflicts_with = "gradient")]
    pub mode: Option<Mode>,
    #[command(flatten)]
    pub solver: SolverArgs,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub plan: PlanArgs,
    /// Seed of the initial parameters, the order and the augmentation of images [default: 0]
    #[arg(long)]
    pub seed: Option<u64>,
    /// After every N-th epoch, compare a batch's gradient with the one at a tenth of the tolerance
    #[arg(long, value_name = "N", conflicts_with = "distributed", value_parser = clap::value_parser!(u32).range(1..))]
    pub check_gradient: Option<u32>,
    /// Go on from this checkpoint, or from the last one in this folder
    #[arg(long, value_name = "PATH")]
    pub resume: Option<PathBuf>,
    #[command(flatten)]
    pub ranks: RanksArgs,
    /// Device
    #[arg(long, default_value = "cpu")]
    pub device: DeviceName,
    /// Folder of the results [default: the folder of --resume, else runs/classify]; a folder that holds another run is
    /// refused
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Replace the run in --out by this one
    #[arg(long)]
    pub overwrite: bool,
    /// Print one JSON object as the last line
    #[arg(long)]
    pub json: bool,
}

/// Training in many processes.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct RanksArgs {
    /// Train in all processes that mpirun or Slurm started; each takes batches of --batch-size
    #[arg(long)]
    pub distributed: bool,
    /// Multiply the learning rate by the number of processes
    #[arg(long, requires = "distributed")]
    pub scale_lr: bool,
    /// Compute batch-norm statistics over the images of all processes; needs fixed steps
    #[arg(long, requires = "distributed")]
    pub sync_batch_norm: bool,
}

/// Options of `aca classify test`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Options of solver and images that are not given are as in training.")]
pub struct TestArgs {
    /// The checkpoint, or a folder whose best one is tested
    #[arg(
        long,
        visible_alias = "resume",
        value_name = "PATH",
        default_value = "runs/classify/best.safetensors"
    )]
    pub checkpoint: PathBuf,
    #[command(flatten)]
    pub solver: SolverArgs,
    #[command(flatten)]
    pub data: DataArgs,
    /// Device
    #[arg(long, default_value = "cpu")]
    pub device: DeviceName,
    /// Test with eight methods, each at four step sizes or tolerances
    #[arg(long, conflicts_with_all = ["method", "h", "rtol", "atol"])]
    pub all_solvers: bool,
    /// Folder of the table and the plot of --all-solvers
    #[arg(long, default_value = "runs/classify")]
    pub out: PathBuf,
    /// Replace the table and the plot of another checkpoint; those of the same checkpoint are replaced without it
    #[arg(long)]
    pub overwrite: bool,
    /// Print one JSON object as the last line
    #[arg(long)]
    pub json: bool,
}

/// Options of `aca classify show`.
#[derive(Clone, Debug, Args)]
pub struct ShowArgs {
    /// The network
    #[arg(long, default_value = "digits")]
    pub network: NetworkChoice,
    /// Number of classes
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub classes: u32,
    /// Checkpoint of PyTorch: print which tensors of the network it has
    #[arg(long, value_name = "FILE")]
    pub pth: Option<PathBuf>,
}

impl NetworkChoice {
    /// The library's name.
    pub fn name(self) -> NetworkName {
        match self {
            Self::Digits => NetworkName::Digits,
            Self::Node18 => NetworkName::Node18,
            Self::Resnet18 => NetworkName::ResNet18,
            Self::Squeezenext => NetworkName::SqueezeNext,
        }
    }
}

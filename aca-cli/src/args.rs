//! The command line; strings become typed values here and nowhere else.

use std::ops::Range;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

mod bench;
mod classify;
mod device;

pub use bench::{BenchArgs, WorkloadName};
pub use classify::{
    ClassifyCommand, CompareArgs, DataArgs, DataChoice, Mode, NetworkChoice, PlanArgs, RanksArgs,
    ShowArgs, SolverArgs, TestArgs, TrainArgs,
};
pub use device::DeviceName;

/// Fits, solves, checks and times neural ODEs with the Adaptive Checkpoint Adjoint.
#[derive(Debug, Parser)]
#[command(name = "aca", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Threads to compute with, 1024 at most; as many as cores when not given
    #[arg(long, global = true, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
}

/// What `aca` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Recover the masses of three bodies from their orbits
    ThreeBody(ThreeBodyArgs),
    /// Solve a built-in system; write its trajectory, a plot and statistics
    Solve(SolveArgs),
    /// List, show or check Runge-Kutta methods
    Tableau {
        /// What to do with them.
        #[command(subcommand)]
        command: TableauCommand,
    },
    /// Check the gradient strategies against known gradients: error, time, evaluations, memory
    Gradcheck(GradcheckArgs),
    /// Train, test and compare image classifiers with ODE blocks
    Classify {
        /// What to do with them.
        #[command(subcommand)]
        command: ClassifyCommand,
    },
    /// Time a workload, in the form of the peers' benchmark
    Bench(BenchArgs),
}

/// Options of `aca three-body`.
#[derive(Clone, Debug, Args)]
pub struct ThreeBodyArgs {
    /// Epochs of Adam
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub epochs: u32,
    /// Seed of the start masses
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Fit with each of these seeds, and keep the best
    #[arg(long, value_name = "FIRST..END", conflicts_with = "seed", value_parser = seeds)]
    pub seeds: Option<Range<u64>>,
    /// Share the seeds among all processes that mpirun or Slurm started
    #[arg(long, requires = "seeds")]
    pub distributed: bool,
    /// Method of the training solves: a name of `aca tableau list` or a TOML file
    #[arg(long, default_value = "dopri5")]
    pub method: String,
    /// Relative tolerance of the training solves
    #[arg(long, default_value_t = 1e-7)]
    pub rtol: f64,
    /// Absolute tolerance of the training solves
    #[arg(long, default_value_t = 1e-7)]
    pub atol: f64,
    /// Stop after Adam, as the original's recipe does
    #[arg(long)]
    pub no_polish: bool,
    /// Draw no pictures
    #[arg(long)]
    pub no_plots: bool,
    /// Folder of the results
    #[arg(long, default_value = "runs/three-body")]
    pub out: PathBuf,
    /// Print one JSON object as the last line
    #[arg(long)]
    pub json: bool,
}

/// Seeds of one ensemble: each fit leaves its result in memory.
const MOST_SEEDS: u64 = 1_000_000;

/// Reads "0..64", the end excluded.
fn seeds(text: &str) -> Result<Range<u64>, String> {
    let range = text.split_once("..").and_then(|(first, end)| {
        let range = first.parse().ok()?..end.parse().ok()?;
        (range.start < range.end && range.end - range.start <= MOST_SEEDS).then_some(range)
    });
    range.ok_or_else(|| {
        format!("give the first seed and the one after the last, such as 0..64; {MOST_SEEDS} seeds at most")
    })
}

/// Built-in systems.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SystemName {
    /// Three bodies in space
    ThreeBody,
    /// Lotka and Volterra's prey and predators
    LotkaVolterra,
    /// Van der Pol's oscillator
    VanDerPol,
    /// Lorenz's chaotic convection
    Lorenz,
    /// The damped cubic spiral
    CubicSpiral,
    /// Linear decay
    LinearDecay,
}

/// Options of `aca solve`.
#[derive(Clone, Debug, Args)]
pub struct SolveArgs {
    /// The system
    pub system: SystemName,
    /// Start of the span
    #[arg(long, default_value_t = 0.0)]
    pub t0: f64,
    /// End of the span; the system's own when not given
    #[arg(long)]
    pub t1: Option<f64>,
    /// Number of equally spaced output times, both ends included, a million at most
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    pub points: u32,
    /// Method: a name of `aca tableau list` or a TOML file
    #[arg(long, default_value = "dopri5")]
    pub method: String,
    /// Fixed step, or the first one of an adaptive method
    #[arg(long)]
    pub h: Option<f64>,
    /// Relative tolerance of an adaptive method; 1e-6 when not given
    #[arg(long)]
    pub rtol: Option<f64>,
    /// Absolute tolerance of an adaptive method; 1e-9 when not given
    #[arg(long)]
    pub atol: Option<f64>,
    /// Largest number of steps
    #[arg(long, default_value_t = aca_core::Solver::MAX_STEPS)]
    pub max_steps: usize,
    /// Draw no picture
    #[arg(long)]
    pub no_plots: bool,
    /// Folder of the results
    #[arg(long, default_value = "runs/solve")]
    pub out: PathBuf,
    /// Print one JSON object as the last line
    #[arg(long)]
    pub json: bool,
}

/// What `aca tableau` can do.
#[derive(Debug, Subcommand)]
pub enum TableauCommand {
    /// List the built-in methods
    List {
        /// Print one JSON array as the last line
        #[arg(long)]
        json: bool,
    },
    /// Show a method's coefficients
    Show {
        /// Its name, or a TOML file
        name: String,
    },
    /// Check a method from a TOML file against its order conditions
    Check {
        /// The file
        file: PathBuf,
    },
}

/// Problems of `aca gradcheck`.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum CheckProblem {
    /// Linear decay, whose gradient is a formula
    Linear,
    /// Van der Pol's oscillator, solved forward and backward in time
    VanDerPol,
    /// Three bodies in space, a chaotic system
    #[value(alias = "three_body")]
    ThreeBody,
    /// Oscillators of different stiffness, with one step for all or a clock for each
    Samples,
    /// Errors of losses beside what their backward passes say of them, and gradients beside those at a tenth of the
    /// tolerance
    Trust,
}

/// Options of `aca gradcheck`.
#[derive(Clone, Debug, Args)]
pub struct GradcheckArgs {
    /// A problem, repeatable; all of them when not given
    #[arg(long)]
    pub problem: Vec<CheckProblem>,
    /// Timed repetitions, of which the median counts; fewer of those that take long
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    pub reps: u32,
    /// Few tolerances and spans
    #[arg(long)]
    pub quick: bool,
    /// Also measure memory and count evaluations
    #[arg(long)]
    pub memory: bool,
    /// Folder of the results
    #[arg(long, default_value = "runs/gradcheck")]
    pub out: PathBuf,
    /// Print one JSON object as the last line
    #[arg(long)]
    pub json: bool,
}

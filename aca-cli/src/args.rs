//! The command line; strings become typed values here and nowhere else.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

mod bench;
mod classify;
mod device;
mod solve;
mod three_body;

pub use bench::{BenchArgs, WorkloadName};
pub use classify::{
    ClassifyCommand, CompareArgs, DataArgs, DataChoice, Mode, NetworkChoice, PlanArgs, RanksArgs,
    ShowArgs, SolverArgs, TestArgs, TrainArgs,
};
pub use device::DeviceName;
pub use solve::{SolveArgs, SystemName};
pub use three_body::ThreeBodyArgs;

/// The rule of all commands that write files.
const RESULTS: &str = "\
Results: no command replaces the results of another run without --overwrite. three-body, solve, gradcheck and classify test
save their settings beside their results; run again with the same settings, they replace their own results. classify train and
compare never replace trained networks without --overwrite; classify train --resume goes on with a run.";

/// Fits, solves, checks and times neural ODEs with the Adaptive Checkpoint Adjoint.
#[derive(Debug, Parser)]
#[command(name = "aca", version, after_help = RESULTS)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Number of threads, at most 1024 [default: all cores]
    #[arg(long, global = true, display_order = 900, value_parser = clap::value_parser!(u32).range(1..=1024))]
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
    /// Compare the gradient strategies with known gradients: error, time, evaluations, memory
    Gradcheck(GradcheckArgs),
    /// Train, test and compare image classifiers with ODE blocks
    Classify {
        /// What to do with them.
        #[command(subcommand)]
        command: ClassifyCommand,
    },
    /// Time a workload, with the output format of the benchmark of other libraries
    Bench(BenchArgs),
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
        /// The method's name, or a TOML or JSON file
        name: String,
    },
    /// Check the method of a TOML or JSON file against its order conditions
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
    /// Van der Pol's oscillator with mu = 100, by implicit methods and explicit ones
    Stiff,
    /// Oscillators of different stiffness, with shared steps or each with its own
    Samples,
    /// Errors of losses compared with the estimates of their backward passes, and gradients with those at a tenth of
    /// the tolerance
    Trust,
}

/// Options of `aca gradcheck`.
#[derive(Clone, Debug, Args)]
pub struct GradcheckArgs {
    /// A problem; may be repeated [default: all problems]
    #[arg(long)]
    pub problem: Vec<CheckProblem>,
    /// Timed repetitions, of which the median is reported; slow solves are repeated less often
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    pub reps: u32,
    /// Use few tolerances and spans
    #[arg(long)]
    pub quick: bool,
    /// Also measure memory and count evaluations
    #[arg(long)]
    pub memory: bool,
    /// Folder of the results
    #[arg(long, default_value = "runs/gradcheck")]
    pub out: PathBuf,
    /// Replace the results of another run in --out; the same settings replace their own results without it
    #[arg(long)]
    pub overwrite: bool,
    /// Print one JSON object as the last line
    #[arg(long)]
    pub json: bool,
}

//! Options of `aca solve`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Built-in systems.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SystemName {
    /// Three bodies in space; masses m1, m2, m3
    ThreeBody,
    /// Lotka and Volterra's prey and predators; rates alpha, beta, delta, gamma
    LotkaVolterra,
    /// Van der Pol's oscillator; stiffness mu
    VanDerPol,
    /// Lorenz's chaotic convection; sigma, rho, beta
    Lorenz,
    /// The damped cubic spiral; matrix a11, a12, a21, a22
    CubicSpiral,
    /// Linear decay; rate k
    LinearDecay,
    /// Robertson's stiff reaction; rates k1 to k3
    Robertson,
    /// HIRES, eight species of a stiff reaction; rates k1 to k15
    Hires,
    /// POLLU, twenty species of polluted air, stiff; rates k1 to k25
    Pollu,
    /// The stiff Oregonator; s, q, w
    Oregonator,
    /// A ball that bounces; g, restitution
    BouncingBall,
    /// A ball thrown through air, until it comes down; g, drag
    ThrownBall,
    /// A hundred of Izhikevich's neurons that spike; a, b, c, d, and currents from low to high
    Neuron,
}

/// Options of `aca solve`.
#[derive(Clone, Debug, Args)]
pub struct SolveArgs {
    /// The system
    pub system: SystemName,
    /// A parameter of the system, such as mu=100; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    pub param: Vec<(String, f64)>,
    /// Initial state, such as 2,0 [default: the system's]
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', allow_negative_numbers = true)]
    pub y0: Vec<f64>,
    /// Start of the span
    #[arg(long, default_value_t = 0.0)]
    pub t0: f64,
    /// End of the span [default: the system's]
    #[arg(long)]
    pub t1: Option<f64>,
    /// Number of output times, both ends included, at most a million
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    pub points: u32,
    /// Output times that grow by a constant factor, from FIRST after the start; the picture's axes are logarithmic [default
    /// for robertson: 1e-5]
    #[arg(long, value_name = "FIRST", conflicts_with = "equal_times")]
    pub log_times: Option<f64>,
    /// Equally spaced output times, where the system's own are not
    #[arg(long)]
    pub equal_times: bool,
    /// Method: auto, a name of `aca tableau list`, or a TOML or JSON file
    #[arg(long, default_value = "dopri5")]
    pub method: String,
    /// Fixed step, or the first step of an adaptive method
    #[arg(long)]
    pub h: Option<f64>,
    /// Relative tolerance of an adaptive method [default: 1e-6]
    #[arg(long)]
    pub rtol: Option<f64>,
    /// Absolute tolerance of an adaptive method [default: 1e-9]
    #[arg(long)]
    pub atol: Option<f64>,
    /// Largest number of steps
    #[arg(long, default_value_t = aca_core::Solver::MAX_STEPS)]
    pub max_steps: usize,
    /// Draw no picture
    #[arg(long)]
    pub no_plots: bool,
    /// Folder of trajectory.csv and trajectory.png [default: runs/solve/SYSTEM]
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Write the trajectory as a table to this file; with --csv or --plot nothing is written to --out
    #[arg(long, value_name = "FILE", conflicts_with = "out")]
    pub csv: Option<PathBuf>,
    /// Draw the trajectory to this PNG file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["out", "no_plots"])]
    pub plot: Option<PathBuf>,
    /// Replace the results of another solve, and files that exist; a solve with the same settings replaces its own
    /// results in --out without it
    #[arg(long)]
    pub overwrite: bool,
    /// Print one JSON object as the last line; with =FILE, write it to that file together with the trajectory
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    pub json: Option<PathBuf>,
}

/// Reads "mu=100".
fn assignment(text: &str) -> Result<(String, f64), String> {
    let read = text.split_once('=').and_then(|(name, value)| {
        let value: f64 = value.trim().parse().ok()?;
        value.is_finite().then(|| (name.trim().to_owned(), value))
    });
    read.ok_or_else(|| "give a name and a finite number, such as mu=100".to_owned())
}

//! Options of `aca three-body`.

use std::ops::Range;
use std::path::PathBuf;

use clap::Args;

/// Options of `aca three-body`.
#[derive(Clone, Debug, Args)]
pub struct ThreeBodyArgs {
    /// Epochs of Adam
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub epochs: u32,
    /// Seed of the initial masses
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub seed: u64,
    /// Fit with each of these seeds, and keep the best fit
    #[arg(long, value_name = "FIRST..END", conflicts_with = "seed", value_parser = seeds)]
    pub seeds: Option<Range<u64>>,
    /// Share the seeds among all processes that mpirun or Slurm started
    #[arg(long, requires = "seeds")]
    pub distributed: bool,
    /// Method of all solves: auto, a name of `aca tableau list`, or a TOML or JSON file
    #[arg(long, default_value = "dopri5")]
    pub method: String,
    /// Relative tolerance of the training solves
    #[arg(long, default_value = "1e-7")]
    pub rtol: f64,
    /// Absolute tolerance of the training solves
    #[arg(long, default_value = "1e-7")]
    pub atol: f64,
    /// Relative and absolute tolerance of the polish after Adam and of the predicted orbits; with --no-polish the
    /// orbits use --rtol and --atol
    #[arg(long, default_value = "1e-10", conflicts_with = "no_polish")]
    pub polish_tol: f64,
    /// Largest number of steps of a solve
    #[arg(long, default_value_t = 100_000)]
    pub max_steps: usize,
    /// Stop after Adam, as the original code does
    #[arg(long)]
    pub no_polish: bool,
    /// Draw no pictures
    #[arg(long)]
    pub no_plots: bool,
    /// Folder of the results
    #[arg(long, default_value = "runs/three-body")]
    pub out: PathBuf,
    /// Replace the results of another run in --out; the same settings replace their own results without it
    #[arg(long)]
    pub overwrite: bool,
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
        let fits = range.start < range.end && range.end <= i64::MAX as u64;
        (fits && range.end - range.start <= MOST_SEEDS).then_some(range)
    });
    range.ok_or_else(|| {
        format!("give the first seed and the one after the last, such as 0..64; {MOST_SEEDS} seeds at most")
    })
}

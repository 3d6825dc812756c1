//! The program `aca`.

use std::any::TypeId;
use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use mimalloc::MiMalloc;

mod args;
mod bench;
mod classify;
mod counting;
mod distributed;
mod fraction;
mod gradcheck;
mod method;
mod oscillators;
mod plot;
mod report;
mod solve;
mod strategy;
mod tableau;
mod three_body;

use args::{Cli, Command};
use counting::Counting;

/// Small states are made of small tensors, five allocations each.
#[global_allocator]
static ALLOCATOR: Counting<MiMalloc> = Counting(MiMalloc);

fn main() -> ExitCode {
    let matches = with_negative_numbers(Cli::command()).get_matches();
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    fix_thread_count(cli.threads);
    keep_memory();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Lets numbers of all options begin with a minus: what is wrong with such a number its reader says best.
/// What clap itself takes for a negative number ends at an exponent with a sign.
fn with_negative_numbers(command: clap::Command) -> clap::Command {
    let is_number = |arg: &clap::Arg| arg.get_value_parser().type_id() == TypeId::of::<f64>();
    command
        .allow_negative_numbers(true)
        .mut_args(|arg| if is_number(&arg) { arg.allow_hyphen_values(true) } else { arg })
        .mut_subcommands(with_negative_numbers)
}

fn run(command: Command) -> report::Result<()> {
    match command {
        Command::ThreeBody(args) => three_body::run(&args),
        Command::Solve(args) => solve::run(&args),
        Command::Tableau { command } => tableau::run(&command),
        Command::Gradcheck(args) => gradcheck::run(&args),
        Command::Classify { command } => classify::run(&command),
        Command::Bench(args) => bench::run(&args),
    }
}

/// Lets the allocator hold freed memory for ten seconds instead of ten milliseconds: states of images
/// come and go with every stage, and pages that the system hands out anew must be cleared first,
/// which took a third of a training step of NODE18.
#[allow(unsafe_code, reason = "the allocator's options are set through its C interface")]
fn keep_memory() {
    // The constant has no name in the bindings.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: the function takes any option and value, and needs no other call before it.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, 10_000) };
}

/// Sets `RAYON_NUM_THREADS` as asked, or to the number of cores unless the user did: without it
/// candle's matrix product asks the operating system for that number on every call, which costs more
/// than a small product.
#[allow(unsafe_code, reason = "the environment has no safe setter")]
fn fix_thread_count(threads: Option<u32>) {
    const KEY: &str = "RAYON_NUM_THREADS";
    let cores = || std::thread::available_parallelism().ok().map(|cores| cores.to_string());
    let count = match threads {
        Some(threads) => Some(threads.to_string()),
        None if std::env::var_os(KEY).is_some() => None,
        None => cores(),
    };
    if let Some(count) = count {
        // SAFETY: called first in `main`, so no other thread reads or writes the environment.
        unsafe { std::env::set_var(KEY, count) };
    }
}

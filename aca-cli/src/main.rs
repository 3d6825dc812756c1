//! The program `aca`.

use std::ffi::{OsStr, OsString};
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
mod results;
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
    let words = joined(std::env::args_os().collect());
    let matches = Cli::command().get_matches_from(words);
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    // Nothing is lost where it fails: no other thread runs yet.
    match cli.threads {
        Some(threads) => aca_core::init_with_threads(threads),
        None => aca_core::init(),
    };
    keep_memory();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::failure(&error);
            ExitCode::FAILURE
        }
    }
}

/// Joins negative numbers, and lists that begin with one, to the options before them, `--t0 -1e-3` to `--t0=-1e-3`: what is
/// wrong with such a number its option says best.
///
/// What clap itself takes for a negative number ends at an exponent with a sign, and options that may begin with
/// a hyphen, as it knows them, would take the next option for their value.
fn joined(words: Vec<OsString>) -> Vec<OsString> {
    let mut joined: Vec<OsString> = Vec::with_capacity(words.len());
    for word in words {
        let numbers = |w: &str| w.split(',').all(|number| number.parse::<f64>().is_ok());
        let negative = word.to_str().is_some_and(|w| w.starts_with('-') && numbers(w));
        match joined.last_mut().filter(|before| negative && is_option(before)) {
            Some(option) => {
                option.push("=");
                option.push(word);
            }
            None => joined.push(word),
        }
    }
    joined
}

/// Whether a word is a long option without a value.
fn is_option(word: &OsStr) -> bool {
    word.to_str()
        .is_some_and(|word| word.len() > 2 && word.starts_with("--") && !word.contains('='))
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

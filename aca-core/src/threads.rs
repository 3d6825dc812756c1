//! The number of threads, told to candle once.
#![allow(unsafe_code, reason = "the environment has no safe setter")]

use std::env;
use std::fs::read_dir;
use std::thread::available_parallelism;

/// Where candle and rayon look for the number of threads.
const KEY: &str = "RAYON_NUM_THREADS";

/// Makes candle's matrix products fast. Call it in the first line of `main`.
///
/// Candle asks the operating system for the number of cores in every matrix product, which costs more than a small
/// product itself, unless the environment variable `RAYON_NUM_THREADS` holds a number of threads. This sets it to the
/// number that rayon takes without it, all cores. A number that is set already stays.
///
/// Returns whether the variable holds a number now. It is left as it is when other threads run already,
/// under `#[tokio::main]` for instance, since one of them may be reading the environment: then set it outside
/// of the program. Only Linux lists the threads; on other Unix systems it is for the caller to see that
/// none runs yet.
///
/// # Example
/// ```
/// assert!(aca_core::init());
/// // The rest of the program.
/// ```
pub fn init() -> bool {
    number_in(KEY).is_some() || set(default_number())
}

/// [`init`] with a given number of threads, which replaces the one in the environment. As with rayon, 0 means all
/// cores.
pub fn init_with_threads(threads: u32) -> bool {
    set(if threads == 0 { default_number() } else { threads as usize })
}

fn set(threads: usize) -> bool {
    if other_threads_run() {
        return false;
    }
    // SAFETY: nobody else reads or writes the environment meanwhile, since no other thread runs: none is
    // listed, or, where there is no list, the documentation asks to call this before there are any.
    unsafe { env::set_var(KEY, threads.to_string()) };
    true
}

/// Whether the system lists more than the thread that asks.
fn other_threads_run() -> bool {
    read_dir("/proc/self/task").is_ok_and(|threads| threads.count() > 1)
}

/// The number that rayon takes where [`KEY`] has none: that of its older variable, or all cores.
fn default_number() -> usize {
    let cores = || available_parallelism().map_or(1, usize::from);
    number_in("RAYON_RS_NUM_CPUS").unwrap_or_else(cores)
}

/// A number of threads in the environment.
fn number_in(key: &str) -> Option<usize> {
    env::var(key).ok()?.parse().ok().filter(|&threads| threads > 0)
}

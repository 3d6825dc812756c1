//! The program `aca`.

use clap::Parser;
use mimalloc::MiMalloc;

/// Small states are made of small tensors, five allocations each.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

mod args;
mod bench;
mod report;

fn main() -> std::process::ExitCode {
    let cli = args::Cli::parse();
    let r = match cli.command {
        args::Command::Bench(a) => bench::run(&a),
        _ => Ok(()),
    };
    match r {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            let _ = report::line(&e.to_string());
            std::process::ExitCode::FAILURE
        }
    }
}

//! The sum over ranks of as many numbers as NODE18 has parameters:
//! `mpirun -n 2 cargo bench -p aca-models --features mpi --bench all_reduce`.
//!
//! Criterion times one process; here all must take part in every repetition.
#![allow(clippy::print_stdout, reason = "the result of a bench")]

use std::time::Instant;

use aca_models::Result;
use aca_models::communicator::{Communicator, Mpi};
use candle_core::{DType, Device, Tensor};

const PARAMETERS: usize = 11_173_962;
const REPETITIONS: usize = 30;

fn main() -> Result<()> {
    let mpi = Mpi::start()?;
    let mut times = Vec::new();
    for _ in 0..REPETITIONS {
        let mut tensors = [Tensor::ones(PARAMETERS, DType::F32, &Device::Cpu)?];
        mpi.barrier()?;
        let start = Instant::now();
        mpi.all_reduce(&mut tensors)?;
        mpi.barrier()?;
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    if mpi.rank() == 0 {
        let (least, median) = (1e3 * times[0], 1e3 * times[REPETITIONS / 2]);
        let bytes = (4 * PARAMETERS) as f64;
        println!(
            "all-reduce of {:.1} MB over {} ranks: median {median:.1} ms, least {least:.1} ms, {:.2} GB/s",
            bytes / 1e6,
            mpi.size(),
            bytes / median / 1e6
        );
    }
    Ok(())
}

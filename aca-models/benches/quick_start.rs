//! What does a step of the README's quick start take as it stands there, beside the same where
//! `RAYON_NUM_THREADS` was set outside of the program, and where nobody says how many threads there are?
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench talks and ends by panicking")]

use std::env;
use std::process::Command;
use std::time::Instant;

use aca_adjoint::{Gradient, Ode};
use aca_core::{Solver, Time, Tolerance};
use aca_dense::SaveAt;
use aca_tableau::DOPRI5;
use candle_core::{DType, Device, Tensor};
use candle_nn::{AdamW, Module, Optimizer, VarBuilder, VarMap, linear, loss};

/// Where a run of this program finds which program it is to be.
const PROGRAM: &str = "QUICK_START";
const THREADS: &str = "RAYON_NUM_THREADS";

/// Runs of each program, in turns: the machine may be busy with something else for a while.
const ROUNDS: usize = 7;
/// Trainings in a run.
const TRAININGS: usize = 100;

const PROGRAMS: [(&str, &str); 3] =
    [("set", "variable set outside"), ("init", "as it stands, with init"), ("neither", "neither")];

fn main() {
    match env::var(PROGRAM) {
        Ok(program) => println!("{}", train(&program)),
        Err(_) => compare(),
    }
}

/// Prints medians over the runs of every program.
fn compare() {
    let mut times = PROGRAMS.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for ((program, _), times) in PROGRAMS.iter().zip(&mut times) {
            times.push(run(program));
        }
    }
    let medians = times.map(median);
    for ((_, name), ms) in PROGRAMS.iter().zip(medians) {
        println!("{name:24} {ms:.3} ms per step, {:.2} of the first", ms / medians[0]);
    }
}

fn run(program: &str) -> f64 {
    let mut own = Command::new(env::current_exe().unwrap());
    own.env_remove(THREADS).env(PROGRAM, program);
    if program == "set" {
        own.env(THREADS, std::thread::available_parallelism().unwrap().to_string());
    }
    let output = own.output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// Returns the median time of a step, in ms.
fn train(program: &str) -> f64 {
    if program == "init" {
        aca_adjoint::init();
    }
    median((0..TRAININGS).map(|_| quick_start().unwrap()).collect())
}

/// The README's lines; returns the time of a step of its loop, in ms.
fn quick_start() -> candle_core::Result<f64> {
    let varmap = VarMap::new();
    let vb = VarBuilder::from_varmap(&varmap, DType::F32, &Device::Cpu);
    let (inner, outer) = (linear(2, 32, vb.pp("inner"))?, linear(32, 2, vb.pp("outer"))?);
    let field = move |_t: &Time, y: &Tensor| outer.forward(&inner.forward(y)?.tanh()?);

    let solver = Solver::adaptive(DOPRI5, Tolerance { rtol: 1e-5, atol: 1e-6 });
    let ode = Ode::new(solver, field, varmap.all_vars())?.gradient(Gradient::Aca);
    let mut opt = AdamW::new_lr(varmap.all_vars(), 1e-2)?;

    let y0 = Tensor::new(&[[2f32, 0.0], [0.0, 1.0]], &Device::Cpu)?;
    let target = Tensor::new(&[[1f32, -1.0], [0.5, 0.5]], &Device::Cpu)?;
    let start = Instant::now();
    for _ in 0..3 {
        let sol = ode.solve(&y0, (0.0, 1.0), &SaveAt::End)?;
        let loss = loss::mse(&sol.y1, &target)?;
        opt.backward_step(&loss)?;
    }
    Ok(start.elapsed().as_secs_f64() * 1e3 / 3.0)
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

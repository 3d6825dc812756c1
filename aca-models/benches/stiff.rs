//! What do stiff problems cost at which error, what do their gradients, and what does it save to let samples step on their own?
//! `scripts/peers/stiff.py` runs this, scipy, diffrax and diffsol, and draws.
//!
//! Rows: `precision,PROBLEM,METHOD,TOLERANCE,MILLISECONDS,ERROR,STEPS`; `gradient,SYSTEMS,TOLERANCE,FORWARD,BOTH,
//! ERROR,GRADIENT_ERROR,STEPS`; `batch,BATCHING,FORWARD,BOTH,STEPS`; `truth,PROBLEM,NUMBERS..`, by KVAERNO5 at 1e-13.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench talks and ends by panicking")]

use std::time::Instant;

use aca_adjoint::{Ode, OdeSolution};
use aca_core::{Batching, Method, Solver, Tolerance, VectorField};
use aca_dense::{SaveAt, solve};
use aca_models::systems::{Hires, Robertson, VanDerPol};
use aca_tableau::KVAERNO5;
use candle_core::{Device, Tensor, Var};

/// Median milliseconds of a call; fewer calls where they are long.
fn median(mut call: impl FnMut()) -> f64 {
    let mut timed = || {
        let start = Instant::now();
        call();
        1e3 * start.elapsed().as_secs_f64()
    };
    let rounds = if timed() < 50.0 { 31 } else { 5 };
    let mut times: Vec<f64> = (0..rounds).map(|_| timed()).collect();
    times.sort_by(f64::total_cmp);
    times[rounds / 2]
}

fn solver(method: impl Into<Method>, rtol: f64, atol: f64) -> Solver {
    Solver { max_steps: 1_000_000, ..Solver::adaptive(method, Tolerance { rtol, atol }) }
}

fn numbers(state: &Tensor) -> Vec<f64> {
    state.flatten_all().unwrap().to_vec1().unwrap()
}

/// The largest relative error of any number.
fn error(got: &Tensor, truth: &[f64]) -> f64 {
    let off = numbers(got).into_iter().zip(truth).map(|(got, truth)| (got / truth - 1.0).abs());
    off.fold(0.0, f64::max)
}

/// The end at 1e-13, which is printed too.
fn truth(name: &str, field: &impl VectorField, y0: &Tensor, end: f64, atol: f64) -> Vec<f64> {
    let solver = solver(KVAERNO5, 1e-13, 1e-13 * atol);
    let truth = numbers(&solver.solve(field, y0, (0.0, end), &mut ()).unwrap().y1);
    print_truth(name, &truth);
    truth
}

fn print_truth(name: &str, truth: &[f64]) {
    let words: Vec<_> = truth.iter().map(|number| format!("{number:e}")).collect();
    println!("truth,{name},{}", words.join(","));
}

/// Error over time of the methods; absolute tolerances are `atol` times the relative ones.
fn precision(name: &str, field: &impl VectorField, y0: &[f64], end: f64, atol: f64) {
    let y0 = Tensor::new(y0, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let truth = truth(name, field, &y0, end, atol);
    for method in ["kvaerno3", "kvaerno5", "esdirk4", "tr_bdf2", "auto"] {
        for exponent in 4..=10 {
            let tolerance = 10f64.powi(-exponent);
            let solver = solver(Method::by_name(method).unwrap(), tolerance, tolerance * atol);
            let call = || solve(&solver, field, &y0, (0.0, end), &SaveAt::End);
            let once = call().unwrap();
            let (error, steps) = (error(&once.y1, &truth), once.stats.accepted);
            let ms = median(|| drop(call().unwrap()));
            println!("precision,{name},{method},1e-{exponent},{ms:.4},{error:.3e},{steps}");
            if ms > 300.0 {
                break; // the next would take seconds
            }
        }
    }
}

/// The gradient of the sum of squares.
fn pull(sol: &OdeSolution, parameter: &Var) -> Tensor {
    let grads = sol.y1.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    grads.get(parameter).unwrap().clone()
}

/// Robertson's reaction to 1e5 from several starts, solves and gradients with respect to the rates.
fn gradients(systems: usize) {
    let starts = (0..systems).flat_map(|i| {
        let made = 0.5 * i as f64 / systems as f64;
        [1.0 - made, 0.0, made]
    });
    let y0 = Tensor::from_iter(starts, &Device::Cpu).unwrap().reshape((systems, 3)).unwrap();
    let field = Robertson::field(Robertson::RATES).unwrap();
    let truth = truth(&format!("robertson {systems}"), &field, &y0, 1e5, 1e-6);
    let with = |batching, tolerance| {
        let field = Robertson::field(Robertson::RATES).unwrap();
        let rates = field.theta().clone();
        let solver = Solver { batching, ..solver(KVAERNO5, tolerance, 1e-6 * tolerance) };
        (Ode::new(solver, field, vec![rates.clone()]).unwrap(), rates)
    };
    let call = |ode: &Ode| ode.solve(&y0, (0.0, 1e5), &SaveAt::End).unwrap();
    let (ode, rates) = with(Batching::Shared, 1e-13);
    let true_gradient = numbers(&pull(&call(&ode), &rates));
    print_truth(&format!("gradient {systems}"), &true_gradient);
    let batchings = [Batching::Shared, Batching::PerSample];
    for batching in batchings.into_iter().take(if systems == 1 { 1 } else { 2 }) {
        for exponent in 4..=9 {
            let (ode, rates) = with(batching, 10f64.powi(-exponent));
            let once = call(&ode);
            let errors = (error(&once.y1, &truth), error(&pull(&once, &rates), &true_gradient));
            let forward = median(|| drop(call(&ode)));
            let both = median(|| drop(pull(&call(&ode), &rates)));
            let steps = once.stats.accepted;
            println!(
                "gradient,{systems} {batching:?},1e-{exponent},{forward:.4},{both:.4},{:.3e},{:.3e},{steps}",
                errors.0, errors.1
            );
        }
    }
}

/// 256 oscillators with mu from 1 to 1000, sharing their steps or not.
fn oscillators() {
    let mu: Vec<f64> = (0..256).map(|i| 10f64.powf(3.0 * f64::from(i) / 255.0)).collect();
    let starts = (0..256).flat_map(|_| [2.0, 0.0]);
    let y0 = Tensor::from_iter(starts, &Device::Cpu).unwrap().reshape((256, 2)).unwrap();
    for batching in [Batching::Shared, Batching::PerSample] {
        let field = VanDerPol::field(&mu).unwrap();
        let theta: Var = field.theta().clone();
        let solver = Solver { batching, ..solver(KVAERNO5, 1e-6, 1e-6) };
        let ode = Ode::new(solver, field, vec![theta.clone()]).unwrap();
        let call = || ode.solve(&y0, (0.0, 20.0), &SaveAt::End).unwrap();
        let (once, forward) = (call(), median(|| drop(call())));
        let both = median(|| drop(pull(&call(), &theta)));
        let steps = match once.samples.is_empty() {
            true => once.stats.accepted.to_string(),
            false => {
                let steps = once.samples.iter().map(|end| end.stats.accepted);
                format!("{} to {}", steps.clone().min().unwrap(), steps.max().unwrap())
            }
        };
        println!("batch,{batching:?},{forward:.3},{both:.3},{steps}");
    }
}

fn main() {
    aca_adjoint::init();
    let robertson = Robertson::field(Robertson::RATES).unwrap();
    precision("robertson", &robertson, &Robertson::Y0, 1e5, 1e-6);
    precision("hires", &Hires::field(Hires::RATES).unwrap(), &Hires::Y0, 321.8122, 1e-3);
    precision("vanderpol", &VanDerPol::field(&[1000.0]).unwrap(), &[2.0, 0.0], 2000.0, 1.0);
    gradients(1);
    gradients(100);
    oscillators();
}

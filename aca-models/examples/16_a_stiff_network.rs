//! How do I train a stiff neural ODE? A small network learns the speeds of Robertson's three reactions, whose species live on
//! scales from 1e-3 to 1e4 seconds.
#![allow(clippy::print_stdout, reason = "examples talk")]

use std::time::Instant;

use aca_adjoint::{Gradient, Ode, OdeSolution};
use aca_core::{Method, Result, Solver, Time, Tolerance};
use aca_dense::{SaveAt, solve};
use aca_models::optimizers::{Adam, AdamConfig, Schedule};
use aca_models::systems::Robertson;
use aca_tableau::{DOPRI5, KVAERNO5};
use candle_core::{Device, Tensor, Var};

/// What each species is divided by, so that the largest amount of each is about 1.
const SCALE: [f64; 3] = [1.0, 3.6e-5, 1.0];
const HIDDEN: usize = 8;
const STEPS: usize = 600;
const SPAN: (f64, f64) = (0.0, 1e4);

/// Weights without a random number, so that every run is the same.
fn weights(rows: usize, columns: usize, size: f64) -> Result<Var> {
    let values = (0..rows * columns).map(|i| size * (1.0 + 2.4 * i as f64).sin());
    let values = Tensor::from_iter(values, &Device::Cpu)?.reshape((rows, columns))?;
    Ok(Var::from_tensor(&values)?)
}

fn main() -> Result<()> {
    aca_adjoint::init();
    let cpu = &Device::Cpu;
    let scale = Tensor::new(&[SCALE], cpu)?;
    let start = (Tensor::new(&[Robertson::Y0], cpu)? / &scale)?;
    let seconds: Vec<_> = (0..45).map(|i| 10f64.powf(f64::from(i) / 5.5 - 4.0)).collect();
    let times = SaveAt::Times(seconds.clone());
    let precise = Solver::adaptive(KVAERNO5, Tolerance { rtol: 1e-9, atol: 1e-14 });
    let law = Robertson::field(Robertson::RATES)?;
    let truth = solve(&precise, &law, &Tensor::new(&[Robertson::Y0], cpu)?, SPAN, &times)?.ys;
    let observed = truth.broadcast_div(&scale)?;

    // Known: 1 becomes 2, 2 becomes 3 and 2 becomes 1, each at a speed that grows with the amount that is used up.
    let amounts = Tensor::new(&[[1.0, 0.0, 0.0], [0.0, SCALE[1], SCALE[1]], [0.0; 3]], cpu)?;
    let changes = Tensor::new(&[[-1.0, 1.0, 0.0], [0.0, -1.0, 1.0], [1.0, -1.0, 0.0]], cpu)?;
    let changes = changes.broadcast_div(&scale)?;
    // Unknown: the logarithms of the rates, functions of all amounts that start as three constants and little more.
    let (inner, outer) = (weights(3, HIDDEN, 0.5)?, weights(HIDDEN, 3, 0.1)?);
    let (bias, rates) =
        (weights(1, HIDDEN, 0.5)?, Var::new(&[[0.1f64.ln(), 100f64.ln(), 1000f64.ln()]], cpu)?);
    let named = [("inner", &inner), ("bias", &bias), ("outer", &outer), ("rates", &rates)];
    let named: Vec<_> = named.map(|(name, var)| (name.to_owned(), var.clone())).into();
    let variables = named.iter().map(|(_, var)| var.clone()).collect::<Vec<_>>();
    let field = move |_t: &Time, y: &Tensor| {
        let hidden = (y + 1e-3)?.log()?.matmul(&inner)?.add(&bias)?.tanh()?;
        let speeds = hidden.matmul(&outer)?.add(&rates)?.exp()?.mul(&y.matmul(&amounts)?)?;
        speeds.matmul(&changes)
    };
    let tolerance = Tolerance { rtol: 1e-5, atol: 1e-6 };
    let ode =
        Ode::new(Solver::adaptive(Method::auto(), tolerance), field.clone(), variables.clone())?
            .gradient(Gradient::Aca);
    let loss = |sol: &OdeSolution| (&sol.ys - &observed)?.sqr()?.mean_all();

    let mut adam = Adam::new(named, AdamConfig::default())?;
    let mut fits = Vec::new();
    for step in 0..=STEPS {
        let clock = Instant::now();
        let sol = ode.solve(&start, SPAN, &times)?;
        let loss = loss(&sol)?;
        let gradients = loss.backward()?;
        if step % 100 == 0 {
            let (steps, implicit) = (sol.stats.accepted, sol.stats.implicit);
            let (loss, ms) = (loss.to_scalar::<f64>()?, 1e3 * clock.elapsed().as_secs_f64());
            println!(
                "{step:3}: loss {loss:.2e}, {steps} steps ({implicit} implicit), solve and gradient {ms:.0} ms"
            );
        }
        if step % STEPS == 0 {
            fits.push(sol.ys.squeeze(1)?.to_vec2::<f64>()?);
        }
        adam.config.lr = Schedule::Cosine { warmup: 0.0 }.learning_rate(0.04, step, 1, STEPS + 1);
        adam.step(&gradients)?;
    }
    println!("time, data, fit at the start, fit at the end; species 2 in units of {:e}", SCALE[1]);
    let observed = observed.squeeze(1)?.to_vec2::<f64>()?;
    for (i, t) in seconds.iter().enumerate() {
        println!("{t:9.2e} {:.4?} {:.4?} {:.4?}", observed[i], fits[0][i], fits[1][i]);
    }

    // The same gradient by an explicit method alone.
    let ode = Ode::new(Solver::adaptive(DOPRI5, tolerance), field, variables)?;
    let clock = Instant::now();
    let end = ode.solve(&start, SPAN, &times).map(|sol| sol.stats.accepted);
    let seconds = clock.elapsed().as_secs_f64();
    match end {
        Ok(steps) => println!("dopri5 alone: {steps} steps, {seconds:.2} s"),
        Err(error) => println!("dopri5 alone, after {seconds:.2} s: {error}"),
    }
    Ok(())
}

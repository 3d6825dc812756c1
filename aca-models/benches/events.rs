//! What do ten bounces of a ball cost, with and without their gradient, and what 256 balls of a batch? `scripts/peers/events.py`
//! runs the same in torchdiffeq and diffrax, and this.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench talks and ends by panicking")]

use std::time::Instant;

use aca_adjoint::Ode;
use aca_core::{Batching, Solver, Time, Tolerance, VectorField};
use aca_dense::{Event, Events, SaveAt};
use aca_models::systems::{Ball, ClosedForm};
use aca_tableau::DOPRI5;
use candle_core::{D, Device, Tensor, Var};

/// Median milliseconds of a call.
fn median(rounds: usize, mut call: impl FnMut()) -> f64 {
    call();
    let mut times: Vec<f64> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            call();
            1e3 * start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[rounds / 2]
}

fn ode(theta: &Var, batching: Batching, closed: bool) -> Ode {
    let solver = Solver::adaptive(DOPRI5, Tolerance { rtol: 1e-8, atol: 1e-8 });
    let (solver, law) = (Solver { batching, ..solver }, ClosedForm::new(Ball, theta.clone()));
    match closed {
        true => Ode::new(solver, law, vec![theta.clone()]),
        false => Ode::new(solver, move |t: &Time, y: &Tensor| law.trace(t, y), vec![theta.clone()]),
    }
    .unwrap()
}

fn main() {
    aca_adjoint::init();
    let theta = Var::new(&[9.81f64, 0.8], &Device::Cpu).unwrap();
    let one = Var::new(&[5.0f64, 0.0], &Device::Cpu).unwrap();
    let rows = (0..256).flat_map(|i| [1.0 + 0.05 * f64::from(i), 0.0]);
    let many = Tensor::from_iter(rows, &Device::Cpu).unwrap().reshape((256, 2)).unwrap();
    let many = Var::from_tensor(&many).unwrap();
    for (name, closed) in [("closed form", true), ("closure", false)] {
        let own = ode(&theta, Batching::Shared, closed);
        let function = Event { function: height(), ..Ball::bounce(&theta) };
        for (looks, event) in [("component", Ball::bounce(&theta)), ("function", function)] {
            let events = Events::new([event.until(10)]);
            let solve = || own.solve_events(&one, (0.0, 100.0), &SaveAt::End, &events).unwrap();
            let forward = median(101, || drop(solve()));
            let both = median(101, || {
                let t = solve().event_times.get(9).unwrap();
                drop(t.backward().unwrap());
            });
            println!("one,{name} {looks},{forward:.4},{both:.4}");
        }
        let own = ode(&theta, Batching::PerSample, closed);
        let events = Events::new([Ball::bounce(&theta).until(8)]);
        let solve = || own.solve_events(&many, (0.0, 100.0), &SaveAt::End, &events).unwrap();
        let forward = median(15, || drop(solve()));
        let both = median(15, || drop(solve().event_times.sum_all().unwrap().backward().unwrap()));
        println!("256,{name} component,{forward:.4},{both:.4}");
    }
}

/// The height as a function in candle's operations.
fn height() -> aca_dense::EventFunction {
    Event::new(|_t, y| y.narrow(D::Minus1, 0, 1)).function
}

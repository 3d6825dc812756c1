//! How do I train through spikes? Three leaky neurons that inhibit one another learn the thresholds at which they spike when
//! their targets do.
#![allow(clippy::print_stdout, reason = "examples talk")]

use aca_adjoint::{EventOdeSolution, Ode};
use aca_core::{Result, Solver, Time, Tolerance};
use aca_dense::{Event, Events, SaveAt};
use aca_tableau::DOPRI5;
use candle_core::{Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};

const NEURONS: usize = 3;
/// Spikes of each neuron that are compared.
const SPIKES: usize = 4;
/// What a spike does to the others.
const INHIBITION: f64 = -0.15;

/// A neuron whose potential comes to its threshold starts again from 0, and holds the others down.
fn spike(neuron: usize, thresholds: &Var) -> Event {
    let own = thresholds.clone();
    let reaches = move |_t: &Time, y: &Tensor| y.get(neuron)? - own.get(neuron)?;
    Event::new(reaches).rising().jump(move |_t, y| {
        let push = (0..NEURONS).map(|i| if i == neuron { 0.0 } else { INHIBITION });
        let keep = (0..NEURONS).map(|i| if i == neuron { 0.0 } else { 1.0 });
        let (push, keep) =
            (Tensor::from_iter(push, y.device())?, Tensor::from_iter(keep, y.device())?);
        (y * keep)? + push
    })
}

fn main() -> Result<()> {
    aca_adjoint::init();
    let currents = Tensor::new(&[1.5f64, 1.7, 1.9], &Device::Cpu)?;
    let leak = move |_t: &Time, y: &Tensor| &currents - y;
    let solver = Solver::adaptive(DOPRI5, Tolerance { rtol: 1e-8, atol: 1e-8 });
    let ode = Ode::new(solver, leak, vec![])?;
    let solve = |thresholds: &Var| {
        let events = Events::new((0..NEURONS).map(|i| spike(i, thresholds)).collect::<Vec<_>>());
        let y0 = Tensor::new(&[0.0f64, 0.1, 0.2], &Device::Cpu)?;
        ode.solve_events(&y0, (0.0, 12.0), &SaveAt::End, &events)
    };
    // The first spikes of each neuron.
    let first = |sol: &EventOdeSolution| -> Result<Tensor> {
        let mut all = Vec::new();
        for neuron in 0..NEURONS {
            for place in sol.of_event(neuron).into_iter().take(SPIKES) {
                all.push(sol.event_times.get(place)?);
            }
        }
        Ok(Tensor::stack(&all, 0)?)
    };
    let truth = Var::new(&[0.8f64, 1.0, 0.9], &Device::Cpu)?;
    let targets = first(&solve(&truth)?)?.detach();
    let thresholds = Var::new(&[0.6f64, 0.7, 0.7], &Device::Cpu)?;
    let params = ParamsAdamW { lr: 0.01, weight_decay: 0.0, ..ParamsAdamW::default() };
    let mut adam = AdamW::new(vec![thresholds.clone()], params)?;
    for iteration in 0..=400 {
        let off = (first(&solve(&thresholds)?)? - &targets)?.sqr()?.mean_all()?;
        if iteration % 100 == 0 {
            let rms = off.to_scalar::<f64>()?.sqrt();
            println!(
                "{iteration:3}: rms {rms:.1e}, thresholds {:.4?}",
                thresholds.to_vec1::<f64>()?
            );
        }
        adam.backward_step(&off)?;
    }
    println!("true thresholds {:?}", truth.to_vec1::<f64>()?);
    Ok(())
}

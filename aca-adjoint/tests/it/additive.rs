//! Gradients through additive methods.

use aca_adjoint::{Gradient, Ode};
use aca_core::{Batching, Newton, Result, Solver, Split, Time, Tolerance};
use aca_dense::SaveAt;
use aca_tableau::{ADDITIVE, Additive, KENCARP4};
use candle_core::{Device, Tensor, Var};

use crate::common::{distance, loss};

/// What turns is one part, what decays fast towards a curve the other; both have variables.
fn ode(solver: Solver, turn: &Var, rate: &Var) -> Ode {
    let (own, pull) = (turn.clone(), rate.clone());
    let nonstiff = move |t: &Time, y: &Tensor| {
        let last = y.rank() - 1;
        let (a, b) = (y.narrow(last, 0, 1)?, y.narrow(last, 1, 1)?);
        let force =
            (a.sin()? + (2.0 * t.tensor(y)?.mean_all()?.cos()?)?.broadcast_as(a.shape())?)?;
        Tensor::cat(&[b, force.neg()?], last)?.broadcast_mul(&own)
    };
    let stiff = move |_t: &Time, y: &Tensor| {
        let wanted = (y.flip(&[y.rank() - 1])?.sin()? * 0.3)?;
        wanted.sub(&(y.sqr()? * y)?)?.broadcast_mul(&pull)
    };
    Ode::new(solver, Split { nonstiff, stiff }, vec![turn.clone(), rate.clone()]).unwrap()
}

fn solver(pair: &Additive, steps: usize) -> Solver {
    let newton = Newton { fraction: 1e-8, max_iterations: 30 };
    Solver { newton, ..Solver::fixed_count(pair, steps) }
}

fn values(x: &Tensor) -> Vec<f64> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn gradients_are_those_of_differences() {
    for pair in ADDITIVE {
        for batching in [Batching::Shared, Batching::PerSample] {
            let turn = Var::new(&[1.3f64, 0.8], &Device::Cpu).unwrap();
            let rate = Var::new(&[40.0f64, 90.0], &Device::Cpu).unwrap();
            let y0 = Var::new(&[[0.7f64, -0.4], [0.2, 0.9]], &Device::Cpu).unwrap();
            let ode = ode(Solver { batching, ..solver(pair, 9) }, &turn, &rate);
            let save_at = SaveAt::Times(vec![0.13, 0.5, 1.0]);
            let value = || loss(&ode.solve(&y0, (0.0, 1.0), &save_at).unwrap().ys);
            let grads = value().backward().unwrap();
            for var in [&turn, &rate, &y0] {
                let (start, found) = (var.copy().unwrap(), values(grads.get(var).unwrap()));
                let at = |i: usize, d: f64| {
                    let mut moved = values(&start);
                    moved[i] += d;
                    var.set(&Tensor::from_vec(moved, start.shape(), &Device::Cpu).unwrap())
                        .unwrap();
                    let value = value().to_scalar::<f64>().unwrap();
                    var.set(&start).unwrap();
                    value
                };
                for (i, found) in found.iter().enumerate() {
                    let d = 1e-4;
                    let difference = (8.0 * (at(i, d) - at(i, -d))
                        - (at(i, 2.0 * d) - at(i, -2.0 * d)))
                        / (12.0 * d);
                    assert!(
                        (found - difference).abs() < 1e-8 * difference.abs().max(1.0),
                        "{}, {batching:?}, {i}: {found} for {difference}",
                        pair.name()
                    );
                }
            }
        }
    }
}

#[test]
fn a_budget_finds_the_same_gradient_and_graphs_are_refused() {
    let gradient = |gradient: Gradient| -> Result<Tensor> {
        let turn = Var::new(&[1.3f64, 0.8], &Device::Cpu)?;
        let rate = Var::new(&[400.0f64, 900.0], &Device::Cpu)?;
        let y0 = Var::new(&[0.7f64, -0.4], &Device::Cpu)?;
        let adaptive = Solver::adaptive(KENCARP4, Tolerance { rtol: 1e-6, atol: 1e-6 });
        let ode = ode(adaptive, &turn, &rate).gradient(gradient);
        let sol = ode.solve(&y0, (0.0, 2.0), &SaveAt::Times(vec![0.4, 2.0]))?;
        let grads = loss(&sol.ys).backward()?;
        Ok(grads.get(&rate).cloned().unwrap_or(rate.zeros_like()?))
    };
    let aca = gradient(Gradient::Aca).unwrap();
    let budget = gradient(Gradient::AcaBudget { checkpoints: 3 }).unwrap();
    assert!(distance(&aca, &budget) < 1e-14);
    for strategy in [Gradient::Naive, Gradient::NaiveThroughStepSize, Gradient::Mali] {
        assert!(gradient(strategy.clone()).is_err(), "{strategy:?}");
    }
}

//! Gradients of the outputs that events themselves make.

use aca_adjoint::{EventOdeSolution, Ode};
use aca_core::{Batching, Solver, Time, Tolerance};
use aca_dense::{Event, Events, SaveAt};
use aca_tableau::{DOPRI5, RK4};
use candle_core::{Device, Result, Tensor, Var};

fn var(values: &[f64]) -> Var {
    Var::new(values, &Device::Cpu).unwrap()
}

fn numbers(x: &Tensor) -> Vec<f64> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

fn weighed(x: &Tensor) -> Tensor {
    let weights = (0..x.elem_count()).map(|k| (0.3 + 1.7 * k as f64).cos());
    let weights = Tensor::from_iter(weights, &Device::Cpu).unwrap();
    (x.flatten_all().unwrap() * weights).unwrap().sum_all().unwrap()
}

/// A driven spring of a variable stiffness.
fn spring(stiffness: &Var) -> impl Fn(&Time, &Tensor) -> Result<Tensor> + Send + Sync + 'static {
    let stiffness = stiffness.clone();
    move |t, y| {
        let last = y.rank() - 1;
        let (x, v) = (y.narrow(last, 0, 1)?, y.narrow(last, 1, 1)?);
        let push = t.tensor(y)?.sin()?.broadcast_as(x.shape())?;
        Tensor::cat(&[&v, &(push - x.broadcast_mul(&stiffness)?)?], last)
    }
}

/// Compares gradients with central differences.
fn agrees(what: &str, vars: &[&Var], loss: impl Fn() -> Tensor) {
    let grads = loss().backward().unwrap();
    for (number, var) in vars.iter().enumerate() {
        let (found, at) = (numbers(grads.get(var).unwrap()), numbers(var));
        for i in 0..at.len() {
            let moved = |d: f64| {
                let mut at = at.clone();
                at[i] += d;
                var.set(&Tensor::from_vec(at, var.shape(), &Device::Cpu).unwrap()).unwrap();
                numbers(&loss())[0]
            };
            let difference = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            moved(0.0);
            let off = (found[i] - difference).abs() / (1.0 + difference.abs());
            assert!(off < 1e-7, "{what}, variable {number}[{i}]: {} for {difference}", found[i]);
        }
    }
}

#[test]
fn the_kept_step_at_which_a_solve_stops_moves_with_its_event() {
    let (k, y0) = (var(&[3.0]), var(&[0.5, -0.2]));
    let rows = Var::new(&[[0.5f64, -0.2], [-0.3, 0.6], [0.2, 0.2]], &Device::Cpu).unwrap();
    let events = Events::new([Event::component(0, 0.1)]);
    for (batching, y0) in [(Batching::Shared, &y0), (Batching::PerSample, &rows)] {
        let solver = Solver { batching, ..Solver::fixed(RK4, 0.03) };
        let ode = Ode::new(solver, spring(&k), vec![k.clone()]).unwrap();
        agrees("stop", &[&k, y0], || {
            let sol = ode.solve_events(y0, (0.0, 4.0), &SaveAt::Steps, &events).unwrap();
            weighed(&sol.ys)
        });
    }
}

/// The outputs at times that come twice: before and after each event.
fn pairs(sol: &EventOdeSolution) -> Tensor {
    let twice = (1..sol.ts.len()).filter(|&i| sol.ts[i - 1] == sol.ts[i]);
    let rows: Vec<Tensor> =
        twice.flat_map(|i| [i - 1, i]).map(|i| sol.ys.get(i).unwrap()).collect();
    assert_eq!(rows.len(), 2 * sol.len());
    Tensor::stack(&rows, 0).unwrap()
}

#[test]
fn kept_steps_before_and_after_a_jump_move_with_it() {
    let (k, y0) = (var(&[3.0]), var(&[0.5, -0.2]));
    let solver = Solver::adaptive(DOPRI5, Tolerance { rtol: 1e-12, atol: 1e-12 });
    let ode = Ode::new(solver, spring(&k), vec![k.clone()]).unwrap();
    let events = Events::new([Event::component(0, 0.1).jump(|_t, y| y.affine(0.7, -0.2))]);
    agrees("jump", &[&k, &y0], || {
        let sol = ode.solve_events(&y0, (0.0, 4.0), &SaveAt::Steps, &events).unwrap();
        weighed(&pairs(&sol))
    });
}

#[test]
fn variables_of_field_function_and_jump_are_counted_once_each() {
    // The stiffness is in all three.
    let (k, y0) = (var(&[3.0]), var(&[0.5, -0.2]));
    let (in_g, in_jump) = (k.clone(), k.clone());
    let event = Event::new(move |_t, y| y.narrow(0, 0, 1)? - (in_g.as_tensor() * 0.1)?)
        .rising()
        .jump(move |t, y| {
            let push = t.tensor(y)?.reshape(1)?.mul(&in_jump)?.affine(0.1, 0.0)?;
            let speed = y.narrow(0, 1, 1)?.affine(0.8, 0.0)?.add(&push)?;
            Tensor::cat(&[y.narrow(0, 0, 1)?.affine(1.0, -0.3)?, speed], 0)
        })
        .until(6);
    let events = Events::new([event]);
    let solver = Solver::adaptive(DOPRI5, Tolerance { rtol: 1e-12, atol: 1e-12 });
    let ode = Ode::new(solver, spring(&k), vec![k.clone()]).unwrap();
    agrees("shared", &[&k, &y0], || {
        let sol = ode.solve_events(&y0, (0.0, 20.0), &SaveAt::End, &events).unwrap();
        assert_eq!(sol.len(), 6);
        (weighed(&sol.event_times) + weighed(&sol.y1)).unwrap()
    });
}

//! Events of closed forms, whose solves and replays run on slices: as on tensors, and against differences.

use aca_adjoint::{EventOdeSolution, Ode};
use aca_core::{Batching, Solver, Time, Tolerance, VectorField};
use aca_dense::{Event, Events, SaveAt};
use aca_models::systems::{Ball, ClosedForm, Izhikevich, ThrownBall};
use aca_tableau::DOPRI5;
use candle_core::{Device, Tensor, Var};

fn adaptive(tolerance: f64, batching: Batching) -> Solver {
    let solver = Solver::adaptive(DOPRI5, Tolerance { rtol: tolerance, atol: tolerance });
    Solver { batching, ..solver }
}

fn numbers(x: &Tensor) -> Vec<f64> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

fn loss(sol: &EventOdeSolution) -> Tensor {
    let parts = [&sol.event_times, &sol.y1, &sol.states_before, &sol.states_after];
    let weighed = |(i, x): (usize, &&Tensor)| {
        let weights = (0..x.elem_count()).map(|k| (0.3 + i as f64 + 1.7 * k as f64).cos());
        let weights = Tensor::from_iter(weights, &Device::Cpu).unwrap();
        (x.flatten_all().unwrap() * weights).unwrap().sum_all().unwrap()
    };
    parts.iter().enumerate().map(weighed).reduce(|a, b| (a + b).unwrap()).unwrap()
}

fn gradients(sol: &EventOdeSolution, vars: [&Var; 2]) -> [Vec<f64>; 2] {
    let grads = loss(sol).backward().unwrap();
    vars.map(|var| numbers(grads.get(var).unwrap()))
}

/// Compares gradients with differences, of a relative step of `d`.
fn agrees(vars: [&Var; 2], (d, bound): (f64, f64), solve: impl Fn() -> EventOdeSolution) {
    let found = gradients(&solve(), vars);
    for (var, found) in vars.into_iter().zip(found) {
        let at = numbers(var);
        for i in 0..at.len() {
            let d = d * at[i].abs().max(1.0);
            let moved = |d: f64| {
                let mut at = at.clone();
                at[i] += d;
                var.set(&Tensor::from_vec(at, var.shape(), &Device::Cpu).unwrap()).unwrap();
                numbers(&loss(&solve()).reshape(1).unwrap())[0]
            };
            let difference = (moved(d) - moved(-d)) / (2.0 * d);
            moved(0.0);
            let off = (found[i] - difference).abs() / (1.0 + difference.abs());
            assert!(off < bound, "number {i}: {} for {difference}", found[i]);
        }
    }
}

#[test]
fn balls_of_a_batch_agree_with_differences_and_tensors() {
    for batching in [Batching::Shared, Batching::PerSample] {
        let theta = Var::new(&[9.81f64, 0.8], &Device::Cpu).unwrap();
        let y0 = match batching {
            Batching::Shared => Var::new(&[5.0f64, 1.0], &Device::Cpu).unwrap(),
            Batching::PerSample => Var::new(&[[5.0f64, 1.0], [2.0, -1.0]], &Device::Cpu).unwrap(),
        };
        let events =
            Events::new([Ball::bounce(&theta), Event::component(1, 0.0).falling().record()]);
        let solve = |traced: bool| {
            let law = ClosedForm::new(Ball, theta.clone());
            let (solver, vars) = (adaptive(1e-10, batching), vec![theta.clone()]);
            let ode = match traced {
                false => Ode::new(solver, law, vars),
                true => Ode::new(solver, move |t: &Time, y: &Tensor| law.trace(t, y), vars),
            };
            ode.unwrap().solve_events(&y0, (0.0, 4.0), &SaveAt::End, &events).unwrap()
        };
        let (slices, tensors) = (solve(false), solve(true));
        assert_eq!(numbers(&slices.event_times), numbers(&tensors.event_times));
        let pair = [gradients(&slices, [&theta, &y0]), gradients(&tensors, [&theta, &y0])];
        for (a, b) in pair[0].iter().flatten().zip(pair[1].iter().flatten()) {
            assert!((a - b).abs() < 1e-11 * (1.0 + a.abs()), "{a} and {b}");
        }
        agrees([&theta, &y0], (1e-5, 1e-7), || solve(false));
    }
}

#[test]
fn range_of_a_throw_agrees_with_differences() {
    let theta = Var::new(&ThrownBall::CLASSIC, &Device::Cpu).unwrap();
    let y0 = Var::new(&[0.0f64, 1.5, 20.0, 15.0], &Device::Cpu).unwrap();
    let field = ClosedForm::new(ThrownBall, theta.clone());
    let ode = Ode::new(adaptive(1e-11, Batching::Shared), field, vec![theta.clone()]).unwrap();
    let events = Events::new([ThrownBall::apex(), ThrownBall::ground()]);
    let solve = || ode.solve_events(&y0, (0.0, 60.0), &SaveAt::End, &events).unwrap();
    assert_eq!(solve().which, [0, 1]);
    agrees([&theta, &y0], (1e-5, 1e-6), solve);
}

#[test]
fn neurons_with_currents_of_their_own_spike_at_times_of_their_own() {
    let mut rows = [Izhikevich::REGULAR; 3];
    (rows[1][4], rows[2][4]) = (14.0, 3.0);
    let theta = Var::new(&rows, &Device::Cpu).unwrap();
    let y0 = Var::new(&[Izhikevich::Y0; 3], &Device::Cpu).unwrap();
    let field = ClosedForm::new(Izhikevich, theta.clone());
    let ode = Ode::new(adaptive(1e-11, Batching::PerSample), field, vec![theta.clone()]).unwrap();
    let events = Events::new([Izhikevich::spike(&theta)]);
    let solve = || ode.solve_events(&y0, (0.0, 60.0), &SaveAt::End, &events).unwrap();
    let sol = solve();
    assert!(sol.counts[1] > sol.counts[0] && sol.counts[0] > sol.counts[2], "{:?}", sol.counts);
    agrees([&theta, &y0], (1e-6, 1e-4), solve);
}

#[test]
fn derivatives_of_the_systems_are_right() {
    let state = |y: &[f64]| Tensor::new(y, &Device::Cpu).unwrap();
    let worst = [
        Ball::field(&Ball::CLASSIC).unwrap().check(&state(&[1.0, -2.0])).unwrap().worst(),
        ThrownBall::field(&ThrownBall::CLASSIC)
            .unwrap()
            .check(&state(&[1.0, 2.0, 9.0, -4.0]))
            .unwrap()
            .worst(),
        Izhikevich::field(&Izhikevich::REGULAR)
            .unwrap()
            .check(&state(&[-50.0, 3.0]))
            .unwrap()
            .worst(),
    ];
    assert!(worst.iter().all(|off| *off < 1e-6), "{worst:?}");
}

//! Gradients through solves that switch methods.

use aca_adjoint::{Backsolve, Gradient, Ode};
use aca_core::{
    Error, Method, Newton, Result, Solver, Step, StepSink, Time, Tolerance, VectorField,
};
use aca_dense::{Event, Events, SaveAt};
use aca_tableau::{DOP853, DOPRI5, KVAERNO5};
use candle_core::{Device, Tensor, Var};

use crate::common::{distance, loss};

/// Van der Pol's oscillator, whose layers are fast and whose slow parts are stiff.
struct Oscillator(Var);

impl VectorField for Oscillator {
    fn eval(&self, _t: &Time, y: &Tensor) -> candle_core::Result<Tensor> {
        let (x, v) = (y.narrow(0, 0, 1)?, y.narrow(0, 1, 1)?);
        let push = ((x.sqr()?.neg()? + 1.0)? * &v)?.broadcast_mul(&self.0)?;
        Tensor::cat(&[v, (push - x)?], 0)
    }
}

#[derive(Default)]
struct Schemes(Vec<(f64, usize)>);

impl StepSink for Schemes {
    fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
        self.0.push((step.t1, step.scheme()));
        Ok(())
    }
}

fn solver() -> Solver {
    let newton = Newton { fraction: 1e-9, max_iterations: 30 };
    Solver { newton, ..Solver::adaptive(Method::auto(), Tolerance { rtol: 1e-5, atol: 1e-5 }) }
}

const SPAN: (f64, f64) = (0.0, 45.0);

/// The gradient of a solve that switches, with respect to the state and mu.
fn gradient(gradient: Gradient, save_at: &SaveAt) -> (Tensor, Tensor) {
    let mu = Var::new(&[20.0f64], &Device::Cpu).unwrap();
    let ode = Ode::new(solver(), Oscillator(mu.clone()), vec![mu.clone()]).unwrap();
    let ode = ode.gradient(gradient);
    let y0 = Var::new(&[2.0f64, 0.0], &Device::Cpu).unwrap();
    let sol = ode.solve(&y0, SPAN, save_at).unwrap();
    let grads = loss(&sol.ys).backward().unwrap();
    (grads.get(&y0).unwrap().clone(), grads.get(&mu).unwrap().clone())
}

#[test]
fn gradients_through_switches_are_those_of_each_methods_own_steps() {
    let mu = Var::new(&[20.0f64], &Device::Cpu).unwrap();
    let field = Oscillator(mu.clone());
    let (mut schemes, start) = (Schemes::default(), Tensor::new(&[2.0f64, 0.0], &Device::Cpu));
    // As the gradient's own solve does.
    let held = Solver { stable_steps: aca_core::StableSteps::Always, ..solver() };
    held.solve(&field, &start.unwrap(), SPAN, &mut schemes).unwrap();
    let runs = schemes.0.chunk_by(|a, b| a.1 == b.1);
    assert!(runs.clone().count() > 4, "it switches back and forth");
    let y0 = Var::new(&[2.0f64, 0.0], &Device::Cpu).unwrap();
    let (mut y, mut t0) = (y0.as_tensor().clone(), SPAN.0);
    for run in runs {
        let method = if run[0].1 == 0 { DOPRI5 } else { KVAERNO5 };
        let step_ts: Vec<f64> = run.iter().map(|(t, _)| *t).collect();
        let t1 = run[run.len() - 1].0;
        let solver = Solver { step_ts, ..Solver::fixed_count(method, 1) };
        let ode = Ode::new(solver, Oscillator(mu.clone()), vec![mu.clone()]).unwrap();
        y = ode.solve(&y, (t0, t1), &SaveAt::End).unwrap().y1;
        t0 = t1;
    }
    let chained = loss(&y.unsqueeze(0).unwrap()).backward().unwrap();
    let (y0_bar, mu_bar) = gradient(Gradient::Aca, &SaveAt::End);
    for (ours, chained) in [(&y0_bar, chained.get(&y0)), (&mu_bar, chained.get(&mu))] {
        let size = distance(ours, &ours.zeros_like().unwrap());
        let off = distance(ours, chained.unwrap());
        assert!(off < 1e-6 * size, "{ours} off by {off:e}");
    }
}

#[test]
fn a_budget_replays_switches_to_the_same_gradient_with_outputs_inside_steps() {
    let save_at = SaveAt::Times((1..90).map(|i| 0.5 * f64::from(i)).collect());
    let (y0, mu) = gradient(Gradient::Aca, &save_at);
    for checkpoints in [2, 7] {
        let (own, own_mu) = gradient(Gradient::AcaBudget { checkpoints }, &save_at);
        assert_eq!(distance(&own, &y0), 0.0);
        assert_eq!(distance(&own_mu, &mu), 0.0);
    }
}

#[test]
fn strategies_that_cannot_go_through_switches_say_so() {
    let mu = Var::new(&[20.0f64], &Device::Cpu).unwrap();
    let y0 = Tensor::new(&[2.0f64, 0.0], &Device::Cpu).unwrap();
    for gradient in [
        Gradient::Naive,
        Gradient::NaiveThroughStepSize,
        Gradient::Mali,
        Gradient::Backsolve(Backsolve::default()),
    ] {
        let ode = Ode::new(solver(), Oscillator(mu.clone()), vec![mu.clone()]).unwrap();
        let error = ode.gradient(gradient).solve(&y0, SPAN, &SaveAt::End).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::TracedImplicit { .. } | Error::Other(_)), "{error}");
    }
}

#[test]
fn events_are_found_and_differentiated_on_the_interpolants_of_all_methods() {
    let crossings = |solver: Solver| {
        let mu = Var::new(&[20.0f64], &Device::Cpu).unwrap();
        let ode = Ode::new(solver, Oscillator(mu.clone()), vec![mu.clone()]).unwrap();
        let y0 = Tensor::new(&[2.0f64, 0.0], &Device::Cpu).unwrap();
        // Within the fast layers and on the slow parts, which the two methods take.
        let events = Events::new([0.0, 1.5].map(|level| Event::component(0, level).record()));
        let sol = ode.solve_events(&y0, SPAN, &SaveAt::End, &events).unwrap();
        let times = sol.event_times.to_vec1::<f64>().unwrap();
        let slopes = (0..times.len()).map(|i| {
            let grads = sol.event_times.get(i).unwrap().backward().unwrap();
            grads.get(&mu).unwrap().to_vec1::<f64>().unwrap()[0]
        });
        (slopes.collect::<Vec<_>>(), times, sol.stats)
    };
    let tolerance = |tolerance| Tolerance { rtol: tolerance, atol: tolerance };
    let auto =
        Solver { newton: solver().newton, ..Solver::adaptive(Method::auto(), tolerance(1e-6)) };
    let (slopes, times, stats) = crossings(auto);
    assert!(stats.implicit > 0 && stats.implicit < stats.accepted, "{stats:?}");
    let (exact_slopes, exact, _) = crossings(Solver::adaptive(DOP853, tolerance(1e-12)));
    assert_eq!(times.len(), exact.len());
    for i in 0..times.len() {
        assert!((times[i] - exact[i]).abs() < 1e-4, "event {i}: {} for {}", times[i], exact[i]);
        let off = (slopes[i] - exact_slopes[i]).abs();
        assert!(off < 1e-4, "event {i}: {} for {}", slopes[i], exact_slopes[i]);
    }
}

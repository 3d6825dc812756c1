//! Symplectic methods: order, energy, and gradients that need no checkpoints.

use aca_adjoint::{Backsolve, Gradient, GradientError, Ode};
use aca_core::{Batching, Error, Method, OnFailure, Solver, Splitting, Time, VectorField};
use aca_dense::SaveAt;
use candle_core::{Device, Result, Tensor, Var};

use crate::common::distance;

/// Kepler's problem with the gravity `mu`: positions `q`, momenta `p`, `q' = p`, `p' = -mu q / |q|^3`.
fn kepler(mu: &Var) -> impl Fn(&Time, &Tensor) -> Result<Tensor> + Send + Sync + 'static {
    let mu = mu.clone();
    move |_t: &Time, y: &Tensor| {
        let last = y.rank() - 1;
        let (q, p) = (y.narrow(last, 0, 2)?, y.narrow(last, 2, 2)?);
        let cube = q.sqr()?.sum_keepdim(last)?.powf(1.5)?;
        let force = q.broadcast_div(&cube)?.broadcast_mul(&mu)?.neg()?;
        Tensor::cat(&[&p, &force], last)
    }
}

/// An orbit of eccentricity 0.3 at its pericentre, of period 2 pi.
fn pericentre() -> Tensor {
    let e = 0.3f64;
    Tensor::new(&[1.0 - e, 0.0, 0.0, ((1.0 + e) / (1.0 - e)).sqrt()], &Device::Cpu).unwrap()
}

const PERIOD: f64 = std::f64::consts::TAU;

fn one() -> Var {
    Var::new(&[1.0f64], &Device::Cpu).unwrap()
}

fn methods() -> [Method; 2] {
    [Splitting::VERLET.into(), Splitting::YOSHIDA4.into()]
}

#[test]
fn errors_fall_with_the_order_that_a_splitting_claims() {
    for splitting in [Splitting::VERLET, Splitting::YOSHIDA4] {
        let error = |steps: usize| {
            let solver = Solver::fixed_count(splitting.clone(), steps);
            let end = solver.solve(&kepler(&one()), &pericentre(), (0.0, PERIOD), &mut ()).unwrap();
            distance(&end.y1, &pericentre())
        };
        let slope = (error(400) / error(800)).log2();
        let order = splitting.order() as f64;
        assert!((slope - order).abs() < 0.1, "{}: slope {slope}", splitting.name());
    }
}

#[test]
fn dense_output_has_its_order_and_meets_the_steps() {
    let exact =
        Solver::adaptive(aca_tableau::DOP853, aca_core::Tolerance { rtol: 1e-12, atol: 1e-12 });
    let exact = exact.solve(&kepler(&one()), &pericentre(), (0.0, 1.0), &mut ()).unwrap().y1;
    for method in methods() {
        let error = |steps: usize| {
            let solver = Solver::fixed_count(method.clone(), steps);
            let (field, y0) = (kepler(&one()), pericentre());
            let sol = aca_dense::solve(&solver, &field, &y0, (0.0, 3.0), &SaveAt::Dense).unwrap();
            distance(&sol.dense().unwrap().at(1.0).unwrap(), &exact)
        };
        let slope = (error(100) / error(200)).log2();
        assert!(slope > 1.8, "{}: slope {slope}", method.name());
    }
}

/// A field that says that it is separable.
struct Separable<F>(F);

impl<F: VectorField> VectorField for Separable<F> {
    fn eval(&self, t: &Time, y: &Tensor) -> Result<Tensor> {
        self.0.eval(t, y)
    }

    fn is_separable(&self) -> bool {
        true
    }
}

#[test]
fn a_step_costs_an_evaluation_a_slope_and_of_separable_fields_one_less() {
    for (splitting, slopes) in [(Splitting::VERLET, 3), (Splitting::YOSHIDA4, 7)] {
        let solver = Solver::fixed_count(splitting, 10);
        let (field, y0) = (kepler(&one()), pericentre());
        let end = solver.solve(&field, &y0, (0.0, 1.0), &mut ()).unwrap();
        assert_eq!(end.stats.nfe, 10 * slopes);
        let less = solver.solve(&Separable(field), &y0, (0.0, 1.0), &mut ()).unwrap();
        assert_eq!(less.stats.nfe, 10 * (slopes - 1) + 1, "the last kick is the next's first");
        assert_eq!(less.y1.to_vec1::<f64>().unwrap(), end.y1.to_vec1::<f64>().unwrap());
    }
}

/// A pendulum with friction, which is not separable: the momentum's slope depends on the momentum.
fn friction(mu: &Var) -> impl Fn(&Time, &Tensor) -> Result<Tensor> + Send + Sync + 'static {
    let mu = mu.clone();
    move |t: &Time, y: &Tensor| {
        let last = y.rank() - 1;
        let (q, p) = (y.narrow(last, 0, 1)?, y.narrow(last, 1, 1)?);
        let force = (q.sin()? + p.broadcast_mul(&mu)?)?.neg()?;
        Tensor::cat(&[&p, &force.broadcast_add(&t.tensor(y)?.cos()?)?], last)
    }
}

#[test]
fn steps_of_fields_that_are_not_separable_are_the_same_alone_and_after_another() {
    let (mu, y0) = (one(), Tensor::new(&[1.0f64, 0.3], &Device::Cpu).unwrap());
    for method in methods() {
        let step = |y0: &Tensor, t: f64| {
            let solver = Solver::fixed_count(method.clone(), 1);
            solver.solve(&friction(&mu), y0, (t, t + 0.25), &mut ()).unwrap().y1
        };
        let two = Solver::fixed_count(method.clone(), 2);
        let two = two.solve(&friction(&mu), &y0, (0.0, 0.5), &mut ()).unwrap().y1;
        assert_eq!(distance(&step(&step(&y0, 0.0), 0.25), &two), 0.0, "{}", method.name());
    }
}

#[test]
fn gradients_of_fields_that_are_not_separable_are_those_of_finite_differences() {
    for (method, batching) in methods()
        .into_iter()
        .flat_map(|m| [(m.clone(), Batching::Shared), (m, Batching::PerSample)])
    {
        let value = |mu: &Var| {
            let y0 = Tensor::new(&[[1.0f64, 0.3], [0.4, -1.0]], &Device::Cpu).unwrap();
            let solver = Solver { batching, ..Solver::fixed_count(method.clone(), 12) };
            let ode = Ode::new(solver, friction(mu), vec![mu.clone()]).unwrap();
            let sol = ode.solve(&y0, (0.0, 2.0), &SaveAt::Times(vec![0.7, 2.0])).unwrap();
            sol.ys.sqr().unwrap().sum_all().unwrap()
        };
        let at = |mu: f64| value(&Var::new(&[mu], &Device::Cpu).unwrap());
        let at = |mu: f64| at(mu).to_scalar::<f64>().unwrap();
        let difference = (at(1.0 + 1e-6) - at(1.0 - 1e-6)) / 2e-6;
        let mu = one();
        let found = value(&mu).backward().unwrap().get(&mu).unwrap().to_vec1::<f64>().unwrap()[0];
        assert!((found - difference).abs() < 1e-7, "{}: {found}, {difference}", method.name());
    }
}

#[test]
fn times_of_outputs_at_the_ends_of_steps_move_the_loss_by_the_slope_there() {
    for (method, batching) in methods()
        .into_iter()
        .flat_map(|m| [(m.clone(), Batching::Shared), (m, Batching::PerSample)])
    {
        let mu = one();
        // Every output is the end of a step, and of steps so small that the solution is close to exact.
        let value = |ts: &Tensor, step_ts: Vec<f64>| {
            let y0 = Tensor::new(&[[1.0f64, 0.3], [0.4, -1.0]], &Device::Cpu).unwrap();
            let solver = Solver { batching, step_ts, ..Solver::fixed(method.clone(), 1e-3) };
            let ode = Ode::new(solver, friction(&mu), vec![mu.clone()]).unwrap();
            ode.solve_times(&y0, ts).unwrap().ys.sqr().unwrap().sum_all().unwrap()
        };
        let ts = Var::new(&[0.0, 0.3, 0.5, 0.8f64], &Device::Cpu).unwrap();
        let grads = value(&ts, vec![0.3, 0.5]).backward().unwrap();
        let found = grads.get(&ts).unwrap().to_vec1::<f64>().unwrap();
        for (m, found) in found.iter().enumerate().skip(1) {
            let at = |step: f64| {
                let mut moved = [0.0, 0.3, 0.5, 0.8f64];
                moved[m] += step;
                let ts = Tensor::new(&moved, &Device::Cpu).unwrap();
                value(&ts, moved[1..3].to_vec()).to_scalar::<f64>().unwrap()
            };
            let difference = (at(1e-4) - at(-1e-4)) / 2e-4;
            assert!(
                (found - difference).abs() < 2e-3 * difference.abs().max(1.0),
                "{} {batching:?}, time {m}: {found}, {difference}",
                method.name()
            );
        }
    }
}

#[test]
fn a_splitting_on_the_way_back_of_the_continuous_adjoint_is_refused() {
    let mu = one();
    let ode = Ode::new(Solver::fixed(Splitting::VERLET, 0.1), kepler(&mu), vec![mu]).unwrap();
    let ode = ode.gradient(Gradient::Backsolve(Backsolve::default()));
    let error = ode.forward(&pericentre(), (0.0, 1.0), &SaveAt::End).err().unwrap();
    assert!(
        matches!(
            GradientError::of(&error),
            Some(GradientError::Unsupported { strategy: "Backsolve", .. })
        ),
        "{error}"
    );
}

#[test]
fn yoshidas_method_which_looks_beyond_its_steps_is_refused_beside_jumps() {
    let solver = Solver { jump_ts: vec![0.5], ..Solver::fixed(Splitting::YOSHIDA4, 0.1) };
    let error = solver.solve(&kepler(&one()), &pericentre(), (0.0, 1.0), &mut ()).unwrap_err();
    assert!(matches!(error, Error::NodeOutsideStep { .. }), "{error}");
}

#[test]
fn a_failed_sample_leaves_the_others_their_gradient_without_checkpoints() {
    let growth = |mu: &Var| {
        let mu = mu.clone();
        move |_t: &Time, y: &Tensor| {
            let (q, p) = (y.narrow(1, 0, 1)?, y.narrow(1, 1, 1)?);
            Tensor::cat(&[&p, &(&q * q.sqr()?.broadcast_mul(&mu)?)?], 1)
        }
    };
    let gradients = |gradient: Gradient| {
        let mu = one();
        let solver = Solver {
            batching: Batching::PerSample,
            on_failure: OnFailure::Keep,
            ..Solver::fixed_count(Splitting::VERLET, 10)
        };
        let ode = Ode::new(solver, growth(&mu), vec![mu.clone()]).unwrap().gradient(gradient);
        let y0 = Tensor::new(&[[0.2f64, 0.1], [1e200, 1e200]], &Device::Cpu).unwrap();
        let y0 = Var::from_tensor(&y0).unwrap();
        let sol = ode.solve(&y0, (0.0, 1.0), &SaveAt::End).unwrap();
        let grads = sol.y1.get(0).unwrap().sum_all().unwrap().backward().unwrap();
        (grads.get(&y0).unwrap().clone(), grads.get(&mu).unwrap().clone())
    };
    let (aca, mali) = (gradients(Gradient::Aca), gradients(Gradient::Mali));
    assert!(distance(&aca.0, &mali.0) < 1e-12 && distance(&aca.1, &mali.1) < 1e-12);
}

#[test]
fn a_walk_back_that_went_astray_is_refused_beside_a_large_entry_too() {
    // Henon and Heiles' chaotic potential, beside a coordinate that stays far away.
    let field = |_t: &Time, y: &Tensor| {
        let entry = |i: usize| y.narrow(0, i, 1);
        let (x, z) = (entry(0)?, entry(1)?);
        let fx = (x.neg()? - ((&x * &z)? * 2.0)?)?;
        let fz = ((z.neg()? - x.sqr()?)? + z.sqr()?)?;
        Tensor::cat(&[&entry(3)?, &entry(4)?, &entry(5)?, &fx, &fz, &entry(2)?.zeros_like()?], 0)
    };
    for far in [0.0, 1e7] {
        let y0 = Tensor::new(&[0.0, -0.15, far, 0.54, 0.05, 0.0f64], &Device::Cpu).unwrap();
        let ode = Ode::new(Solver::fixed(Splitting::YOSHIDA4, 0.1), field, vec![]).unwrap();
        let ode = ode.gradient(Gradient::Mali);
        let (sol, tape) = ode.forward(&y0, (0.0, 300.0), &SaveAt::End).unwrap();
        let error = tape.pullback(&sol.ys.ones_like().unwrap()).err().unwrap();
        assert!(
            matches!(GradientError::of(&error), Some(GradientError::LeapfrogDrift { .. })),
            "{far}: {error}"
        );
        let (sol, tape) = ode.forward(&y0, (0.0, 20.0), &SaveAt::End).unwrap();
        tape.pullback(&sol.ys.ones_like().unwrap()).unwrap();
    }
}

/// Gradients of a loss of three outputs with respect to the state and gravity.
fn gradients(method: &Method, gradient: Gradient, batching: Batching) -> (Tensor, Tensor, usize) {
    let (mu, y0) = (one(), pericentre());
    let y0 = match batching {
        Batching::Shared => y0,
        Batching::PerSample => Tensor::stack(&[&y0, &(&y0 * 1.02).unwrap()], 0).unwrap(),
    };
    let y0 = Var::from_tensor(&y0).unwrap();
    let solver = Solver { batching, ..Solver::fixed_count(method.clone(), 60) };
    let ode = Ode::new(solver, kepler(&mu), vec![mu.clone()]).unwrap().gradient(gradient);
    let sol = ode.solve(&y0, (0.0, 4.0), &SaveAt::Times(vec![1.0, 2.345, 4.0])).unwrap();
    let grads = sol.ys.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    let of = |var: &Var| grads.get(var).unwrap().clone();
    (of(&y0), of(&mu), sol.nfe_backward())
}

#[test]
fn gradients_with_all_checkpoints_some_and_none_are_those_of_candles_graph() {
    for method in methods() {
        for batching in [Batching::Shared, Batching::PerSample] {
            let (y0, mu, _) = gradients(&method, Gradient::Naive, batching);
            let strategies =
                [Gradient::Aca, Gradient::AcaBudget { checkpoints: 3 }, Gradient::Mali];
            for gradient in strategies {
                let found = gradients(&method, gradient.clone(), batching);
                let off = distance(&found.0, &y0).max(distance(&found.1, &mu));
                assert!(off < 1e-10, "{} {gradient:?} {batching:?}: {off:e}", method.name());
            }
        }
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    for method in methods() {
        let loss = |mu: f64| {
            let mu = Var::new(&[mu], &Device::Cpu).unwrap();
            let solver = Solver::fixed_count(method.clone(), 60);
            let times = SaveAt::Times(vec![1.0, 2.345, 4.0]);
            let field = kepler(&mu);
            let sol = aca_dense::solve(&solver, &field, &pericentre(), (0.0, 4.0), &times).unwrap();
            sol.ys.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap()
        };
        let difference = (loss(1.0 + 1e-6) - loss(1.0 - 1e-6)) / 2e-6;
        let (_, mu, _) = gradients(&method, Gradient::Mali, Batching::Shared);
        let found = mu.to_vec1::<f64>().unwrap()[0];
        assert!((found - difference).abs() < 1e-6, "{}: {found}, {difference}", method.name());
    }
}

#[test]
fn states_without_halves_and_methods_without_a_way_back_are_refused() {
    let y0 = Tensor::new(&[1.0f64, 2.0, 3.0], &Device::Cpu).unwrap();
    let decay = |_t: &Time, y: &Tensor| y.neg();
    let error = Solver::fixed(Splitting::VERLET, 0.1).solve(&decay, &y0, (0.0, 1.0), &mut ());
    assert!(matches!(error.unwrap_err(), Error::NoHalves { .. }));
    let tolerance = aca_core::Tolerance { rtol: 1e-3, atol: 1e-3 };
    let adaptive = Solver::adaptive(Splitting::VERLET, tolerance);
    assert!(matches!(adaptive.validate().unwrap_err(), Error::NoErrorEstimate { .. }));
    let ode = Ode::new(Solver::fixed(aca_tableau::RK4, 0.1), decay, vec![]).unwrap();
    let error = ode.gradient(Gradient::Mali).forward(&y0, (0.0, 1.0), &SaveAt::End);
    assert!(matches!(
        GradientError::of(&error.err().unwrap()),
        Some(GradientError::NotReversible { .. })
    ));
}

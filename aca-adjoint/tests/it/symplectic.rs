//! Symplectic methods: order, energy, and gradients that need no checkpoints.

use aca_adjoint::{Gradient, Ode};
use aca_core::{Batching, Error, Method, Solver, Splitting, Time};
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

#[test]
fn a_step_costs_two_and_six_evaluations() {
    for (splitting, evaluations) in [(Splitting::VERLET, 2), (Splitting::YOSHIDA4, 6)] {
        let solver = Solver::fixed_count(splitting, 10);
        let end = solver.solve(&kepler(&one()), &pericentre(), (0.0, 1.0), &mut ()).unwrap();
        assert_eq!(
            end.stats.nfe,
            10 * evaluations + 1,
            "the last kick of a step is the next's first"
        );
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
    assert!(matches!(error.err().unwrap(), Error::NotReversible { .. }));
}

//! The three-body workload: its gradient against an independent reference.

use aca_adjoint::{Checkpoints, Ode};
use aca_core::kernels::{self, Terms};
use aca_core::{Solver, Stepper, Tableau, Time, Tolerance, VectorField};
use aca_dense::{SaveAt, interpolate};
use aca_models::systems::{ClosedForm, ThreeBody};
use aca_tableau::{DOP853, DOPRI5};
use candle_core::{DType, Device, Tensor, Var};

/// Loss and gradient of the workload, from an 8th-order solve in f64 at 1e-13 by diffrax's Dopri8
/// that steps onto every output time; it agrees with the same at 1e-11 to 1.4e-6.
const LOSS: f64 = 0.1482818864432282;
const GRADIENT: [f64; 3] = [-0.10444943715604288, 0.05341189039383215, 0.09448121579681523];

/// Where the workload is differentiated.
const MASSES: [f64; 3] = [1.05, 0.95, 1.0];

/// Column sums with the rounding of each addition added back at the end (Neumaier).
fn exact_sum(rows: &[Vec<f64>]) -> Vec<f64> {
    let add = |(sum, lost): (f64, f64), x: f64| {
        let next = sum + x;
        let error = if sum.abs() >= x.abs() { (sum - next) + x } else { (x - next) + sum };
        (next, lost + error)
    };
    let column = |i: usize| rows.iter().map(|row| row[i]).fold((0.0, 0.0), add);
    (0..3).map(|i| column(i).0 + column(i).1).collect()
}

/// Loss and gradient of the workload, at [`MASSES`].
fn solved(tableau: Tableau, tolerance: f64) -> (f64, Vec<f64>) {
    let field = ThreeBody::field(MASSES).unwrap();
    let masses = field.theta().clone();
    let tolerance = Tolerance { rtol: tolerance, atol: tolerance };
    let ode = Ode::new(Solver::adaptive(tableau, tolerance), field, vec![masses.clone()]).unwrap();
    let y0 = Tensor::new(&ThreeBody::Y0, &Device::Cpu).unwrap();
    let times = SaveAt::Times((0..1000).map(|i| f64::from(i) / 999.0).collect());
    let sol = ode.solve(&y0, (0.0, 1.0), &times).unwrap();
    let loss = sol.ys.narrow(1, 0, 9).unwrap().sqr().unwrap().mean_all().unwrap();
    let gradient = loss.backward().unwrap().get(&masses).unwrap().to_vec1::<f64>().unwrap();
    (loss.to_scalar().unwrap(), gradient)
}

/// Norm of the difference relative to that of `b`.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    let off: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    norm(&off) / norm(b)
}

/// Loss of the workload, and error of ACA's gradient relative to the reference.
fn workload(tableau: Tableau, tolerance: f64) -> (f64, f64) {
    let (loss, gradient) = solved(tableau, tolerance);
    (loss, distance(&gradient, &GRADIENT))
}

/// `traced` with the value of `exact`: its place in candle's graph, rid of its rounding.
fn at_value(traced: &Tensor, exact: &Tensor) -> Tensor {
    (exact.detach() + (traced - traced.detach()).unwrap()).unwrap()
}

/// Outputs of the workload as candle's graph through the same accepted steps.
///
/// Every state and slope has the value that the solve had there: the orbits are chaotic, and states
/// that differ by rounding would be other states after a hundred steps. Every evaluation has a copy of
/// the masses, so that the gradient's parts, which cancel to a millionth, can be summed exactly.
fn traced(field: &ClosedForm<ThreeBody>, times: &[f64]) -> (Tensor, Vec<Var>) {
    let y0 = Tensor::new(&ThreeBody::Y0, &Device::Cpu).unwrap();
    let solver = Solver::adaptive(DOPRI5, Tolerance { rtol: 1e-7, atol: 1e-7 });
    let method = Stepper::new(&solver, DType::F64).unwrap();
    let mut steps = Checkpoints::default();
    solver.solve(field, &y0, (0.0, 1.0), &mut steps).unwrap();
    let sum = |y: &Tensor, h: f64, weights: &[f64], k: &[Tensor]| {
        weights.iter().zip(k).fold(y.clone(), |y, (w, k)| (y + (k * (h * w)).unwrap()).unwrap())
    };
    let (mut rows, mut copies) = (vec![y0.clone()], Vec::new());
    let mut y = y0;
    for step in &steps.of_sample(0).unwrap() {
        let (t0, t1, h) = (step.t0, step.t1, step.t1 - step.t0);
        y = at_value(&y, &step.y0);
        let (mut k, mut exact): (Vec<Tensor>, Vec<Tensor>) = (Vec::new(), Vec::new());
        for i in 0..DOPRI5.stages() {
            let terms = method.a_row(i).iter().copied().zip(&exact).filter(|(a, _)| *a != 0.0);
            let terms: Terms<'_> = terms.map(|(a, k)| (h * a, k)).collect();
            let state = kernels::combine(Some(&step.y0), &terms).unwrap();
            let at = at_value(&sum(&y, h, DOPRI5.a_row(i), &k), &state);
            let t = Time::new(method.time((t0, t1), method.c(i)));
            drop(terms);
            exact.push(field.eval(&t, &state).unwrap());
            let copy = ThreeBody::field(MASSES).unwrap();
            k.push(at_value(&copy.trace(&t, &at).unwrap(), &exact[i]));
            copies.push(copy.theta().clone());
        }
        for &t in times.iter().filter(|&&t| t0 < t && t < t1) {
            let s = (t - t0) / (t1 - t0);
            let row = interpolate(&method, &step.y0, h, &exact, &[s]).unwrap().squeeze(0).unwrap();
            rows.push(at_value(&sum(&y, h, &method.interpolant().weights(s), &k), &row));
        }
        y = sum(&y, h, DOPRI5.b(), &k);
        rows.extend(times.contains(&t1).then(|| y.clone()));
    }
    (Tensor::stack(&rows, 0).unwrap(), copies)
}

#[test]
fn gradient_is_that_of_candles_autograd_through_the_same_steps() {
    // The graph of two hundred steps is deeper than a test's stack.
    let walk = std::thread::Builder::new().stack_size(1 << 30).spawn(|| {
        let field = ThreeBody::field(MASSES).unwrap();
        let times: Vec<f64> = (0..1000).map(|i| f64::from(i) / 999.0).collect();
        let (ys, copies) = traced(&field, &times);
        let loss = ys.narrow(1, 0, 9).unwrap().sqr().unwrap().mean_all().unwrap();
        let grads = loss.backward().unwrap();
        let parts = copies.iter().filter_map(|copy| grads.get(copy));
        exact_sum(&parts.map(|part| part.to_vec1().unwrap()).collect::<Vec<_>>())
    });
    let oracle = walk.unwrap().join().unwrap();
    let (_, aca) = solved(DOPRI5, 1e-7);
    let off = distance(&aca, &oracle);
    assert!(off <= 1e-11, "gradients {off:e} apart, bound 1e-11: rounding alone");
}

#[test]
fn gradient_approaches_the_reference_as_the_tolerance_falls() {
    let (_, at_9) = workload(DOPRI5, 1e-9);
    let (loss, at_11) = workload(DOPRI5, 1e-11);
    assert!(at_9 <= 2e-3, "gradient error {at_9:e} at 1e-9, goal 2e-3");
    assert!(at_11 <= 1e-5, "gradient error {at_11:e} at 1e-11, goal 1e-5");
    assert!((loss - LOSS).abs() <= 1e-10, "loss {loss} at 1e-11, reference {LOSS}");
}

#[test]
fn eighth_order_keeps_its_order_between_steps() {
    let (_, error) = workload(DOP853, 1e-10);
    assert!(error <= 2e-4, "gradient error {error:e} of dop853 at 1e-10, bound 2e-4");
}

#[test]
fn centre_of_mass_moves_in_a_straight_line() {
    let field = ThreeBody::field(ThreeBody::MASSES).unwrap();
    let solver = Solver::adaptive(DOP853, Tolerance { rtol: 1e-12, atol: 1e-12 });
    let y0 = Tensor::new(&ThreeBody::Y0, &Device::Cpu).unwrap();
    let y1 = aca_dense::solve(&solver, &field, &y0, (0.0, 1.0), &SaveAt::End).unwrap().y1;
    let y1 = y1.to_vec1::<f64>().unwrap();
    for axis in 0..3 {
        let sum = |y: &[f64], start: usize| -> f64 {
            (0..3).map(|i| ThreeBody::MASSES[i] * y[start + 3 * i + axis]).sum()
        };
        let expected = sum(&ThreeBody::Y0, 0) + ThreeBody::K2 * sum(&ThreeBody::Y0, 9);
        let moved = sum(&y1, 0);
        assert!((moved - expected).abs() < 1e-9, "axis {axis}: {moved}, momentum says {expected}");
    }
}

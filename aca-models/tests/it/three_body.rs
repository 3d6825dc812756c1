//! The three-body workload: its gradient against an independent reference.

use aca_adjoint::Ode;
use aca_core::{Solver, Tableau, Tolerance};
use aca_dense::SaveAt;
use aca_models::systems::ThreeBody;
use aca_tableau::{DOP853, DOPRI5};
use candle_core::{Device, Tensor};

/// Loss and gradient of the workload, from an 8th-order solve in f64 at 1e-13 by diffrax's Dopri8
/// that steps onto every output time; it agrees with the same at 1e-11 to 1.4e-6.
const LOSS: f64 = 0.1482818864432282;
const GRADIENT: [f64; 3] = [-0.10444943715604288, 0.05341189039383215, 0.09448121579681523];

/// Loss, and error of its gradient relative to the reference, at masses `[1.05, 0.95, 1.0]`.
fn workload(tableau: Tableau, tolerance: f64) -> (f64, f64) {
    let field = ThreeBody::field([1.05, 0.95, 1.0]).unwrap();
    let masses = field.theta().clone();
    let tolerance = Tolerance { rtol: tolerance, atol: tolerance };
    let ode = Ode::new(Solver::adaptive(tableau, tolerance), field, vec![masses.clone()]).unwrap();
    let y0 = Tensor::new(&ThreeBody::Y0, &Device::Cpu).unwrap();
    let times = SaveAt::Times((0..1000).map(|i| f64::from(i) / 999.0).collect());
    let sol = ode.solve(&y0, (0.0, 1.0), &times).unwrap();
    let loss = sol.ys.narrow(1, 0, 9).unwrap().sqr().unwrap().mean_all().unwrap();
    let gradient = loss.backward().unwrap().get(&masses).unwrap().to_vec1::<f64>().unwrap();
    let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    let off: Vec<f64> = gradient.iter().zip(GRADIENT).map(|(a, b)| a - b).collect();
    (loss.to_scalar().unwrap(), norm(&off) / norm(&GRADIENT))
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

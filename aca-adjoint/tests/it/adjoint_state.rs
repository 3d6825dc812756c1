//! The adjoint state along the trajectory.

use aca_adjoint::{Gradient, Ode};
use aca_core::{Error, Time};
use aca_dense::SaveAt;
use aca_tableau::{CASH_KARP, DOPRI5};
use candle_core::{Device, Tensor};

use crate::common::adaptive;

/// y' = -k y with L = y(t1)^2 + y(0.6): the forward solution and dL/dy(t) in closed form.
const K: f64 = 0.8;

fn closed(t: f64) -> (f64, f64) {
    let y = |t: f64| 1.5 * (-K * t).exp();
    let end = 2.0 * y(1.3) * (-K * (1.3 - t)).exp();
    let middle = if t <= 0.6 { (-K * (0.6 - t)).exp() } else { 0.0 };
    (end + middle, -K * y(t) * (end + middle))
}

fn tape(gradient: Gradient) -> (aca_adjoint::Tape, Tensor) {
    let decay = |_t: &Time, y: &Tensor| y.affine(-K, 0.0);
    let ode = Ode::new(adaptive(&DOPRI5, 1e-9), decay, vec![]).unwrap().gradient(gradient);
    let y0 = Tensor::new(&[1.5f64], &Device::Cpu).unwrap();
    let (sol, tape) = ode.forward(&y0, (0.0, 1.3), &SaveAt::Times(vec![0.6, 1.3])).unwrap();
    let y1 = sol.y1.to_vec1::<f64>().unwrap()[0];
    (tape, Tensor::new(&[[1.0], [2.0 * y1]], &Device::Cpu).unwrap())
}

#[test]
fn adjoint_state_is_the_closed_form_at_any_time() {
    let ts = [1.3, 0.0, 0.2, 0.6, 0.61, 1.0];
    for gradient in [Gradient::Aca, Gradient::AcaBudget { checkpoints: 2 }] {
        let (tape, cotangents) = tape(gradient);
        let found = tape.adjoint_state(&cotangents, &ts).unwrap();
        let a = found.a.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        for (m, &t) in ts.iter().enumerate() {
            let (exact, slope) = closed(t);
            assert!((a[m] - exact).abs() < 1e-7, "a({t}) = {}, closed form {exact}", a[m]);
            let ours = found.dl_dt[m];
            assert!((ours - slope).abs() < 1e-7, "dL/dt({t}) = {ours}, closed form {slope}");
        }
    }
}

#[test]
fn adjoint_state_at_the_start_is_the_gradient() {
    let (tape, cotangents) = tape(Gradient::Aca);
    let gradient = tape.pullback(&cotangents).unwrap().y0.to_vec1::<f64>().unwrap();
    let a = tape.adjoint_state(&cotangents, &[0.0]).unwrap().a;
    assert_eq!(a.flatten_all().unwrap().to_vec1::<f64>().unwrap(), gradient);
}

#[test]
fn adjoint_state_after_the_last_output_is_zero() {
    let decay = |_t: &Time, y: &Tensor| y.neg();
    let ode = Ode::new(adaptive(&CASH_KARP, 1e-9), decay, vec![]).unwrap();
    let y0 = Tensor::new(&[1.0f64], &Device::Cpu).unwrap();
    let (_, tape) = ode.forward(&y0, (0.0, 2.0), &SaveAt::Times(vec![0.1])).unwrap();
    let g = Tensor::new(&[[1.0f64]], &Device::Cpu).unwrap();
    let found = tape.adjoint_state(&g, &[1.9, 0.05]).unwrap();
    let a = found.a.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    assert_eq!((a[0], found.dl_dt[0]), (0.0, 0.0));
    assert!((a[1] - (-0.05f64).exp()).abs() < 1e-7, "{}", a[1]);
}

#[test]
fn times_outside_and_other_strategies_are_refused() {
    let (aca, cotangents) = tape(Gradient::Aca);
    assert!(matches!(aca.adjoint_state(&cotangents, &[1.4]), Err(Error::TimeOutsideSpan { .. })));
    assert!(matches!(
        aca.adjoint_state(&cotangents, &[f64::NAN]),
        Err(Error::TimeNotFinite { .. })
    ));
    let error = tape(Gradient::Naive).0.adjoint_state(&cotangents, &[0.5]).unwrap_err();
    assert_eq!(error.to_string(), "this gradient strategy cannot do the adjoint state; use Aca");
}

#[test]
fn adjoint_state_sees_an_output_at_the_start_alone() {
    let decay = |_t: &Time, y: &Tensor| y.neg();
    let ode = Ode::new(adaptive(&DOPRI5, 1e-9), decay, vec![]).unwrap();
    let y0 = Tensor::new(&[2.0f64], &Device::Cpu).unwrap();
    let (sol, tape) = ode.forward(&y0, (0.0, 1.0), &SaveAt::Times(vec![0.0])).unwrap();
    let found = tape.adjoint_state(&sol.ys.ones_like().unwrap(), &[0.0]).unwrap();
    assert_eq!(
        (found.a.flatten_all().unwrap().to_vec1::<f64>().unwrap(), found.dl_dt),
        (vec![1.0], vec![-2.0])
    );
    assert!(matches!(tape.adjoint_state(&sol.ys, &[]), Err(Error::NoTimes)));
}

//! Trust in gradients over several pieces.

use aca_adjoint::{GradientError, Ode, Untrusted};
use aca_core::{Solver, Time, Tolerance};
use aca_dense::{Event, Events, SaveAt};
use aca_tableau::DOPRI5;
use candle_core::{Device, Result, Tensor, Var};

fn lorenz(_t: &Time, y: &Tensor) -> Result<Tensor> {
    let (x, v, z) = (y.narrow(0, 0, 1)?, y.narrow(0, 1, 1)?, y.narrow(0, 2, 1)?);
    let parts = [
        ((&v - &x)? * 10.0)?,
        ((&x * z.affine(-1.0, 28.0)?)? - &v)?,
        ((&x * &v)? - (&z * (8.0 / 3.0))?)?,
    ];
    Tensor::cat(&parts, 0)
}

fn ode(tolerance: f64) -> Ode {
    let solver = Solver::adaptive(DOPRI5, Tolerance { rtol: tolerance, atol: tolerance });
    Ode::new(solver, lorenz, vec![]).unwrap()
}

/// Events that change nothing, at given times and at times that move, and none that changes.
fn idle() -> [Events; 3] {
    let given = Event::at_times((1..20).map(|i| 0.5 * f64::from(i)).collect());
    let same = |_t: &Time, y: &Tensor| Ok(y.clone());
    [
        given.jump(same).into(),
        Event::component(0, 0.0).jump(same).into(),
        Event::component(0, 0.0).record().into(),
    ]
}

#[test]
fn a_chaotic_gradient_is_refused_however_many_pieces_it_has() {
    let y0 = Var::new(&[1.0f64, 1.0, 20.0], &Device::Cpu).unwrap();
    for events in idle() {
        let solve = |ode: Ode| ode.solve_events(&y0, (0.0, 10.0), &SaveAt::End, &events).unwrap();
        let error = solve(ode(1e-4)).y1.sum_all().unwrap().backward().err().unwrap().to_string();
        assert!(error.contains("the gradient cannot be trusted"), "{error}");
        let flagged = solve(ode(1e-4).untrusted(Untrusted::Flag));
        flagged.y1.sum_all().unwrap().backward().unwrap();
        let doubt = flagged.report().unwrap().doubt.unwrap();
        assert!(matches!(*doubt, GradientError::UntrustedGradient { .. }), "{doubt}");
    }
}

#[test]
fn outputs_weigh_in_a_loss_what_they_weigh_without_events() {
    let y0 = Var::new(&[1.0f64, 1.0, 20.0], &Device::Cpu).unwrap();
    let times = SaveAt::Times(vec![0.5, 3.3, 7.0]);
    let plain = ode(1e-9).solve(&y0, (0.0, 8.0), &times).unwrap();
    plain.ys.sum_all().unwrap().backward().unwrap();
    let expected = plain.report().unwrap();
    for events in idle() {
        let sol = ode(1e-9).solve_events(&y0, (0.0, 8.0), &times, &events).unwrap();
        sol.ys.sum_all().unwrap().backward().unwrap();
        let report = sol.report().unwrap();
        let ratio = report.loss_weight / expected.loss_weight;
        assert!((ratio - 1.0).abs() < 0.02, "{ratio}");
        assert!(report.doubt.is_none());
    }
}

//! Methods that switch between an explicit and an implicit one.

use aca_core::{
    Batching, Error, Method, Result, Solver, Step, StepSink, Switching, Time, Tolerance,
};
use aca_tableau::{DOPRI5, KVAERNO3, KVAERNO5, RK4, TRAPEZOID, TSIT5};
use candle_core::{Device, Tensor};

use crate::common::{adaptive, distance, state, values};

/// The ends of accepted steps, and the number of the method that made each.
#[derive(Default)]
struct Schemes(Vec<(f64, usize)>);

impl StepSink for Schemes {
    fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
        self.0.push((step.t1, step.scheme()));
        Ok(())
    }
}

/// `y' = -rate(t) (y - cos t) - sin t`, stiff between 2 and 6 alone; its solution from 1 is cos t.
fn stiff_for_a_while(t: &Time, y: &Tensor) -> candle_core::Result<Tensor> {
    let rate = if (2.0..6.0).contains(&t.value()) { 1e5 } else { 1.0 };
    y.affine(-rate, rate * t.value().cos() - t.value().sin())
}

#[test]
fn a_solve_goes_implicit_where_its_problem_is_stiff_and_back_where_it_is_not() {
    let solver = Solver { jump_ts: vec![2.0, 6.0], ..adaptive(Method::auto(), 1e-6) };
    let solver = Solver {
        method: Switching { implicit: aca_tableau::ESDIRK4, ..Switching::default() }.into(),
        ..solver
    };
    for (span, y0) in [((0.0, 9.0), 1.0), ((1.0, 5.0), 1f64.cos())] {
        let mut schemes = Schemes::default();
        let end = solver.solve(&stiff_for_a_while, &state(&[y0]), span, &mut schemes).unwrap();
        assert!(distance(&end.y1, &[f64::cos(span.1)]) < 1e-5, "{}", end.y1);
        let implicit = schemes.0.iter().filter(|(_, scheme)| *scheme == 1);
        assert!(implicit.clone().all(|(t, _)| (2.0..=7.5).contains(t)), "{:?}", schemes.0);
        assert_eq!(implicit.count(), end.stats.implicit);
        assert!(end.stats.implicit > 10 && end.stats.accepted < 300, "{:?}", end.stats);
        if span.1 == 9.0 {
            assert_eq!(schemes.0.last().unwrap().1, 0, "explicit again at the end");
        }
    }
}

#[test]
fn a_problem_that_is_not_stiff_is_solved_by_the_explicit_method_alone() {
    let field =
        |_: &Time, y: &Tensor| Tensor::cat(&[y.narrow(0, 1, 1)?, y.narrow(0, 0, 1)?.neg()?], 0);
    let y0 = state(&[1.0f64, 0.0]);
    let solve =
        |method: Method| adaptive(method, 1e-8).solve(&field, &y0, (0.0, 20.0), &mut ()).unwrap();
    let (auto, explicit) = (solve(Method::auto()), solve(DOPRI5.into()));
    assert_eq!(values(&auto.y1), values(&explicit.y1));
    assert_eq!(auto.stats, explicit.stats);
}

#[test]
fn stiff_problems_take_few_steps_to_their_tolerance_in_both_directions() {
    let field = |t: &Time, y: &Tensor| y.affine(-1e6, 1e6 * t.value().cos() - t.value().sin());
    for tolerance in [1e-4, 1e-6, 1e-8] {
        let solver = adaptive(Method::auto(), tolerance);
        let end = solver.solve(&field, &state(&[1.0f64]), (0.0, 10.0), &mut ()).unwrap();
        assert!(distance(&end.y1, &[10f64.cos()]) < tolerance, "{}", end.y1);
        assert!(end.stats.accepted < 120 && end.stats.implicit > 3, "{:?}", end.stats);
        let back = |t: &Time, y: &Tensor| field(&Time::new(-t.value()), y)?.neg();
        let end = solver.solve(&back, &state(&[1.0f64]), (0.0, -10.0), &mut ()).unwrap();
        assert!(distance(&end.y1, &[10f64.cos()]) < tolerance, "{}", end.y1);
        assert!(end.stats.accepted < 120, "{:?}", end.stats);
    }
}

#[test]
fn what_cannot_switch_is_refused_by_name() {
    let y0 = Tensor::new(&[[1.0f64], [2.0]], &Device::Cpu).unwrap();
    let decay = |_: &Time, y: &Tensor| y.neg();
    let refuse =
        |solver: &Solver| solver.solve(&decay, &y0, (0.0, 1.0), &mut ()).map(|_| ()).unwrap_err();
    let auto = adaptive(Method::auto(), 1e-6);
    let error = refuse(&Solver { batching: Batching::PerSample, ..auto.clone() });
    assert!(matches!(error, Error::PerSampleUnsupported { .. }), "{error}");
    let error = refuse(&Solver { trace: true, ..auto.clone() });
    assert!(matches!(error, Error::TracedImplicit { .. }), "{error}");
    let error = refuse(&Solver::fixed(Method::auto(), 0.1));
    assert!(matches!(error, Error::SwitchingUncontrolled), "{error}");
    let error = auto.replay(&decay, &y0, &[0.0, 0.5, 1.0], &mut ()).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::SwitchingUncontrolled), "{error}");
    for (pair, role, name) in [
        (Switching { explicit: KVAERNO3, ..Switching::default() }, "explicit", "kvaerno3"),
        (Switching { explicit: RK4, ..Switching::default() }, "explicit", "rk4"),
        (Switching { implicit: TRAPEZOID, ..Switching::default() }, "implicit", "trapezoid"),
        (Switching { implicit: TSIT5, ..Switching::default() }, "implicit", "tsit5"),
    ] {
        let tolerance = Tolerance { rtol: 1e-6, atol: 1e-6 };
        match refuse(&Solver::adaptive(pair, tolerance)) {
            Error::SwitchingPair { role: found, method } => {
                assert_eq!((found, &method[..]), (role, name));
            }
            error => assert!(matches!(error, Error::NoErrorEstimate { .. }), "{error}"),
        }
    }
    assert_eq!(Method::by_name("auto").unwrap().name(), "auto");
    assert!(Method::from(&KVAERNO5).is_implicit() && Method::auto().is_implicit());
}

#[test]
fn explicit_steps_that_only_seem_accurate_do_not_hide_that_a_problem_is_stiff() {
    // At tight tolerances Robertson's explicit steps end at half to four fifths of the stability interval, unrejected.
    let robertson = |_t: &Time, y: &Tensor| -> candle_core::Result<Tensor> {
        let [a, b, c] = [y.narrow(0, 0, 1)?, y.narrow(0, 1, 1)?, y.narrow(0, 2, 1)?];
        let (slow, fast) = ((a * 0.04)?, (b.sqr()? * 3e7)?);
        let back = ((b * c)? * 1e4)?;
        Tensor::cat(&[(&back - &slow)?, ((slow - back)? - &fast)?, fast], 0)
    };
    let y0 = Tensor::new(&[1.0f64, 0.0, 0.0], &Device::Cpu).unwrap();
    let solver = |method: Method| Solver {
        max_steps: 100_000,
        ..Solver::adaptive(method, Tolerance { rtol: 1e-9, atol: 1e-15 })
    };
    let steps = |method: Method| {
        let end = solver(method).solve(&robertson, &y0, (0.0, 1e5), &mut ()).unwrap();
        (end.stats.accepted, end.y1.to_vec1::<f64>().unwrap())
    };
    let (auto, found) = steps(Method::auto());
    let (implicit, expected) = steps(KVAERNO5.into());
    assert!(auto < implicit + 500, "{auto} steps beside {implicit}");
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-6 * expected.abs(), "{found} for {expected}");
    }
}

#[test]
fn a_trial_that_does_not_pay_is_rarely_repeated() {
    // Steps near the stability limit for the sake of accuracy: an oscillation at a loose tolerance.
    let turn =
        |_t: &Time, y: &Tensor| Tensor::cat(&[y.narrow(0, 1, 1)?, y.narrow(0, 0, 1)?.neg()?], 0);
    let y0 = Tensor::new(&[1.0f64, 0.0], &Device::Cpu).unwrap();
    let loose = Tolerance { rtol: 1e-2, atol: 1e-2 };
    let solver = Solver { max_steps: 100_000, ..Solver::adaptive(Method::auto(), loose) };
    let stats = solver.solve(&turn, &y0, (0.0, 6000.0), &mut ()).unwrap().stats;
    assert!(10 * stats.implicit < stats.accepted, "{stats:?}");
}

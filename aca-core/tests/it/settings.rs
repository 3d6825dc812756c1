use aca_core::{Error, Pid, Result, SolveEnd, Solver, Tolerance};
use aca_tableau::{DOPRI5, HEUN_EULER, RK4, Tableau, TableauDraft, by_name};

use crate::common::{assert_refused, decay, dopri5, state};

fn solve(solver: &Solver) -> Result<SolveEnd> {
    solver.solve(&decay, &state(&[1.0]), (0.0, 1.0), &mut ())
}

fn is_setting(e: &Error) -> bool {
    matches!(e, Error::InvalidSetting { .. })
}

fn assert_controller_refused(spoil: impl Fn(&mut Pid), text: &str) {
    let mut solver = dopri5(1e-6);
    spoil(&mut solver.controller);
    assert_refused(solve(&solver), is_setting, text);
}

#[test]
fn adaptive_run_without_error_estimate_is_refused() {
    let solver = Solver::adaptive(RK4, Tolerance { rtol: 1e-3, atol: 1e-3 });
    let text = "rk4 has no embedded error estimate, so it cannot adapt its step; use Solver::fixed";
    assert_refused(solve(&solver), |e| matches!(e, Error::NoErrorEstimate { .. }), text);
}

#[test]
fn missing_fixed_step_is_refused() {
    let solver = Solver::for_method(RK4, Tolerance { rtol: 1e-3, atol: 1e-3 }, None);
    let text = "rk4 has no embedded error estimate, so it needs a fixed step; give h";
    assert_refused(solver, |e| matches!(e, Error::FixedStepMissing { .. }), text);
}

#[test]
fn fixed_steps_that_are_not_positive_are_refused() {
    for (h, text) in [
        (0.0, "fixed step = 0 is not allowed; it must be positive and finite"),
        (-0.1, "fixed step = -0.1 is not allowed; it must be positive and finite"),
        (f64::NAN, "fixed step = NaN is not allowed; it must be positive and finite"),
        (f64::INFINITY, "fixed step = inf is not allowed; it must be positive and finite"),
    ] {
        assert_refused(solve(&Solver::fixed(RK4, h)), is_setting, text);
    }
}

#[test]
fn no_fixed_steps_at_all_are_refused() {
    let text = "fixed step count = 0 is not allowed; it must be at least 1";
    assert_refused(solve(&Solver::fixed_count(RK4, 0)), is_setting, text);
}

#[test]
fn bad_settings_are_refused_even_on_a_span_without_length() {
    let end = Solver::fixed(RK4, f64::NAN).solve(&decay, &state(&[1.0]), (1.0, 1.0), &mut ());
    let text = "fixed step = NaN is not allowed; it must be positive and finite";
    assert_refused(end, is_setting, text);
}

#[test]
fn first_step_that_is_not_positive_is_refused() {
    for (h, text) in [
        (0.0, "first_step = 0 is not allowed; it must be positive and finite"),
        (f64::NAN, "first_step = NaN is not allowed; it must be positive and finite"),
    ] {
        let solver = Solver { first_step: Some(h), ..dopri5(1e-6) };
        assert_refused(solve(&solver), is_setting, text);
    }
}

#[test]
fn bad_smallest_steps_are_refused() {
    for (h_min, text) in [
        (-1.0, "h_min = -1 is not allowed; it must be at least 0 and finite"),
        (f64::NAN, "h_min = NaN is not allowed; it must be at least 0 and finite"),
        (f64::INFINITY, "h_min = inf is not allowed; it must be at least 0 and finite"),
    ] {
        assert_refused(solve(&Solver { h_min, ..dopri5(1e-6) }), is_setting, text);
    }
}

#[test]
fn largest_step_below_the_smallest_is_refused() {
    let solver = Solver { h_min: 0.1, h_max: 0.05, ..dopri5(1e-6) };
    assert_refused(
        solve(&solver),
        is_setting,
        "h_max = 0.05 is not allowed; it must be above h_min",
    );
}

#[test]
fn undefined_largest_step_is_refused() {
    let solver = Solver { h_max: f64::NAN, ..dopri5(1e-6) };
    assert_refused(
        solve(&solver),
        is_setting,
        "h_max = NaN is not allowed; it must be above h_min",
    );
}

#[test]
fn bad_safety_is_refused() {
    let text = "controller.safety = 1.5 is not allowed; it must be in (0, 1]";
    assert_controller_refused(|pid| pid.safety = 1.5, text);
    let text = "controller.safety = NaN is not allowed; it must be in (0, 1]";
    assert_controller_refused(|pid| pid.safety = f64::NAN, text);
}

#[test]
fn bad_factors_are_refused() {
    let text = "controller.factor_min = 1 is not allowed; it must be in (0, 1)";
    assert_controller_refused(|pid| pid.factor_min = 1.0, text);
    let text = "controller.factor_max = 1 is not allowed; it must be above 1 and finite";
    assert_controller_refused(|pid| pid.factor_max = 1.0, text);
    let text = "controller.factor_max = inf is not allowed; it must be above 1 and finite";
    assert_controller_refused(|pid| pid.factor_max = f64::INFINITY, text);
}

#[test]
fn controller_without_positive_gain_is_refused() {
    let text = "controller.i = -1 is not allowed; it must be finite, with p + i + d positive";
    assert_controller_refused(|pid| pid.i = -1.0, text);
    let text = "controller.p = NaN is not allowed; it must be finite, with p + i + d positive";
    assert_controller_refused(|pid| pid.p = f64::NAN, text);
    let text = "controller.d = inf is not allowed; it must be finite, with p + i + d positive";
    assert_controller_refused(|pid| pid.d = f64::INFINITY, text);
}

#[test]
fn infinite_integral_gain_is_refused() {
    let text = "controller.i = inf is not allowed; it must be finite, with p + i + d positive";
    assert_controller_refused(|pid| pid.i = f64::INFINITY, text);
}

#[test]
fn safety_below_the_smallest_factor_does_not_panic() {
    let controller = Pid { safety: 0.1, ..Pid::I };
    let solver = Solver { controller, first_step: Some(1.0), ..dopri5(1e-9) };
    let end = solve(&solver);
    let good = matches!(&end, Ok(_) | Err(Error::InvalidSetting { .. }));
    assert!(good, "either a solution or a refusal: {end:?}");
}

#[test]
fn unknown_method_names_its_neighbours() {
    let tableau = by_name("dopri6").map_err(Error::from);
    let text = "unknown method \"dopri6\"; nearest: dopri5, dop853, bosh3";
    assert_refused(tableau, |e| matches!(e, Error::Tableau(_)), text);
}

#[test]
fn node_after_the_end_of_the_step_is_refused() {
    let beyond = Tableau::new(TableauDraft {
        name: "beyond".into(),
        order: 2,
        a: vec![vec![], vec![2.0]],
        b: vec![0.75, 0.25],
        c: vec![0.0, 2.0],
        ..TableauDraft::default()
    });
    let text = "node c = 2 of beyond lies outside [0, 1], so the field would be evaluated \
                outside the step: beyond the span, or on the other side of a jump; use another method";
    let end = solve(&Solver::fixed(beyond.unwrap(), 0.1));
    assert_refused(end, |e| matches!(e, Error::NodeOutsideStep { .. }), text);
}

#[test]
fn node_before_the_start_of_the_step_is_refused() {
    let early = Tableau::new(TableauDraft {
        name: "early".into(),
        order: 1,
        a: vec![vec![], vec![-0.5]],
        b: vec![0.5, 0.5],
        c: vec![0.0, -0.5],
        ..TableauDraft::default()
    });
    let text = "node c = -0.5 of early lies outside [0, 1], so the field would be evaluated \
                outside the step: beyond the span, or on the other side of a jump; use another method";
    let end = solve(&Solver::fixed(early.unwrap(), 0.1));
    assert_refused(end, |e| matches!(e, Error::NodeOutsideStep { .. }), text);
}

#[test]
fn node_of_the_interpolant_outside_the_step_is_refused() {
    let mut draft = DOPRI5.to_draft();
    draft.name = "peeking".into();
    let interpolant = draft.interpolant.as_mut().unwrap();
    let mut row = vec![0.0; 7];
    row[0] = 1.5;
    (interpolant.a, interpolant.c) = (vec![row], vec![1.5]);
    interpolant.weights.push(vec![0.0; 4]);
    let text = "node c = 1.5 of peeking lies outside [0, 1], so the field would be evaluated \
                outside the step: beyond the span, or on the other side of a jump; use another method";
    let end = solve(&Solver::fixed(Tableau::new(draft).unwrap(), 0.1));
    assert_refused(end, |e| matches!(e, Error::NodeOutsideStep { .. }), text);
}

#[test]
fn method_with_error_estimate_takes_the_given_step_as_its_first() {
    let tolerance = Tolerance { rtol: 1e-3, atol: 1e-3 };
    let solver = Solver::for_method(HEUN_EULER, tolerance, Some(0.01)).unwrap();
    assert_eq!(solver.first_step, Some(0.01));
    assert!(matches!(solver.stepping, aca_core::Stepping::Adaptive(_)));
}

#[test]
fn method_without_error_estimate_takes_the_given_step_throughout() {
    let solver = Solver::for_method(RK4, Tolerance { rtol: 1e-3, atol: 1e-3 }, Some(0.25)).unwrap();
    assert_eq!(solve(&solver).unwrap().stats.accepted, 4);
}

#[test]
fn settings_are_checked_before_the_field_is_called() {
    let solver =
        Solver { h_min: -1.0, ..Solver::adaptive(DOPRI5, Tolerance { rtol: 1.0, atol: 1.0 }) };
    let untouched = |_t: &aca_core::Time, _y: &candle_core::Tensor| panic!("the field was called");
    let end = solver.solve(&untouched, &state(&[1.0]), (0.0, 1.0), &mut ());
    assert!(end.is_err());
}

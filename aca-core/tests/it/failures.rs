use aca_core::Method::Leapfrog as ALF;
use aca_core::{Error, Number, Result, SolveEnd, Solver, Time, VectorField};
use aca_tableau::{CASH_KARP, DOPRI5, RK4};
use candle_core::{Tensor, Var};

use crate::common::{
    Recorder, adaptive, adaptive_tableaus, assert_refused, decay, dopri5, far_sighted_tableaus,
    state, values,
};

/// `y' = -y` in three entries, the second of which is NaN after t = 0.5.
fn breaks_after_half(t: &Time, y: &Tensor) -> candle_core::Result<Tensor> {
    let broken = if t.value() > 0.5 { f64::NAN } else { -1.0 };
    y.mul(&state(&[-1.0, broken, -1.0]))
}

fn blow_up(_t: &Time, y: &Tensor) -> candle_core::Result<Tensor> {
    y.sqr()
}

fn solve_broken(solver: &Solver, span: (f64, f64)) -> Result<SolveEnd> {
    solver.solve(&breaks_after_half, &state(&[1.0; 3]), span, &mut ())
}

#[test]
fn field_that_is_nan_at_once_is_reported_where_it_starts() {
    let text = "the field is not finite at t = 2 (first at entry 1); \
                check the field there";
    let refused = |e: &Error| matches!(e, Error::NonFinite { what: "field", .. });
    assert_refused(solve_broken(&dopri5(1e-6), (2.0, 3.0)), refused, text);
    assert_refused(solve_broken(&Solver::fixed(RK4, 0.1), (2.0, 3.0)), refused, text);
}

#[test]
fn field_that_breaks_later_is_reported_where_it_breaks() {
    for tableau in far_sighted_tableaus() {
        let name = tableau.name();
        let error = solve_broken(&adaptive(tableau, 1e-4), (0.0, 1.0)).unwrap_err();
        let Error::NonFinite { what, t, h, index } = error else { panic!("{name}: {error:?}") };
        assert_eq!((what, index), ("field", 1), "{name}");
        // Steps shrink until sixteen units in the last place do not fit before 0.5.
        assert!((0.5 - t).abs() < 1e-13, "{name}: reported at {t}, it breaks at 0.5");
        assert!(h > 0.0 && h < 1e-12, "{name}: step size {h}");
    }
}

#[test]
fn field_that_breaks_at_a_steps_end_is_reported_there() {
    // The midpoint rule does not look at the end of its step: the next step finds it broken.
    let error = solve_broken(&adaptive(&ALF, 1e-4), (0.0, 1.0)).unwrap_err();
    let Error::NonFinite { what, t, index, .. } = error else { panic!("{error:?}") };
    assert_eq!((what, index), ("field", 1));
    assert!(t > 0.5 && t < 0.6, "reported at {t}, it breaks at 0.5 and steps are below 0.1");
}

#[test]
fn report_of_a_broken_field_names_time_entry_and_step() {
    let error = solve_broken(&dopri5(1e-4), (0.0, 1.0)).unwrap_err();
    let Error::NonFinite { t, h, .. } = error else { panic!("{error:?}") };
    let text = format!(
        "the field is not finite at t = {t} (first at entry 1, step size {h:.3e}); \
         check the field there"
    );
    assert_eq!(error.to_string(), text);
}

#[test]
fn fixed_steps_stop_where_the_state_breaks() {
    let text = "the state is not finite at t = 0.5 (first at entry 1, step size 2.500e-1); \
                check the field there";
    let refused = |e: &Error| matches!(e, Error::NonFinite { what: "state", .. });
    assert_refused(solve_broken(&Solver::fixed(RK4, 0.25), (0.0, 1.0)), refused, text);
}

#[test]
fn steps_before_the_failure_stay_in_the_sink() {
    let mut steps = Recorder::default();
    let solver = Solver::fixed(RK4, 0.25);
    let end = solver.solve(&breaks_after_half, &state(&[1.0; 3]), (0.0, 1.0), &mut steps);
    assert!(end.is_err());
    assert_eq!(steps.grid(), [0.0, 0.25, 0.5]);
}

#[test]
fn passing_trouble_costs_rejections_only() {
    // NaN wherever the state overshoots below zero, which good steps of a decay never do.
    let root = |_t: &Time, y: &Tensor| y.sqrt()?.affine(-20.0, 0.0);
    let solver = Solver { first_step: Some(1.0), ..dopri5(1e-6) };
    let end = solver.solve(&root, &state(&[4.0]), (0.0, 0.15), &mut ()).unwrap();
    let expected = (2.0f64 - 10.0 * 0.15).powi(2);
    let error = crate::common::distance(&end.y1, &[expected]);
    assert!(end.stats.rejected > 0, "a first step of 0.15 evaluates the root of a negative state");
    assert!(error < 1e-5, "error {error}, ten times the tolerance is 1e-5");
}

#[test]
fn step_size_underflows_before_a_pole() {
    for tableau in adaptive_tableaus().filter(|tableau| tableau.order() >= 3) {
        let name = tableau.name();
        let end = adaptive(tableau, 1e-4).solve(&blow_up, &state(&[1.0]), (0.0, 2.0), &mut ());
        let error = end.unwrap_err();
        let Error::StepSizeUnderflow { h, h_min, t, method } = &error else {
            panic!("{name}: {error:?}")
        };
        assert_eq!(method, name);
        assert!(h < h_min, "{name}: {h} is not below {h_min}");
        // 1 / (1 - t) is followed to a relative 1e-4 a step, and so is the pole's place.
        assert!((t - 1.0).abs() < 1e-2, "{name}: stopped at {t}, the pole is at 1");
        let text = format!(
            "step size {h:.3e} fell below {h_min:.3e} at t = {t}; the problem may be singular \
             there, or stiff for {name}"
        );
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn smallest_step_of_the_settings_counts_as_underflow() {
    let solver = Solver { h_min: 1e-3, ..dopri5(1e-6) };
    let end = solver.solve(&blow_up, &state(&[1.0]), (0.0, 2.0), &mut ());
    let error = end.unwrap_err();
    let Error::StepSizeUnderflow { h, h_min, t, .. } = error else { panic!("{error:?}") };
    assert!(h < 1e-3 && h_min == 1e-3, "step size {h}, limit {h_min}");
    assert!(t > 0.9 && t < 1.0, "stopped at {t}, steps of 1e-3 are needed shortly before 1");
}

#[test]
fn spent_budget_of_an_adaptive_run_is_an_error() {
    let solver = Solver { max_steps: 3, first_step: Some(0.125), h_max: 0.125, ..dopri5(1e-3) };
    let text = "reached max_steps = 3 at t = 0.375 of the span 0 to 1; raise max_steps or loosen \
                the tolerance";
    let end = solver.solve(&decay, &state(&[1.0]), (0.0, 1.0), &mut ());
    assert_refused(end, |e| matches!(e, Error::MaxSteps { .. }), text);
}

#[test]
fn budget_spent_at_the_stability_limit_is_called_stiff() {
    let fast = |_: &Time, y: &Tensor| y.affine(-1e4, 0.0);
    let solver = Solver { max_steps: 100, ..dopri5(1e-3) };
    let error = solver.solve(&fast, &state(&[1.0]), (0.0, 1e3), &mut ()).unwrap_err();
    let Error::MaxSteps { accepted, stability_limited, .. } = error else { panic!("{error:?}") };
    assert!(2 * stability_limited > accepted, "{stability_limited} of {accepted} at the limit");
    let text = format!(
        "; {stability_limited} of {accepted} accepted steps were at the stability limit, so the problem is stiff and a \
         looser tolerance does not help; shorten the span, or take Method::auto() or an implicit method such as KVAERNO5"
    );
    assert!(error.to_string().ends_with(&text), "{error}");
}

#[test]
fn numbers_of_messages_have_their_significant_digits_alone() {
    for (number, text) in [
        (1e300, "1e300"),
        (1e-10, "1e-10"),
        (0.371, "0.371"),
        (-2.5, "-2.5"),
        (100_000.0, "100000"),
        (0.015625, "0.015625"),
        (0.0, "0"),
        (f64::INFINITY, "inf"),
    ] {
        assert_eq!(Number(number).to_string(), text);
    }
}

#[test]
fn budget_that_just_suffices_is_enough() {
    let solver = Solver { max_steps: 8, first_step: Some(0.125), h_max: 0.125, ..dopri5(1e-3) };
    let end = solver.solve(&decay, &state(&[1.0]), (0.0, 1.0), &mut ()).unwrap();
    assert_eq!((end.stats.accepted, end.stats.rejected), (8, 0));
}

#[test]
fn rejected_steps_spend_the_budget() {
    let solver = Solver { max_steps: 2, first_step: Some(1.0), ..adaptive(&CASH_KARP, 1e-12) };
    let end = solver.solve(&decay, &state(&[1.0]), (0.0, 1.0), &mut ());
    let text = "reached max_steps = 2 at t = 0 of the span 0 to 1; raise max_steps or loosen \
                the tolerance";
    assert_refused(end, |e| matches!(e, Error::MaxSteps { .. }), text);
}

#[test]
fn fixed_steps_beyond_the_budget_are_refused_at_the_start() {
    let refused = |e: &Error| matches!(e, Error::TooManyFixedSteps { .. });
    for (solver, steps) in
        [(Solver::fixed(DOPRI5, 1e-9), "1e9"), (Solver::fixed_count(DOPRI5, 10_001), "10001")]
    {
        let text = format!(
            "the span 0 to 1 takes {steps} fixed steps, but max_steps = 10000; take larger steps or \
             raise max_steps"
        );
        assert_refused(solver.solve(&decay, &state(&[1.0]), (0.0, 1.0), &mut ()), refused, &text);
    }
}

#[test]
fn solution_at_rest_is_solved_at_any_time() {
    // Unix time in seconds: units in the last place are 2.4e-7 there.
    let (start, end) = (1.7e9, 1.7e9 + 100.0);
    let end = dopri5(1e-6).solve(&decay, &state(&[0.0]), (start, end), &mut ());
    assert!(end.is_ok(), "{end:?}");
}

/// A field that counts its evaluations as a running statistic, and fails at the last that it allows.
struct Tiring {
    evaluations: Var,
    last: f64,
}

impl VectorField for Tiring {
    fn eval(&self, _t: &Time, y: &Tensor) -> candle_core::Result<Tensor> {
        self.evaluations.set(&self.evaluations.affine(1.0, 1.0)?)?;
        match values(&self.evaluations)[0] < self.last {
            true => y.neg(),
            false => candle_core::bail!("the field is tired"),
        }
    }

    fn running_statistics(&self) -> Vec<Var> {
        vec![self.evaluations.clone()]
    }
}

#[test]
fn statistics_of_a_step_that_the_field_breaks_off_are_taken_back() {
    let field = Tiring { evaluations: Var::from_tensor(&state(&[0.0])).unwrap(), last: 7.0 };
    let end = Solver::fixed(RK4, 0.1).solve(&field, &state(&[1.0]), (0.0, 1.0), &mut ());
    assert!(end.unwrap_err().to_string().contains("the field is tired"));
    // Four of the first step, and the slope where the second begins.
    assert_eq!(values(&field.evaluations), [5.0]);
}

#[test]
fn a_main_that_returns_an_error_prints_its_message() {
    let error = aca_core::Error::other(aca_core::Error::NoTimes);
    assert_eq!(format!("{error:?}"), "the list of times is empty; give at least one");
    assert!(error.find::<aca_core::Error>().is_some());
}

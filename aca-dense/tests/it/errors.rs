use aca_core::{Error, Result, Solver, Stepper, Time};
use aca_dense::{
    DenseError, DenseOutput, SaveAt, Solution, interpolate, interpolate_derivative, solve,
};
use aca_tableau::{DOP853, MIDPOINT, RK4};
use candle_core::Tensor;

use crate::common::{assert_refused, decay, dopri5, state};

fn save(times: &[f64], span: (f64, f64)) -> Result<Solution> {
    let save_at = SaveAt::Times(times.to_vec());
    solve(&dopri5(1e-6), &decay, &state(&[1.0]), span, &save_at)
}

fn dense(span: (f64, f64)) -> DenseOutput {
    let solution = solve(&dopri5(1e-6), &decay, &state(&[1.0]), span, &SaveAt::Dense).unwrap();
    solution.dense().unwrap().clone()
}

#[test]
fn times_out_of_order_are_refused() {
    let text = "time 2 is 0.2 and comes after 0.5, against the direction of the span 0 to 1; \
                sort the times in the direction of the span, or exchange its ends";
    let refused = |e: &Error| matches!(e, Error::TimesOutOfOrder { index: 2, .. });
    assert_refused(save(&[0.1, 0.5, 0.2], (0.0, 1.0)), refused, text);
}

#[test]
fn rising_times_are_out_of_order_backward() {
    let text = "time 1 is 0.5 and comes after 0.25, against the direction of the span 1 to 0; \
                sort the times in the direction of the span, or exchange its ends";
    let refused = |e: &Error| matches!(e, Error::TimesOutOfOrder { index: 1, .. });
    assert_refused(save(&[0.25, 0.5], (1.0, 0.0)), refused, text);
}

#[test]
fn times_outside_the_span_are_refused() {
    let refused = |e: &Error| matches!(e, Error::TimeOutsideSpan { .. });
    let remedy = "widen the span, or continue a dense output by DenseOutput::extrapolating";
    let text = &format!("time 1.5 lies outside the span 0 to 1; {remedy}");
    assert_refused(save(&[0.5, 1.5], (0.0, 1.0)), refused, text);
    let text = &format!("time -0.5 lies outside the span 1 to 0; {remedy}");
    assert_refused(save(&[0.5, -0.5], (1.0, 0.0)), refused, text);
    let text = &format!("time 0.25 lies outside the span 0.5 to 0.5; {remedy}");
    assert_refused(save(&[0.25], (0.5, 0.5)), refused, text);
}

#[test]
fn repeated_times_are_refused() {
    let refused = |e: &Error| matches!(e, Error::TimeDuplicated { .. });
    let text = "time 1 repeats 0.5; give each time once";
    assert_refused(save(&[0.5, 0.5], (0.0, 1.0)), refused, text);
    assert_refused(save(&[0.5, 0.5], (1.0, 0.0)), refused, text);
}

#[test]
fn undefined_times_are_refused() {
    let refused = |e: &Error| matches!(e, Error::TimeNotFinite { .. });
    let end = save(&[0.5, f64::NAN], (0.0, 1.0));
    assert_refused(end, refused, "time 1 is NaN; times must be finite");
    let end = save(&[f64::INFINITY], (0.0, 1.0));
    assert_refused(end, refused, "time 0 is inf; times must be finite");
}

#[test]
fn empty_list_of_times_is_refused() {
    let text = "the list of times is empty; give at least one";
    assert_refused(save(&[], (0.0, 1.0)), |e| matches!(e, Error::NoTimes), text);
    assert_refused(dense((0.0, 1.0)).at_times(&[]), |e| matches!(e, Error::NoTimes), text);
}

#[test]
fn bad_times_inside_a_combination_are_refused() {
    let save_at = SaveAt::All(vec![SaveAt::End, SaveAt::Times(vec![2.0])]);
    let solution = solve(&dopri5(1e-6), &decay, &state(&[1.0]), (0.0, 1.0), &save_at);
    let text = "time 2 lies outside the span 0 to 1; widen the span, or continue a dense output by DenseOutput::extrapolating";
    assert_refused(solution, |e| matches!(e, Error::TimeOutsideSpan { .. }), text);
}

#[test]
fn undefined_span_is_refused() {
    let solution = save(&[0.5], (0.0, f64::NAN));
    let refused = |e: &Error| matches!(e, Error::InvalidSpan { .. });
    assert_refused(solution, refused, "the span 0 to NaN is not finite");
}

#[test]
fn trajectory_that_was_not_asked_for_is_missing() {
    let solution = save(&[0.5], (0.0, 1.0)).unwrap();
    let text = "the solve kept no dense output; solve with SaveAt::Dense";
    assert_refused(
        solution.dense(),
        |e| matches!(DenseError::of(e), Some(DenseError::NoDenseOutput)),
        text,
    );
}

#[test]
fn trajectory_ends_where_its_span_does() {
    let refused = |e: &Error| matches!(e, Error::TimeOutsideSpan { .. });
    for (span, t, text) in [
        ((0.0, 1.0), 1.25, "time 1.25 lies outside the span 0 to 1"),
        ((1.0, 0.0), -0.25, "time -0.25 lies outside the span 1 to 0"),
        ((0.5, 0.5), 0.75, "time 0.75 lies outside the span 0.5 to 0.5"),
    ] {
        let text = format!(
            "{text}; widen the span, or continue a dense output by DenseOutput::extrapolating"
        );
        let dense = dense(span);
        assert_refused(dense.at(t), refused, &text);
        assert_refused(dense.at_times(&[span.0, t]), refused, &text);
        assert_refused(dense.derivative(t), refused, &text);
        assert_refused(dense.place(t), refused, &text);
    }
}

#[test]
fn undefined_time_of_a_trajectory_is_refused() {
    let refused = |e: &Error| matches!(e, Error::TimeNotFinite { .. });
    let text = "time 0 is NaN; times must be finite";
    assert_refused(dense((0.0, 1.0)).at(f64::NAN), refused, text);
    assert_refused(dense((0.0, 1.0)).extrapolating().at(f64::NAN), refused, text);
}

#[test]
fn undefined_time_in_a_list_is_named_by_its_position() {
    let refused = |e: &Error| matches!(e, Error::TimeNotFinite { .. });
    let rows = dense((0.0, 1.0)).at_times(&[0.1, 0.2, f64::NAN]);
    assert_refused(rows, refused, "time 2 is NaN; times must be finite");
}

#[test]
fn slope_of_a_span_without_length_is_refused() {
    let slope = dense((0.5, 0.5)).derivative(0.5);
    let text = "the span has no length, so its solution has no derivative; evaluate the field";
    assert_refused(slope, |e| matches!(DenseError::of(e), Some(DenseError::NoSteps)), text);
}

#[test]
fn times_are_checked_before_the_field_is_called() {
    let untouched = |_t: &aca_core::Time, _y: &candle_core::Tensor| panic!("the field was called");
    let save_at = SaveAt::Times(vec![3.0]);
    let y0 = state(&[1.0]);
    assert!(solve(&Solver::fixed(RK4, 0.1), &untouched, &y0, (0.0, 1.0), &save_at).is_err());
}

#[test]
fn outputs_that_are_not_finite_are_refused() {
    // Midpoints see nothing of the singular end, but the interpolant of the last step reads the slope there.
    let falls = |t: &Time, y: &Tensor| y.affine(0.0, -0.5 / (1.0 - t.value()).sqrt());
    let save_at = SaveAt::Times(vec![0.5, 0.95, 1.0]);
    let found =
        solve(&Solver::fixed_count(MIDPOINT, 10), &falls, &state(&[1.0]), (0.0, 1.0), &save_at);
    let Err(Error::NonFinite { what: "output", t, index, .. }) = found else { panic!("{found:?}") };
    assert_eq!((t, index), (0.95, 0));
}

#[test]
fn slopes_of_a_step_that_was_not_completed_are_refused() {
    let (solver, y0) = (Solver::fixed(DOP853, 0.5), state(&[1.0]));
    let method = Stepper::new(&solver, y0.dtype()).unwrap();
    let k = vec![y0.clone(); DOP853.stages()];
    let refused = |e: &Error| matches!(e, Error::StageCount { got: 12, expected: 16, .. });
    assert!(refused(&interpolate(&method, &y0, 0.5, &k, &[0.3]).unwrap_err()));
    assert!(refused(&interpolate_derivative(&method, &k, 0.3).unwrap_err()));
    assert!(interpolate(&method, &y0, 0.5, &[], &[0.3]).is_err());
}

#[test]
fn dense_output_that_is_not_finite_is_told() {
    // The slope at the end, which only the interpolant of the last step asks for, is infinite.
    let field = |t: &Time, y: &Tensor| y.ones_like()? / (1.0 - t.value()).sqrt();
    let solver = Solver::fixed(MIDPOINT, 0.1);
    let solution = solve(&solver, &field, &state(&[0.0]), (0.0, 1.0), &SaveAt::Dense).unwrap();
    let dense = solution.dense().unwrap();
    for error in [dense.at(0.95).unwrap_err(), dense.derivative(0.95).unwrap_err()] {
        assert!(matches!(error, Error::NonFinite { t, .. } if (t - 0.95).abs() < 1e-12), "{error}");
    }
    assert!(dense.at(0.85).is_ok() && dense.at(1.0).is_ok());
}

#[test]
fn no_placements_are_refused() {
    let refused = dense((0.0, 1.0)).at_placements(&[]).unwrap_err();
    assert!(matches!(refused, Error::NoTimes), "{refused}");
}

#[test]
fn a_span_without_steps_has_nothing_to_extrapolate() {
    let dense = dense((1.0, 1.0)).extrapolating();
    assert!(dense.at(1.0).is_ok());
    let error = dense.at(5.0).unwrap_err();
    assert!(matches!(DenseError::of(&error), Some(DenseError::NoSteps)), "{error}");
}

use aca_core::{Error, Result, SolveEnd, Solver};

use crate::common::{assert_refused, decay, dopri5, state};

fn replay(grid: &[f64]) -> Result<SolveEnd> {
    dopri5(1e-6).replay(&decay, &state(&[1.0]), grid, &mut ())
}

fn solve(solver: &Solver, span: (f64, f64)) -> Result<SolveEnd> {
    solver.solve(&decay, &state(&[1.0]), span, &mut ())
}

#[test]
fn undefined_span_is_refused() {
    let refused = |e: &Error| matches!(e, Error::InvalidSpan { .. });
    let solver = dopri5(1e-6);
    assert_refused(solve(&solver, (f64::NAN, 1.0)), refused, "the span NaN to 1 is not finite");
    assert_refused(solve(&solver, (0.0, f64::NAN)), refused, "the span 0 to NaN is not finite");
}

#[test]
fn infinite_span_is_refused() {
    let refused = |e: &Error| matches!(e, Error::InvalidSpan { .. });
    let end = solve(&dopri5(1e-6), (0.0, f64::NEG_INFINITY));
    assert_refused(end, refused, "the span 0 to -inf is not finite");
}

#[test]
fn undefined_stop_is_refused() {
    let refused = |e: &Error| matches!(e, Error::TimeNotFinite { .. });
    let solver = Solver { step_ts: vec![0.5, f64::NAN], ..dopri5(1e-6) };
    assert_refused(solve(&solver, (0.0, 1.0)), refused, "time 1 is NaN; times must be finite");
}

#[test]
fn undefined_jump_is_refused() {
    let refused = |e: &Error| matches!(e, Error::TimeNotFinite { .. });
    let solver = Solver { jump_ts: vec![f64::INFINITY], ..dopri5(1e-6) };
    assert_refused(solve(&solver, (0.0, 1.0)), refused, "time 0 is inf; times must be finite");
}

#[test]
fn empty_grid_is_refused() {
    let text = "the list of times is empty; give at least one";
    assert_refused(replay(&[]), |e| matches!(e, Error::NoTimes), text);
}

#[test]
fn grid_out_of_order_is_refused() {
    let text = "time 2 is 0.25 and comes after 0.5, against the direction of the span 0 to 1; \
                sort the times in the direction of the span, or exchange its ends";
    let refused = |e: &Error| matches!(e, Error::TimesOutOfOrder { .. });
    assert_refused(replay(&[0.0, 0.5, 0.25, 1.0]), refused, text);
}

#[test]
fn backward_grid_out_of_order_is_refused() {
    let text = "time 2 is 0.75 and comes after 0.5, against the direction of the span 1 to 0; \
                sort the times in the direction of the span, or exchange its ends";
    let refused = |e: &Error| matches!(e, Error::TimesOutOfOrder { .. });
    assert_refused(replay(&[1.0, 0.5, 0.75, 0.0]), refused, text);
}

#[test]
fn repeated_time_is_refused() {
    let text = "time 2 repeats 0.5; give each time once";
    let refused = |e: &Error| matches!(e, Error::TimeDuplicated { .. });
    assert_refused(replay(&[0.0, 0.5, 0.5, 1.0]), refused, text);
}

#[test]
fn undefined_time_in_a_grid_is_refused() {
    let refused = |e: &Error| matches!(e, Error::TimeNotFinite { .. });
    assert_refused(replay(&[0.0, f64::NAN, 1.0]), refused, "time 1 is NaN; times must be finite");
}

#[test]
fn grid_that_passes_its_end_and_returns_is_refused() {
    let text = "time 1.5 lies outside the span 0 to 1; widen the span, or continue a dense output by DenseOutput::extrapolating";
    let refused = |e: &Error| matches!(e, Error::TimeOutsideSpan { .. });
    assert_refused(replay(&[0.0, 1.5, 1.0]), refused, text);
}

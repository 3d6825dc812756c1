use aca_core::{Batching, Error, Result, SolveEnd, Solver, Time, Tolerances};
use aca_tableau::DOPRI5;
use candle_core::{DType, Device, Tensor};

use crate::common::{assert_refused, decay, dopri5, state};

fn solve_with(
    field: fn(&Time, &Tensor) -> candle_core::Result<Tensor>,
    y0: &Tensor,
) -> Result<SolveEnd> {
    dopri5(1e-6).solve(&field, y0, (0.0, 1.0), &mut ())
}

fn solve_each(rtol: &[f64], atol: &[f64], y0: &Tensor) -> Result<SolveEnd> {
    let tolerances = Tolerances::Each { rtol: state(rtol), atol: state(atol) };
    Solver::adaptive(DOPRI5, tolerances).solve(&decay, y0, (0.0, 1.0), &mut ())
}

/// With RUST_BACKTRACE set candle prints the backtrace below the message.
fn assert_candle_text(error: &dyn std::error::Error, text: &str) {
    let full = error.to_string();
    assert_eq!(full.lines().next(), Some(text), "first line of {full}");
}

#[test]
fn empty_state_is_refused() {
    let empty = Tensor::zeros((0, 3), DType::F64, &Device::Cpu).unwrap();
    let refused = |e: &Error| matches!(e, Error::EmptyState { .. });
    let text = "the state of shape [0, 3] has no elements; give at least one";
    assert_refused(solve_with(decay, &empty), refused, text);
}

#[test]
fn half_precision_state_is_refused() {
    let half = Tensor::zeros(2, DType::F16, &Device::Cpu).unwrap();
    let refused = |e: &Error| matches!(e, Error::UnsupportedDType { dtype: DType::F16 });
    let text = "a state of dtype f16 is not supported; use f32 or f64";
    assert_refused(solve_with(decay, &half), refused, text);
}

#[test]
fn field_of_another_shape_is_refused() {
    let refused = |e: &Error| matches!(e, Error::FieldShape { .. });
    let text =
        "the field returned shape [1, 2] for a state of shape [2]; a slope has the state's shape";
    assert_refused(solve_with(|_, y| y.unsqueeze(0), &state(&[1.0, 2.0])), refused, text);
}

#[test]
fn state_that_an_operation_does_not_take_is_named() {
    let product: fn(&Time, &Tensor) -> _ =
        |_, y| y.matmul(&Tensor::ones((3, 3), DType::F64, &Device::Cpu)?);
    let sum: fn(&Time, &Tensor) -> _ = |_, y| y + Tensor::ones((4, 2), DType::F64, &Device::Cpu)?;
    let batch = Tensor::ones((4, 2), DType::F64, &Device::Cpu).unwrap();
    for (field, y0, text) in [
        (
            product,
            state(&[1.0; 3]),
            "a state of shape [3] and dtype f64; layers of candle take states of shape [batch, n]: \
             shape mismatch in matmul, lhs: [3], rhs: [3, 3]",
        ),
        (
            product,
            batch.clone(),
            "a state of shape [4, 2] and dtype f64; change its operations or the state: \
             shape mismatch in matmul, lhs: [4, 2], rhs: [3, 3]",
        ),
        (
            sum,
            batch.to_dtype(DType::F32).unwrap(),
            "a state of shape [4, 2] and dtype f32; give the state and everything that the field holds one dtype: \
             dtype mismatch in add, lhs: F32, rhs: F64",
        ),
    ] {
        let error = solve_with(field, &y0).unwrap_err();
        assert!(matches!(error, Error::StateUnfit { .. }), "{error:?}");
        assert_candle_text(&error, &format!("the field does not take {text}"));
    }
}

#[test]
fn field_of_another_dtype_is_refused() {
    let refused = |e: &Error| matches!(e, Error::FieldDType { .. });
    let text = "the field returned dtype f32 for a state of dtype f64; cast one of them";
    assert_refused(solve_with(|_, y| y.to_dtype(DType::F32), &state(&[1.0])), refused, text);
}

#[test]
fn failure_inside_the_field_keeps_its_own_text() {
    let end = solve_with(|_, _| Err(candle_core::Error::msg("no such layer")), &state(&[1.0]));
    let error = end.unwrap_err();
    assert!(matches!(error, Error::Candle(_)), "{error:?}");
    assert_candle_text(&error, "no such layer");
}

#[test]
fn initial_state_with_nan_is_refused() {
    let refused = |e: &Error| matches!(e, Error::InitialState { index: 2 });
    let text = "the initial state is not finite at entry 2";
    assert_refused(solve_with(decay, &state(&[1.0, 2.0, f64::NAN])), refused, text);
}

#[test]
fn initial_state_with_infinity_is_refused_before_fixed_steps() {
    let refused = |e: &Error| matches!(e, Error::InitialState { index: 0 });
    let y0 = state(&[f32::INFINITY]);
    let end = Solver::fixed(DOPRI5, 0.1).solve(&decay, &y0, (0.0, 1.0), &mut ());
    assert_refused(end, refused, "the initial state is not finite at entry 0");
}

#[test]
fn tolerances_that_are_not_positive_are_refused() {
    let refused = |e: &Error| matches!(e, Error::InvalidTolerance { .. });
    for (rtol, atol, text) in [
        (0.0, 1e-6, "rtol holds 0, but a tolerance must be positive and finite"),
        (1e-6, -0.5, "atol holds -0.5, but a tolerance must be positive and finite"),
        (f64::NAN, 1e-6, "rtol holds NaN, but a tolerance must be positive and finite"),
        (1e-6, f64::NAN, "atol holds NaN, but a tolerance must be positive and finite"),
        (f64::INFINITY, 1e-6, "rtol holds inf, but a tolerance must be positive and finite"),
    ] {
        let solver = Solver::adaptive(DOPRI5, aca_core::Tolerance { rtol, atol });
        assert_refused(solver.solve(&decay, &state(&[1.0]), (0.0, 1.0), &mut ()), refused, text);
    }
}

#[test]
fn tensor_tolerance_that_does_not_broadcast_is_refused() {
    let refused = |e: &Error| matches!(e, Error::ToleranceShape { name: "atol", .. });
    let text = "atol of shape [3] does not broadcast to a state of shape [2]";
    assert_refused(solve_each(&[1e-6], &[1e-6; 3], &state(&[1.0, 2.0])), refused, text);
}

#[test]
fn tensor_tolerance_larger_than_the_state_is_refused() {
    let refused = |e: &Error| matches!(e, Error::ToleranceShape { name: "rtol", .. });
    let text = "rtol of shape [2] does not broadcast to a state of shape [1]";
    assert_refused(solve_each(&[1e-6; 2], &[1e-6], &state(&[1.0])), refused, text);
}

#[test]
fn tensor_tolerance_with_a_zero_is_refused() {
    let refused = |e: &Error| matches!(e, Error::InvalidTolerance { name: "atol", .. });
    let text = "atol holds 0, but a tolerance must be positive and finite";
    assert_refused(solve_each(&[1e-6], &[1e-6, 0.0], &state(&[1.0, 2.0])), refused, text);
}

#[test]
fn tensor_tolerance_with_nan_is_refused() {
    let refused = |e: &Error| matches!(e, Error::InvalidTolerance { name: "rtol", .. });
    let text = "rtol holds NaN, but a tolerance must be positive and finite";
    assert_refused(solve_each(&[1e-6, f64::NAN], &[1e-6], &state(&[1.0, 2.0])), refused, text);
}

#[test]
fn error_becomes_a_candle_error_with_its_text() {
    let error = candle_core::Error::from(Error::InitialState { index: 3 });
    assert_candle_text(&error, "the initial state is not finite at entry 3");
}

#[test]
fn candle_error_stays_itself_through_the_solver_and_back() {
    let error = Error::from(candle_core::Error::msg("inner"));
    assert_candle_text(&candle_core::Error::from(error), "inner");
}

#[test]
fn fixed_steps_that_times_cannot_tell_apart_are_refused() {
    let solver = Solver::fixed_count(DOPRI5, 100);
    let result = solver.solve(&decay, &state(&[1.0]), (1e9, 1e9 + 1e-6), &mut ());
    let refused = |e: &Error| matches!(e, Error::FixedStepUnderflow { .. });
    let text = "fixed steps of 9.5367431640625e-9 cannot be told apart at times around 1e9; \
                take larger steps, or count time from nearer to 0";
    assert_refused(result, refused, text);
}

#[test]
fn clocks_of_the_samples_own_are_refused_where_there_is_one_for_all() {
    let solver = Solver { batching: Batching::PerSample, ..dopri5(1e-3) };
    let y0 = state(&[1.0, 2.0]);
    let refused = |e: &Error| matches!(e, Error::PerSampleUnsupported { .. });
    let replayed = solver.replay(&decay, &y0, &[0.0, 1.0], &mut ());
    assert!(refused(&replayed.unwrap_err()));
    assert!(refused(&solver.initial_step_size(&decay, &y0, (0.0, 1.0)).unwrap_err()));
}

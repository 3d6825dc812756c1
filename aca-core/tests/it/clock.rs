use aca_core::{Time, VectorField};
use aca_tableau::ALL;
use candle_core::{DType, Device, Tensor};

use crate::common::{Recorder, Watched, dopri5, state, values};

#[test]
fn times_keep_double_precision_for_single_precision_states() {
    let start = 1e9;
    let field = Watched::new(|t: &Time, y: &Tensor| y.affine(0.0, 2.0 * (t.value() - 1e9)));
    let y0 = state(&[0.0f32]);
    let mut steps = Recorder::default();
    let end = dopri5(1e-4).solve(&field, &y0, (start, start + 1.0), &mut steps).unwrap();
    // Times in f32 would be 64 apart here: the field would see 0 or 64 only.
    let inner = field.times().into_iter().filter(|t| *t > start && *t < start + 1.0).count();
    assert!(inner > 0, "no evaluation between the ends");
    let error = (values(&end.y1)[0] - 1.0).abs();
    assert!(error < 1e-4, "error {error} of y = (t - 1e9)^2, the tolerance is 1e-4");
}

#[test]
fn stages_are_evaluated_at_their_nodes() {
    for tableau in ALL {
        let field = Watched::new(|_t: &Time, y: &Tensor| y.neg());
        let solver = aca_core::Solver::fixed_count(tableau.clone(), 1);
        solver.solve(&field, &state(&[1.0]), (0.0, 1.0), &mut ()).unwrap();
        assert_eq!(field.times(), tableau.c(), "{}", tableau.name());
    }
}

#[test]
fn tensor_of_a_time_has_the_states_dtype_and_no_dimensions() {
    for dtype in [DType::F32, DType::F64] {
        let like = Tensor::zeros((2, 3), dtype, &Device::Cpu).unwrap();
        let t = Time::new(0.25).tensor(&like).unwrap();
        assert_eq!((t.dtype(), t.dims().len()), (dtype, 0));
        assert_eq!(values(&t), [0.25]);
        assert_eq!(like.broadcast_add(&t).unwrap().dims(), [2, 3]);
    }
}

#[test]
fn plain_time_is_not_tracked() {
    let time = Time::new(0.5);
    assert!(time.leaf().is_none(), "a leaf before anyone asked");
    assert!(!time.tensor(&state(&[1.0])).unwrap().is_variable());
}

#[test]
fn tracked_time_is_one_variable_however_often_it_is_asked_for() {
    let (time, y) = (Time::tracked(0.5), state(&[1.0]));
    let (first, second) = (time.tensor(&y).unwrap(), time.tensor(&y).unwrap());
    assert!(first.is_variable());
    assert_eq!(first.id(), second.id());
    assert_eq!(time.leaf().map(Tensor::id), Some(first.id()));
}

#[test]
fn derivative_with_respect_to_time_comes_with_the_pullback() {
    // f = y sin(3 t): df/dt = 3 y cos(3 t).
    let field = |t: &Time, y: &Tensor| y.broadcast_mul(&(t.tensor(y)? * 3.0)?.sin()?);
    let (y, cotangent) = (state(&[2.0, -1.0]), state(&[0.5, 3.0]));
    let (_, pullback) = field.linearize(&Time::new(0.7), &y).unwrap();
    let found = values(&pullback.apply(&cotangent).unwrap().t.unwrap())[0];
    let expected = 3.0 * (2.1f64).cos() * (2.0 * 0.5 - 3.0);
    assert!((found - expected).abs() < 1e-14, "{found}, expected {expected} to rounding");
}

#[test]
fn time_read_as_a_number_has_no_derivative() {
    let field = |t: &Time, y: &Tensor| y.affine(t.value(), 0.0);
    let (_, pullback) = field.linearize(&Time::new(0.7), &state(&[2.0])).unwrap();
    assert!(pullback.apply(&state(&[1.0])).unwrap().t.is_none());
}

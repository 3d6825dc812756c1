use aca_core::{Batching, Error, Evaluator, Solver, Time, VectorField};
use candle_core::{DType, Device, Tensor, Var};

use crate::common::{SWING, distance, dopri5, state, values};

/// `f = tanh(W y) + b y^2` over variables `W` and `b`.
struct Small {
    w: Var,
    b: Var,
}

const W: [[f64; 2]; 2] = [[0.5, -1.0], [2.0, 0.25]];
const B: f64 = 0.3;
const Y: [f64; 2] = [0.7, -0.4];
const COTANGENT: [f64; 2] = [1.5, -2.0];

impl Small {
    fn new() -> Self {
        let w = Var::from_tensor(&Tensor::new(&W, &Device::Cpu).unwrap()).unwrap();
        Self { w, b: Var::from_tensor(&state(&[B])).unwrap() }
    }
}

impl VectorField for Small {
    fn eval(&self, _t: &Time, y: &Tensor) -> candle_core::Result<Tensor> {
        let product = self.w.matmul(&y.unsqueeze(1)?)?.squeeze(1)?;
        product.tanh()? + y.sqr()?.broadcast_mul(&self.b)?
    }
}

/// `1 - tanh^2` of the two products.
fn slopes() -> [f64; 2] {
    [0, 1].map(|i| 1.0 - (W[i][0] * Y[0] + W[i][1] * Y[1]).tanh().powi(2))
}

fn assert_close(found: &[f64], expected: &[f64], what: &str) {
    let off = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(off < 1e-14, "{what}: {found:?}, expected {expected:?} to rounding");
}

#[test]
fn linearize_returns_the_value_of_eval() {
    let (field, y) = (Small::new(), state(&Y));
    let (value, _) = field.linearize(&Time::new(0.0), &y).unwrap();
    assert_eq!(values(&value), values(&field.eval(&Time::new(0.0), &y).unwrap()));
    assert!(!value.track_op(), "the value must not hold candle's graph");
}

#[test]
fn pullback_multiplies_by_the_transposed_jacobian() {
    let field = Small::new();
    let (_, pullback) = field.linearize(&Time::new(0.0), &state(&Y)).unwrap();
    let found = pullback.apply(&state(&COTANGENT)).unwrap();
    let slopes = slopes();
    let expected = [0, 1].map(|j| {
        let through_w: f64 = (0..2).map(|i| COTANGENT[i] * slopes[i] * W[i][j]).sum();
        through_w + COTANGENT[j] * 2.0 * B * Y[j]
    });
    assert_close(&values(&found.y), &expected, "cotangent of y");
}

#[test]
fn pullback_reaches_the_fields_variables() {
    let field = Small::new();
    let (_, pullback) = field.linearize(&Time::new(0.0), &state(&Y)).unwrap();
    let found = pullback.apply(&state(&COTANGENT)).unwrap();
    let slopes = slopes();
    let w: Vec<f64> = (0..2)
        .flat_map(|i| (0..2).map(move |j| (i, j)))
        .map(|(i, j)| COTANGENT[i] * slopes[i] * Y[j])
        .collect();
    let b: f64 = (0..2).map(|i| COTANGENT[i] * Y[i] * Y[i]).sum();
    assert_close(&values(found.theta.get(&field.w).unwrap()), &w, "cotangent of W");
    assert_close(&values(found.theta.get(&field.b).unwrap()), &[b], "cotangent of b");
}

#[test]
fn pullback_of_a_field_without_state_is_zero() {
    let constant = |_t: &Time, y: &Tensor| y.zeros_like()?.affine(0.0, 3.0);
    let (_, pullback) = constant.linearize(&Time::new(0.0), &state(&Y)).unwrap();
    assert_eq!(values(&pullback.apply(&state(&COTANGENT)).unwrap().y), [0.0, 0.0]);
}

#[test]
fn pullback_keeps_shape_and_single_precision() {
    let square = |_t: &Time, y: &Tensor| y.sqr();
    let y = Tensor::new(&[[1.0f32, 2.0, 3.0]], &Device::Cpu).unwrap();
    let (_, pullback) = square.linearize(&Time::new(0.0), &y).unwrap();
    let found = pullback.apply(&y.ones_like().unwrap()).unwrap().y;
    assert_eq!((found.dims(), found.dtype()), (&[1, 3][..], DType::F32));
    assert_eq!(values(&found), [2.0, 4.0, 6.0]);
}

#[test]
fn linearize_follows_trace_where_eval_leaves_the_graph() {
    /// Its `eval` hides the state from candle, its `trace` does not.
    struct Hidden;
    impl VectorField for Hidden {
        fn eval(&self, t: &Time, y: &Tensor) -> candle_core::Result<Tensor> {
            Ok(self.trace(t, y)?.detach())
        }
        fn trace(&self, _t: &Time, y: &Tensor) -> candle_core::Result<Tensor> {
            y.sqr()
        }
    }
    let (_, pullback) = Hidden.linearize(&Time::new(0.0), &state(&[3.0])).unwrap();
    assert_eq!(values(&pullback.apply(&state(&[1.0])).unwrap().y), [6.0]);
}

#[test]
fn evaluator_counts_both_kinds_of_calls() {
    let (y, field) = (state(&[1.0]), SWING.f);
    let evaluator = Evaluator::new(&field, &y).unwrap();
    evaluator.eval(0.0, &y).unwrap();
    evaluator.linearize(0.0, &y).unwrap();
    assert_eq!(evaluator.nfe(), 2);
}

#[test]
fn evaluator_checks_linearized_results_too() {
    let (y, field) = (state(&[1.0]), |_: &Time, y: &Tensor| y.unsqueeze(0));
    let evaluator = Evaluator::new(&field, &y).unwrap();
    let error = evaluator.linearize(0.0, &y).err().unwrap();
    assert!(matches!(error, Error::FieldShape { .. }), "{error:?}");
}

#[test]
fn evaluator_detaches() {
    let (y, field) = (state(&Y), Small::new());
    let evaluator = Evaluator::new(&field, &y).unwrap();
    assert!(!evaluator.eval(0.0, &y).unwrap().track_op());
}

#[test]
fn field_without_statistics_lists_none() {
    assert!(SWING.f.running_statistics().is_empty());
}

#[test]
fn times_of_samples_broadcast_against_tensors_of_any_rank() {
    let y0 = Tensor::zeros((2, 6), DType::F64, &Device::Cpu).unwrap();
    let field = |t: &Time, y: &Tensor| {
        let flat = t.tensor(y)?;
        let image = y
            .zeros_like()?
            .reshape((2, 2, 3))?
            .broadcast_add(&t.tensor(&y.reshape((2, 2, 3))?)?)?;
        image.reshape((2, 6))?.broadcast_add(&flat)?.affine(0.5, 0.0)
    };
    let solver = Solver { batching: Batching::PerSample, ..dopri5(1e-9) };
    let end = solver.solve(&field, &y0, [(0.0, 1.0), (0.0, 2.0)], &mut ()).unwrap();
    let expected = [[0.5; 6], [2.0; 6]].concat();
    assert!(distance(&end.y1, &expected) < 1e-12, "{:?}", values(&end.y1));
}

#[test]
fn stages_outlive_changes_of_a_variable_that_is_a_slope() {
    let theta = Var::new(&[1f64, 2.0], &Device::Cpu).unwrap();
    let field = |_t: &Time, _y: &Tensor| Ok(theta.as_tensor().clone());
    let y0 = state(&[0.0, 0.0]);
    let evaluator = Evaluator::new(&field, &y0).unwrap();
    let slope = evaluator.eval(0.0, &y0).unwrap();
    theta.set(&state(&[10.0, 20.0])).unwrap();
    assert_eq!(values(&slope), [1.0, 2.0]);
}

//! Closed forms against candle's autograd on the same function.

use aca_core::{Time, VectorField};
use aca_models::systems::{
    ClosedForm, CubicSpiral, LinearDecay, Lorenz, LotkaVolterra, Real, System, ThreeBody, VanDerPol,
};
use candle_core::{DType, Device, Tensor, Var};
use proptest::prelude::*;

/// Largest difference relative to the largest entry of `b`, or to 1: the terms of an entry are of that order,
/// however small their sum.
fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let entries = |x: &Tensor| {
        x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap()
    };
    let (a, b) = (entries(a), entries(b));
    let size = b.iter().fold(1f64, |size, b| size.max(b.abs()));
    a.iter().zip(&b).fold(0.0f64, |worst, (a, b)| worst.max((a - b).abs())) / size
}

/// Compares value, state and parameter cotangents of the closed form with autograd of `trace`.
fn differences<S: System>(field: &ClosedForm<S>, y: &Tensor, lambda: &Tensor) -> [f64; 3] {
    let t = Time::new(0.3);
    let (f, pullback) = field.linearize(&t, y).unwrap();
    let closed = pullback.apply(lambda).unwrap();
    let y = Var::from_tensor(y).unwrap();
    let traced = field.trace(&t, &y).unwrap();
    let grads = traced.mul(lambda).unwrap().sum_all().unwrap().backward().unwrap();
    let theta = field.theta();
    [
        distance(&f, &traced),
        distance(&closed.y, grads.get(&y).unwrap()),
        distance(closed.theta.get(theta).unwrap(), grads.get(theta).unwrap()),
    ]
}

fn agrees<S: System + Default>(theta: &[f64], y: &[f64], lambda: &[f64], shape: &[usize]) {
    let field = ClosedForm::from_slice(S::default(), theta).unwrap();
    let tensor = |x: &[f64]| Tensor::from_slice(x, shape, &Device::Cpu).unwrap();
    for (what, difference) in ["value", "state", "parameters"].iter().zip(differences(
        &field,
        &tensor(y),
        &tensor(lambda),
    )) {
        let name = std::any::type_name::<S>();
        assert!(difference <= 1e-12, "{name}: {what} differs by {difference:e}, bound 1e-12");
    }
}

fn numbers(count: usize) -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(-2.0..2.0f64, count)
}

proptest! {
    #[test]
    fn linear_decay_agrees_with_autograd(theta in numbers(1), y in numbers(4), l in numbers(4)) {
        agrees::<LinearDecay>(&theta, &y, &l, &[4, 1]);
    }

    #[test]
    fn van_der_pol_agrees_with_autograd(theta in numbers(1), y in numbers(6), l in numbers(6)) {
        agrees::<VanDerPol>(&theta, &y, &l, &[3, 2]);
    }

    #[test]
    fn stiffness_may_differ_by_oscillator(theta in numbers(3), y in numbers(6), l in numbers(6)) {
        agrees::<VanDerPol>(&theta, &y, &l, &[3, 2]);
    }

    #[test]
    fn lotka_volterra_agrees_with_autograd(theta in numbers(4), y in numbers(8), l in numbers(8)) {
        agrees::<LotkaVolterra>(&theta, &y, &l, &[2, 2, 2]);
    }

    #[test]
    fn lorenz_agrees_with_autograd(theta in numbers(3), y in numbers(6), l in numbers(6)) {
        agrees::<Lorenz>(&theta, &y, &l, &[2, 3]);
    }

    #[test]
    fn cubic_spiral_agrees_with_autograd(theta in numbers(4), y in numbers(4), l in numbers(4)) {
        agrees::<CubicSpiral>(&theta, &y, &l, &[2, 2]);
    }

    #[test]
    fn three_body_agrees_with_autograd(m in numbers(3), y in numbers(36), l in numbers(36)) {
        agrees::<ThreeBody>(&m, &y, &l, &[2, 18]);
    }
}

#[test]
fn single_precision_agrees_within_its_rounding() {
    let theta =
        Var::from_tensor(&Tensor::new(&[10.0f32, 28.0, 2.5], &Device::Cpu).unwrap()).unwrap();
    let field = ClosedForm::new(Lorenz, theta);
    let y = Tensor::new(&[1.0f32, -2.0, 3.0], &Device::Cpu).unwrap();
    for difference in differences(&field, &y, &y.ones_like().unwrap()) {
        assert!(difference <= 1e-6, "differs by {difference:e}, bound 1e-6: some ulps of f32");
    }
}

#[test]
fn views_are_read_by_their_strides() {
    let field = LotkaVolterra::field([0.5, 0.6, 0.7, 0.8]).unwrap();
    let y = Tensor::arange(0.0f64, 6.0, &Device::Cpu).unwrap().reshape((2, 3)).unwrap();
    let view = y.t().unwrap();
    let copy = view.contiguous().unwrap();
    let eval = |y: &Tensor| field.eval(&Time::new(0.0), y).unwrap();
    assert_eq!(distance(&eval(&view), &eval(&copy)), 0.0);
}

#[test]
fn what_does_not_fit_is_refused_with_its_numbers() {
    let field = LotkaVolterra::field([0.5; 4]).unwrap();
    let refuse = |y: Tensor| field.eval(&Time::new(0.0), &y).unwrap_err().to_string();
    let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &Device::Cpu).unwrap();
    let first = |message: String| message.lines().next().unwrap_or_default().to_owned();
    assert_eq!(
        first(refuse(zeros(&[3, 5], DType::F64))),
        "the system has states of 2 numbers, but y has shape [3, 5]"
    );
    assert_eq!(
        first(refuse(zeros(&[3, 2], DType::F32))),
        "y is F32 but the parameters are F64; cast one"
    );
    let field = VanDerPol::field(&[1.0, 2.0, 3.0]).unwrap();
    let message = field.eval(&Time::new(0.0), &zeros(&[2, 2], DType::F64)).unwrap_err().to_string();
    assert_eq!(first(message), "3 parameters do not fit 2 states of 1 each");
}

/// `y' = exp(-theta y) + sin(t)` with a slip in one of its three functions.
struct Slip(&'static str);

impl System for Slip {
    const DIM: usize = 1;
    const PARAMS: usize = 1;

    fn slope<T: Real>(&self, t: f64, theta: &[T], y: &[T], dy: &mut [T]) {
        dy[0] = (-theta[0] * y[0]).exp() + T::from_f64(t.sin());
        if self.0 == "slope" {
            dy[0] += T::from_f64(1e-6);
        }
    }

    fn pullback<T: Real>(
        &self,
        t: f64,
        theta: &[T],
        y: &[T],
        bar: &[T],
        y_bar: &mut [T],
        own: &mut [T],
    ) -> T {
        let slope = (-theta[0] * y[0]).exp();
        let sign = |what| if self.0 == what { T::one() } else { -T::one() };
        y_bar[0] = sign("state") * theta[0] * slope * bar[0];
        own[0] += sign("parameters") * y[0] * slope * bar[0];
        sign("time") * T::from_f64(-t.cos()) * bar[0]
    }

    fn trace(&self, t: &Time, theta: &Tensor, y: &Tensor) -> candle_core::Result<Tensor> {
        y.broadcast_mul(theta)?.neg()?.exp()?.broadcast_add(&t.tensor(y)?.sin()?)
    }
}

#[test]
fn a_slip_in_a_closed_form_shows_where_it_is() {
    let y = Tensor::new(&[[0.3f64], [1.5]], &Device::Cpu).unwrap();
    for slip in ["none", "slope", "state", "parameters", "time"] {
        let found = ClosedForm::from_slice(Slip(slip), &[0.7]).unwrap().check(&y).unwrap();
        for (what, off) in [
            ("slope", found.slope),
            ("state", found.y),
            ("parameters", found.theta),
            ("time", found.t),
        ] {
            let is_off = off > 1e-7;
            assert_eq!(is_off, slip == what, "slip in {slip}: {what} is {off:e} off");
        }
        assert_eq!(found.worst() > 1e-7, slip != "none");
    }
}

#[test]
fn a_difference_that_is_not_a_number_is_the_worst() {
    let y = Tensor::new(&[f64::NAN], &Device::Cpu).unwrap();
    let found = ClosedForm::from_slice(Slip("none"), &[0.7]).unwrap().check(&y).unwrap();
    assert!(found.worst().is_nan(), "{found:?}");
}

#[test]
fn parameters_lie_along_the_last_dimension() {
    let y = Tensor::ones((3, 2), DType::F64, &Device::Cpu).unwrap();
    let theta = Var::ones((4, 3), DType::F64, &Device::Cpu).unwrap();
    let refusal = ClosedForm::new(LotkaVolterra, theta).eval(&Time::new(0.0), &y).unwrap_err();
    let text = "parameters of shape [4, 3] were given, but those of a state are the 4 of a last";
    assert!(refusal.to_string().starts_with(text), "{refusal}");
}

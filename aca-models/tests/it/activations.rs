//! Gradients of activations against closed forms and candle's autograd; their names.

use aca_models::layers::Activation;
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::Module;
use proptest::prelude::*;
use rayon::ThreadPoolBuilder;

use crate::activation_values::exact;

/// Largest difference relative to the largest entry of `b`.
pub(crate) fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.shape(), b.shape(), "shapes differ");
    let entries = |x: &Tensor| {
        x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap()
    };
    let (a, b) = (entries(a), entries(b));
    let size = b.iter().fold(1e-300f64, |size, b| size.max(b.abs()));
    a.iter().zip(&b).fold(0.0f64, |worst, (a, b)| worst.max((a - b).abs())) / size
}

/// Distinct numbers of order one in any shape.
pub(crate) fn filled(shape: &[usize], dtype: DType) -> Tensor {
    let size = shape.iter().product::<usize>();
    let entries = (0..size).map(|i| (i as f64 * 0.731 + 0.3).sin() * 1.7);
    Tensor::from_iter(entries, &Device::Cpu)
        .unwrap()
        .reshape(shape)
        .unwrap()
        .to_dtype(dtype)
        .unwrap()
}

/// The derivative, from the input.
fn slope(activation: Activation, x: f64) -> f64 {
    let e = (-x.abs()).exp();
    match activation {
        Activation::Identity => 1.0,
        Activation::Tanh => x.cosh().powi(-2),
        Activation::Sigmoid => e / (1.0 + e).powi(2),
        Activation::Softplus => exact(Activation::Sigmoid, x),
        Activation::Elu => x.min(0.0).exp(),
        Activation::Relu => f64::from(x > 0.0),
        Activation::Gelu => {
            let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
            0.5 * candle_core::cpu::erf::erfc_f64(-x / 2f64.sqrt()) + x * density
        }
    }
}

/// The gradient of the sum at `x`.
fn gradient(activation: Activation, x: &Tensor) -> Tensor {
    let x = Var::from_tensor(x).unwrap();
    let sum = activation.forward(&x).unwrap().sum_all().unwrap();
    sum.backward().unwrap().remove(&x).unwrap()
}

#[test]
fn gradients_are_the_derivatives() {
    let x = Tensor::arange_step(-12.0f64, 12.0, 0.037, &Device::Cpu).unwrap();
    for (dtype, bound) in [(DType::F64, 1e-15), (DType::F32, 3e-7)] {
        let x = x.to_dtype(dtype).unwrap();
        let points = x.to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
        for activation in Activation::ALL {
            let slopes = gradient(activation, &x).to_dtype(DType::F64).unwrap();
            for (x, got) in points.iter().zip(slopes.to_vec1::<f64>().unwrap()) {
                let exact = slope(activation, *x);
                let off = (got - exact).abs();
                assert!(
                    off <= bound,
                    "{activation:?}'({x}) = {got}, exact {exact}: {off:e} off, bound {bound:e} in {dtype:?}"
                );
            }
        }
    }
}

#[test]
fn relu_has_slope_zero_at_zero() {
    let x = Tensor::new(&[-0.0f64, 0.0], &Device::Cpu).unwrap();
    assert_eq!(gradient(Activation::Relu, &x).to_vec1::<f64>().unwrap(), [0.0, 0.0]);
}

proptest! {
    #[test]
    fn value_and_gradient_agree_with_candle(
        shape in prop::collection::vec(1usize..5, 0..4),
        transposed in any::<bool>(),
    ) {
        let x = Var::from_tensor(&filled(&shape, DType::F64)).unwrap();
        let view = if transposed { x.t().unwrap_or_else(|_| x.as_tensor().clone()) } else { x.as_tensor().clone() };
        for activation in Activation::ALL {
            let weights = view.detach().cos().unwrap();
            let [ours, theirs] = [activation.forward(&view), activation.trace(&view)].map(|value| {
                let value = value.unwrap();
                let loss = (&value * &weights).unwrap().sum_all().unwrap();
                (value, loss.backward().unwrap().remove(&x).unwrap())
            });
            let (value, slope) = (distance(&ours.0, &theirs.0), distance(&ours.1, &theirs.1));
            prop_assert!(value <= 1e-15 && slope <= 1e-14, "{activation:?} of {shape:?}: value {value:e} off, bound 1e-15; gradient {slope:e}, bound 1e-14");
        }
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let x = filled(&[300_007], DType::F32);
    for activation in Activation::ALL {
        let run = |threads: usize| {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| [activation.forward(&x).unwrap(), gradient(activation, &x)])
        };
        let bits = |run: [Tensor; 2]| run.map(|x| x.to_vec1::<f32>().unwrap());
        assert!(bits(run(1)) == bits(run(3)), "{activation:?} differs between 1 and 3 threads");
    }
}

#[test]
fn vectors_and_single_numbers_give_the_same_bits() {
    for dtype in [DType::F32, DType::F64] {
        let x = (filled(&[67], dtype) * 4.0).unwrap();
        for activation in Activation::ALL {
            let all = activation.forward(&x).unwrap();
            for i in 0..67 {
                let [of_all, alone] = [all.get(i), activation.forward(&x.get(i).unwrap())]
                    .map(|x| x.unwrap().to_dtype(DType::F64).unwrap().to_scalar::<f64>().unwrap());
                assert_eq!(of_all, alone, "{activation:?}, entry {i}, {dtype:?}");
            }
        }
    }
}

#[test]
fn other_types_go_through_candle() {
    let x = filled(&[3, 4], DType::BF16);
    for activation in Activation::ALL {
        let value = activation.forward(&x).unwrap();
        assert_eq!(value.dtype(), DType::BF16, "{activation:?}");
        let off = distance(&value, &activation.forward(&x.to_dtype(DType::F64).unwrap()).unwrap());
        assert!(off <= 0.02, "{activation:?}: {off} off, bound 0.02: some roundings of bf16");
    }
}

#[test]
fn names_lead_back_to_activations() {
    for activation in Activation::ALL {
        assert_eq!(Activation::by_name(activation.name()).unwrap(), activation);
    }
}

#[test]
fn an_unknown_name_is_refused_with_the_known_ones() {
    let message = Activation::by_name("swish").unwrap_err().to_string();
    let first = message.lines().next().unwrap_or_default();
    assert_eq!(
        first,
        "no activation is called \"swish\"; there are identity, tanh, sigmoid, softplus, elu, relu, gelu"
    );
}

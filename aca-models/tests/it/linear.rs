//! Fused linear layers against candle's operations.

use std::process::Command;

use aca_models::layers::{Activation, Linear};
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{Module, VarBuilder, VarMap};
use proptest::prelude::*;
use rayon::ThreadPoolBuilder;

use crate::activations::{distance, filled};

/// A layer of distinct numbers, weight and bias as given.
pub(crate) fn layer(
    (inputs, outputs): (usize, usize),
    bias: bool,
    activation: Activation,
    dtype: DType,
) -> Linear {
    let variable = |shape: &[usize]| {
        let scaled = (filled(shape, dtype).cos().unwrap() / (inputs as f64).sqrt()).unwrap();
        Var::from_tensor(&scaled).unwrap().into_inner()
    };
    let bias = bias.then(|| variable(&[outputs]));
    Linear { weight: variable(&[outputs, inputs]), bias, activation }
}

/// Value and gradients of a weighted sum of `value` with respect to x, weight and bias.
fn gradients(layer: &Linear, x: &Var, value: &Tensor) -> Vec<Tensor> {
    let weights = filled(value.dims(), value.dtype());
    let mut grads = (value * weights).unwrap().sum_all().unwrap().backward().unwrap();
    let inputs = [Some(x.as_tensor()), Some(&layer.weight), layer.bias.as_ref()];
    let inputs = inputs.into_iter().flatten();
    [value.detach()].into_iter().chain(inputs.map(|x| grads.remove(x).unwrap())).collect()
}

/// Largest relative difference from candle's operations in value, x, weight and bias.
fn differences(layer: &Linear, x: &Var, view: &Tensor) -> Vec<f64> {
    let ours = gradients(layer, x, &layer.forward(view).unwrap());
    let theirs = gradients(layer, x, &layer.trace(view).unwrap());
    ours.iter().zip(&theirs).map(|(a, b)| distance(a, b)).collect()
}

proptest! {
    #[test]
    fn value_and_gradients_agree_with_candle(
        (inputs, outputs) in (1usize..20, 1usize..20),
        batch in prop::collection::vec(1usize..6, 0..3),
        (bias, reversed, activation) in (any::<bool>(), any::<bool>(), 0..7usize),
    ) {
        let layer = layer((inputs, outputs), bias, Activation::ALL[activation], DType::F64);
        let dims: Vec<usize> = batch.iter().copied().chain([inputs]).collect();
        let axes: Vec<usize> = if reversed { (0..dims.len()).rev().collect() } else { (0..dims.len()).collect() };
        let stored: Vec<usize> = axes.iter().map(|&axis| dims[axis]).collect();
        let x = Var::from_tensor(&filled(&stored, DType::F64)).unwrap();
        let view = x.permute(axes).unwrap();
        for off in differences(&layer, &x, &view) {
            prop_assert!(off <= 1e-12, "{layer:?} of {dims:?}: {off:e} off, bound 1e-12");
        }
    }
}

#[test]
fn single_precision_agrees_within_its_rounding() {
    for activation in Activation::ALL {
        let layer = layer((64, 48), true, activation, DType::F32);
        let x = Var::from_tensor(&filled(&[40, 64], DType::F32)).unwrap();
        for off in differences(&layer, &x, &x) {
            assert!(off <= 3e-6, "{activation:?}: {off:e} off, bound 3e-6: sums of 64 roundings");
        }
    }
}

#[test]
fn many_tiles_give_what_one_row_gives() {
    let layer = layer((40, 70), true, Activation::Tanh, DType::F64);
    let x = filled(&[3001, 40], DType::F64);
    let all = layer.forward(&x).unwrap();
    for row in [0, 1500, 3000] {
        let one = layer.forward(&x.get(row).unwrap()).unwrap();
        let off = distance(&all.get(row).unwrap(), &one);
        assert!(off <= 1e-14, "row {row}: {off:e} off, bound 1e-14");
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let x = Var::from_tensor(&filled(&[3001, 40], DType::F32)).unwrap();
    for size in [70, 7000] {
        let layer = layer((40, size), true, Activation::Tanh, DType::F32);
        let bits = |threads: usize| {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let all = pool.install(|| gradients(&layer, &x, &layer.forward(&x).unwrap()));
            all.iter()
                .map(|x| x.flatten_all().unwrap().to_vec1::<f32>().unwrap())
                .collect::<Vec<_>>()
        };
        assert!(bits(1) == bits(3), "40 x {size} differs between 1 and 3 threads");
    }
}

#[test]
fn gradients_reach_what_parameters_are_computed_from() {
    let Linear { weight, bias, activation } = layer((3, 4), true, Activation::Gelu, DType::F64);
    let doubled = Linear { weight: (&weight * 2.0).unwrap(), bias: bias.clone(), activation };
    let x = filled(&[5, 3], DType::F64);
    let [ours, theirs] = [doubled.forward(&x), doubled.trace(&x)].map(|value| {
        value
            .unwrap()
            .sqr()
            .unwrap()
            .sum_all()
            .unwrap()
            .backward()
            .unwrap()
            .remove(&weight)
            .unwrap()
    });
    let off = distance(&ours, &theirs);
    assert!(off <= 1e-14, "{off:e} off, bound 1e-14");
}

#[test]
fn constants_leave_no_graph() {
    let Linear { weight, bias, activation } = layer((3, 4), true, Activation::Tanh, DType::F64);
    let bias = bias.map(|bias| bias.detach());
    let constant = Linear { weight: weight.detach(), bias, activation };
    assert!(!constant.forward(&filled(&[5, 3], DType::F64)).unwrap().track_op());
}

#[test]
fn the_closed_form_agrees_with_backward() {
    for activation in Activation::ALL {
        for bias in [true, false] {
            let layer = layer((6, 5), bias, activation, DType::F64);
            let x = Var::from_tensor(&filled(&[2, 3, 6], DType::F64)).unwrap();
            let expected = gradients(&layer, &x, &layer.trace(&x).unwrap());
            let (value, pullback) = layer.linearize(&x).unwrap();
            assert!(!value.track_op(), "{activation:?}: the value is in candle's graph");
            let bars = pullback.pull(&filled(value.dims(), DType::F64)).unwrap();
            let ours = [Some(value), Some(bars.x), Some(bars.weight), bars.bias];
            let ours: Vec<_> = ours.into_iter().flatten().collect();
            assert_eq!(ours.len(), expected.len());
            for (ours, expected) in ours.iter().zip(&expected) {
                let off = distance(ours, expected);
                assert!(off <= 1e-13, "{activation:?}: {off:e} off, bound 1e-13");
            }
        }
    }
}

#[test]
fn new_layers_name_their_variables_as_pytorch_does() {
    let map = VarMap::new();
    let vb = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
    Linear::new(3, 4, Activation::Tanh, vb.pp("layer")).unwrap();
    let data = map.data().lock().unwrap();
    let mut names: Vec<_> = data.iter().map(|(name, var)| (name.as_str(), var.dims())).collect();
    names.sort_unstable();
    assert_eq!(names, [("layer.bias", &[4][..]), ("layer.weight", &[4, 3][..])]);
}

#[test]
fn an_empty_batch_has_zero_gradients() {
    let layer = layer((3, 4), true, Activation::Tanh, DType::F64);
    let x = Tensor::zeros((0, 3), DType::F64, &Device::Cpu).unwrap();
    let x = Var::from_tensor(&x).unwrap();
    let value = layer.forward(&x).unwrap();
    assert_eq!(value.dims(), [0, 4]);
    let grads = value.sum_all().unwrap().backward().unwrap();
    assert_eq!(grads.get(&x).unwrap().dims(), [0, 3]);
    let weight = grads.get(&layer.weight).unwrap();
    assert_eq!(weight.abs().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap(), 0.0);
}

#[test]
fn what_does_not_fit_is_refused_with_its_numbers() {
    let layer = layer((3, 4), true, Activation::Tanh, DType::F64);
    let first = |error: candle_core::Error| error.to_string().lines().next().unwrap().to_owned();
    let refuse = |layer: &Linear, shape: &[usize], dtype| {
        first(layer.forward(&filled(shape, dtype)).unwrap_err())
    };
    assert_eq!(
        refuse(&layer, &[2, 5], DType::F64),
        "the layer has 3 inputs, but x has shape [2, 5]"
    );
    assert_eq!(refuse(&layer, &[2, 3], DType::F32), "x is F32 but the weight is F64; cast one");
    let short = Linear { bias: Some(filled(&[3], DType::F64)), ..layer.clone() };
    assert_eq!(refuse(&short, &[2, 3], DType::F64), "a bias of shape [3] does not fit 4 outputs");
    let flat = Linear { weight: filled(&[12], DType::F64), ..layer.clone() };
    assert_eq!(refuse(&flat, &[2, 3], DType::F64), "a weight has shape [out, in], not [12]");
    let (_, pullback) = layer.linearize(&filled(&[2, 3], DType::F64)).unwrap();
    assert_eq!(
        first(pullback.pull(&filled(&[2, 3], DType::F64)).unwrap_err()),
        "a cotangent of shape [2, 3] does not fit a value of shape [2, 4]"
    );
}

#[test]
fn second_derivatives_are_there_where_candle_keeps_gradients() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([
        "--exact",
        "linear::a_second_derivative_matches",
        "--ignored",
        "--test-threads=1",
    ]);
    let output = command.env("CANDLE_GRAD_DO_NOT_DETACH", "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "runs as a child process in which candle keeps gradients in its graph"]
fn a_second_derivative_matches() {
    // tanh(w x)'' = -2 w^2 tanh (1 - tanh^2)
    let (w, x) = (0.8f64, 0.6f64);
    let weight = Var::new(&[[w]], &Device::Cpu).unwrap().into_inner();
    let layer = Linear { weight, bias: None, activation: Activation::Tanh };
    let input = Var::new(&[[x]], &Device::Cpu).unwrap();
    let value = layer.forward(&input).unwrap().sum_all().unwrap();
    let first = value.backward().unwrap().remove(&input).unwrap().sum_all().unwrap();
    let second = first.backward().unwrap().remove(&input).unwrap();
    let got = second.sum_all().unwrap().to_scalar::<f64>().unwrap();
    let tanh = (w * x).tanh();
    let expected = -2.0 * w * w * tanh * (1.0 - tanh * tanh);
    assert!((got - expected).abs() <= 1e-12, "{got}, closed form {expected}, bound 1e-12");
}

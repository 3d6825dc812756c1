//! Batch norms against sums by their definition, with what they do to running statistics.

use std::process::Command;

use aca_models::layers::{BatchNorm2d, BatchNormMode, Conv2d};
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{Module, VarBuilder, VarMap};
use proptest::prelude::*;
use rayon::ThreadPoolBuilder;

use self::reference::{moments, reference, reference_gradients};
use crate::activations::{distance, filled};

mod reference;

const MODES: [BatchNormMode; 3] =
    [BatchNormMode::Train, BatchNormMode::Frozen, BatchNormMode::Eval];

fn numbers(x: &Tensor) -> Vec<f64> {
    x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// A layer whose parameters are variables, with running statistics of its own.
fn layer(channels: usize, relu: bool, mode: BatchNormMode, dtype: DType) -> BatchNorm2d {
    let var = |scale: f64, start: f64| {
        let x = filled(&[channels], dtype).affine(scale, start).unwrap();
        Var::from_tensor(&x).unwrap().into_inner()
    };
    let running = [var(0.2, 0.1), var(0.1, 0.8)];
    let mut layer = BatchNorm2d::from_tensors([var(0.7, 0.2), var(-0.4, 0.1)], running).unwrap();
    layer.set_mode(mode);
    layer.relu = relu;
    layer
}

fn gradients(layer: &BatchNorm2d, x: &Tensor, z: &Tensor) -> [Tensor; 3] {
    let x = Var::from_tensor(x).unwrap();
    let grads = (layer.forward(&x).unwrap() * z).unwrap().sum_all().unwrap().backward().unwrap();
    [&x, &layer.weight, &layer.bias].map(|x| grads.get(x).unwrap().clone())
}

fn off(ours: &Tensor, theirs: Vec<f64>) -> f64 {
    let theirs = Tensor::from_vec(theirs, ours.shape(), &Device::Cpu).unwrap();
    distance(ours, &theirs)
}

proptest! {
    #[test]
    fn values_are_those_of_the_definition(
        shape in [1..4usize, 1..6usize, 1..9usize, 2..9usize],
        (relu, mode) in (any::<bool>(), 0..3usize),
    ) {
        let (layer, x) = (layer(shape[1], relu, MODES[mode], DType::F64), filled(&shape, DType::F64));
        let expected = reference(&layer, &numbers(&x), shape);
        let off = off(&layer.forward(&x).unwrap(), expected);
        prop_assert!(off <= 1e-12, "{shape:?} {relu} {:?}: {off:e} off, bound 1e-12", MODES[mode]);
    }

    #[test]
    fn gradients_are_those_of_the_definition(
        shape in [1..4usize, 1..6usize, 1..9usize, 3..9usize],
        (relu, mode) in (any::<bool>(), 0..3usize),
    ) {
        let (layer, x) = (layer(shape[1], relu, MODES[mode], DType::F64), filled(&shape, DType::F64));
        let z = x.affine(1.3, 0.4).unwrap().cos().unwrap();
        let expected = reference_gradients(&layer, &numbers(&x), &numbers(&z), shape);
        for (ours, expected) in gradients(&layer, &x, &z).iter().zip(expected) {
            let off = off(ours, expected);
            prop_assert!(off <= 1e-10, "{shape:?} {relu} {:?}: {off:e} off, bound 1e-10", MODES[mode]);
        }
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let shape = [2, 2, 2, 3];
    let (x, z) =
        (filled(&shape, DType::F64), (filled(&shape, DType::F64) * 2.0).unwrap().cos().unwrap());
    for mode in [BatchNormMode::Frozen, BatchNormMode::Eval] {
        let layer = layer(2, true, mode, DType::F64);
        let [ours, ..] = gradients(&layer, &x, &z).map(|x| numbers(&x));
        for (i, ours) in ours.iter().enumerate() {
            let loss = |step: f64| {
                let mut moved = numbers(&x);
                moved[i] += step;
                let moved = Tensor::from_vec(moved, &shape, &Device::Cpu).unwrap();
                let value = (layer.forward(&moved).unwrap() * &z).unwrap();
                value.sum_all().unwrap().to_scalar::<f64>().unwrap()
            };
            let slope = (loss(1e-5) - loss(-1e-5)) / 2e-5;
            assert!(
                (ours - slope).abs() <= 1e-8,
                "{mode:?} {i}: {ours}, differences {slope}, bound 1e-8"
            );
        }
    }
}

#[test]
fn the_trace_is_the_same_function() {
    let x = filled(&[3, 4, 5, 5], DType::F64);
    for (relu, mode) in MODES.into_iter().flat_map(|mode| [(true, mode), (false, mode)]) {
        let (ours, traced) = (layer(4, relu, mode, DType::F64), layer(4, relu, mode, DType::F64));
        let off = distance(&ours.forward(&x).unwrap(), &traced.trace(&x).unwrap());
        assert!(off <= 1e-13, "{relu} {mode:?}: {off:e} off, bound 1e-13");
        for (ours, traced) in ours.running_statistics().iter().zip(traced.running_statistics()) {
            let off = distance(ours, &traced);
            assert!(off <= 1e-14, "{relu} {mode:?}: statistics {off:e} off, bound 1e-14");
        }
    }
}

#[test]
fn running_statistics_go_a_tenth_of_the_way_to_mean_and_unbiased_variance() {
    let shape = [2, 3, 4, 4];
    let (layer, x) =
        (layer(3, false, BatchNormMode::Train, DType::F64), filled(&shape, DType::F64));
    let before = layer.running_statistics().map(|var| numbers(&var));
    layer.forward(&x).unwrap();
    let after = layer.running_statistics().map(|var| numbers(&var));
    for channel in 0..3 {
        let (mean, variance) = moments(&numbers(&x), shape, channel);
        for (i, batch) in [mean, variance * 32.0 / 31.0].into_iter().enumerate() {
            let (value, expected) = (after[i][channel], 0.9 * before[i][channel] + 0.1 * batch);
            assert!((value - expected).abs() <= 1e-14, "{value}, expected {expected}, bound 1e-14");
        }
    }
}

#[test]
fn running_statistics_stay_when_frozen_and_in_evaluation() {
    let x = filled(&[2, 3, 4, 4], DType::F32);
    for mode in [BatchNormMode::Frozen, BatchNormMode::Eval] {
        let layer = layer(3, true, mode, DType::F32);
        let before = layer.running_statistics().map(|var| numbers(&var));
        layer.forward(&x).unwrap();
        layer.trace(&x).unwrap();
        assert_eq!(layer.running_statistics().map(|var| numbers(&var)), before, "{mode:?}");
    }
}

#[test]
fn a_mean_of_ten_thousand_deviations_costs_no_digits() {
    let shape = [4, 2, 16, 16];
    let layer = layer(2, false, BatchNormMode::Train, DType::F32);
    let x = (filled(&shape, DType::F32) + 1e4).unwrap();
    let off = off(&layer.forward(&x).unwrap(), reference(&layer, &numbers(&x), shape));
    assert!(off <= 1e-6, "{off:e} off, bound 1e-6");
}

#[test]
fn gradients_beside_a_mean_of_ten_thousand_deviations_keep_their_digits() {
    let shape = [4, 2, 16, 16];
    let layer = layer(2, false, BatchNormMode::Train, DType::F32);
    let x = (filled(&shape, DType::F32) + 1e4).unwrap();
    let z = (filled(&shape, DType::F32) * 1.9).unwrap().cos().unwrap();
    let expected = reference_gradients(&layer, &numbers(&x), &numbers(&z), shape);
    for (ours, expected) in gradients(&layer, &x, &z).iter().zip(expected) {
        let off = off(ours, expected);
        assert!(off <= 3e-6, "{off:e} off, bound 3e-6");
    }
}

#[test]
fn strided_inputs_give_the_bits_of_contiguous_ones() {
    let x = filled(&[3, 5, 6, 4], DType::F32).transpose(0, 2).unwrap().narrow(1, 1, 3).unwrap();
    let layer = layer(3, true, BatchNormMode::Frozen, DType::F32);
    let (strided, contiguous) = (layer.forward(&x), layer.forward(&x.contiguous().unwrap()));
    assert_eq!(numbers(&strided.unwrap()), numbers(&contiguous.unwrap()));
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let x = filled(&[16, 12, 20, 20], DType::F32);
    let results = [1, 2, 3].map(|threads| {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let layer = layer(12, true, BatchNormMode::Train, DType::F32);
        pool.install(|| gradients(&layer, &x, &x).map(|x| numbers(&x)))
    });
    assert!(results.iter().all(|result| *result == results[0]));
}

#[test]
fn not_a_number_passes_the_cut() {
    let layer = layer(1, true, BatchNormMode::Eval, DType::F32);
    let x = Tensor::new(&[[[[f32::NAN, 1.0]]]], &Device::Cpu).unwrap();
    let value = numbers(&layer.forward(&x).unwrap());
    assert!(value[0].is_nan() && value[1].is_finite(), "{value:?}");
}

#[test]
fn new_layers_have_the_variables_of_pytorch() {
    let map = VarMap::new();
    let vb = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
    BatchNorm2d::new(3, vb).unwrap();
    let data = map.data().lock().unwrap();
    let mut names: Vec<_> = data.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["bias", "running_mean", "running_var", "weight"]);
}

#[test]
fn what_does_not_fit_is_refused_with_its_sizes() {
    let layer = layer(3, false, BatchNormMode::Train, DType::F32);
    for (x, words) in [
        (filled(&[2, 4, 5, 5], DType::F32), "channels [3], but x has shape [2, 4, 5, 5]"),
        (filled(&[3, 5], DType::F32), "[batch, channels, height, width], not [3, 5]"),
        (filled(&[1, 3, 1, 1], DType::F32), "1 numbers per channel, which have no variance"),
        (filled(&[2, 3, 5, 5], DType::F64), "x is F64 but the layer is F32"),
    ] {
        let message = layer.forward(&x).unwrap_err().to_string();
        assert!(message.contains(words), "{message:?} does not say {words:?}");
    }
}

#[test]
fn second_derivatives_are_there_where_candle_keeps_gradients() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let test = "batch_norm::a_second_derivative_matches_finite_differences";
    command.args(["--exact", test, "--ignored", "--test-threads=1"]);
    let output = command.env("CANDLE_GRAD_DO_NOT_DETACH", "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "runs as a child process in which candle keeps gradients in its graph"]
fn a_second_derivative_matches_finite_differences() {
    let shape = [2, 2, 4, 4];
    let weight = Var::from_tensor(&filled(&[2, 2, 3, 3], DType::F64)).unwrap().into_inner();
    let conv = Conv2d { weight, bias: None, stride: 1, padding: [1, 1] };
    let norm = layer(2, false, BatchNormMode::Frozen, DType::F64);
    let (start, along) = (filled(&shape, DType::F64), (filled(&shape, DType::F64) * 3.0).unwrap());
    let along = along.cos().unwrap();
    // The slope of a loss along a direction, as part of the graph.
    let slope = |x: &Var| {
        let value = norm.forward(&conv.forward(x).unwrap()).unwrap();
        let loss = value.powf(3.0).unwrap().sum_all().unwrap();
        let slope = loss.backward().unwrap().remove(x).unwrap();
        slope.mul(&along).unwrap().sum_all().unwrap()
    };
    let moved = |step: f64| {
        let x = Var::from_tensor(&(&start + (&along * step).unwrap()).unwrap()).unwrap();
        slope(&x).to_scalar::<f64>().unwrap()
    };
    let x = Var::from_tensor(&start).unwrap();
    let second = slope(&x).backward().unwrap().remove(&x).unwrap().mul(&along).unwrap();
    let second = second.sum_all().unwrap().to_scalar::<f64>().unwrap();
    let differences = (moved(1e-5) - moved(-1e-5)) / 2e-5;
    let bound = 1e-7 * second.abs();
    assert!(
        (second - differences).abs() <= bound,
        "{second}, differences {differences}, bound {bound:e}"
    );
}

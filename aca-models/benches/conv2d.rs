//! Convolutions of the layers of NODE18, forward and backward, beside candle's own.
#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros; benches may fail")]

use std::hint::black_box;

use aca_models::layers::Conv2d;
use candle_core::{Device, Tensor, Var};
use candle_nn::Module;
use criterion::{Criterion, criterion_group, criterion_main};

/// Input and output channels, size of the image, size of the kernels, stride.
const CASES: [(usize, usize, usize, usize, usize); 8] = [
    (64, 64, 32, 3, 1),
    (128, 128, 16, 3, 1),
    (256, 256, 8, 3, 1),
    (512, 512, 4, 3, 1),
    (3, 64, 32, 3, 1),
    (64, 128, 32, 3, 2),
    (64, 128, 32, 1, 2),
    (64, 64, 32, 1, 1),
];

const BATCH: usize = 16;

fn numbers(shape: &[usize]) -> Tensor {
    Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap()
}

/// The cotangents of the variables among the inputs, for a cotangent of ones: a loss of candle's operations
/// would take longer than the layer.
fn backward(value: Tensor) {
    black_box(value.backward().unwrap());
}

fn convolutions(c: &mut Criterion) {
    for (inner, outer, size, kernel, stride) in CASES {
        let mut group =
            c.benchmark_group(format!("conv {inner}x{size}x{size} to {outer}, {kernel}/{stride}"));
        let x = numbers(&[BATCH, inner, size, size]);
        let weight = numbers(&[outer, inner, kernel, kernel]);
        let padding = kernel / 2;
        let layer = |weight: &Tensor| Conv2d {
            weight: weight.clone(),
            bias: None,
            stride,
            padding: [padding; 2],
        };
        let (x_var, weight_var) =
            (Var::from_tensor(&x).unwrap(), Var::from_tensor(&weight).unwrap());
        let [constant, variable] = [layer(&weight), layer(&weight_var)];
        group.bench_function("forward", |b| b.iter(|| constant.forward(&x).unwrap()));
        group.bench_function("forward and input gradient", |b| {
            b.iter(|| backward(constant.forward(&x_var).unwrap()));
        });
        group.bench_function("forward and weight gradient", |b| {
            b.iter(|| backward(variable.forward(&x).unwrap()));
        });
        group.bench_function("forward and backward", |b| {
            b.iter(|| backward(variable.forward(&x_var).unwrap()));
        });
        let candle = |x: &Tensor, weight: &Tensor| x.conv2d(weight, padding, stride, 1, 1).unwrap();
        group.bench_function("candle, forward", |b| b.iter(|| candle(&x, &weight)));
        group.bench_function("candle, forward and backward", |b| {
            b.iter(|| backward(candle(&x_var, &weight_var)));
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = convolutions
}
criterion_main!(benches);

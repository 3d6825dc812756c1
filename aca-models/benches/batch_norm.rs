//! Batch norms, and the residual branch that they stand in, on the first block of NODE18.
#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros; benches may fail")]

use std::hint::black_box;

use aca_core::{Time, VectorField};
use aca_models::fields::ConvBlock;
use aca_models::layers::BatchNorm2d;
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{Module, VarBuilder, VarMap};
use criterion::{Criterion, criterion_group, criterion_main};

const SHAPE: [usize; 4] = [16, 64, 32, 32];

fn numbers() -> Tensor {
    Tensor::randn(0f32, 1.0, &SHAPE, &Device::Cpu).unwrap()
}

fn norms(c: &mut Criterion) {
    let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
    let layer = BatchNorm2d::new(SHAPE[1], vb.pp("ours")).unwrap().with_relu();
    let theirs = candle_nn::batch_norm(SHAPE[1], 1e-5, vb.pp("theirs")).unwrap();
    let x = numbers();
    let variable = Var::from_tensor(&x).unwrap();
    // Without a loss of candle's operations, which would take most of the time: the cotangent is all ones.
    let backward = |value: Tensor| black_box(value.backward().unwrap());
    let mut group = c.benchmark_group("batch norm and relu");
    group.bench_function("forward", |b| b.iter(|| layer.forward(&x.detach()).unwrap()));
    group.bench_function("forward and backward", |b| {
        b.iter(|| backward(layer.forward(&variable).unwrap()));
    });
    let candle = |x: &Tensor| theirs.forward_train(x).unwrap().relu().unwrap();
    group.bench_function("candle, forward", |b| b.iter(|| candle(&x)));
    group
        .bench_function("candle, forward and backward", |b| b.iter(|| backward(candle(&variable))));
}

fn blocks(c: &mut Criterion) {
    let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
    let field = ConvBlock::new(SHAPE[1], vb).unwrap();
    let (t, y, lambda) = (Time::new(0.0), numbers(), numbers());
    let mut group = c.benchmark_group("block");
    group.bench_function("eval", |b| b.iter(|| field.eval(&t, &y).unwrap()));
    group.bench_function("linearize and pull back", |b| {
        b.iter(|| field.linearize(&t, &y).unwrap().1.apply(&lambda).unwrap());
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30);
    targets = norms, blocks
}
criterion_main!(benches);

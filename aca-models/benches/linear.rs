//! How fast are a fused layer and a field of two of them, beside candle's operations?
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench ends by panicking")]

use aca_core::{Time, VectorField};
use aca_models::fields::{Mlp, MlpConfig, TimeInput};
use aca_models::layers::{Activation, Linear};
use candle_core::{DType, Device, Tensor};
use candle_nn::{Module, VarBuilder, VarMap};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

/// Batch, state and hidden sizes: the workload that all libraries are compared on, and small ones.
const SIZES: [[usize; 3]; 4] = [[256, 64, 256], [1, 2, 16], [32, 2, 64], [32, 8, 64]];

fn builder(dtype: DType) -> VarBuilder<'static> {
    VarBuilder::from_varmap(&VarMap::new(), dtype, &Device::Cpu)
}

fn states(batch: usize, dim: usize, dtype: DType) -> Tensor {
    Tensor::randn(0.0, 1.0, (batch, dim), &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

fn layer(c: &mut Criterion) {
    let mut group = c.benchmark_group("linear and tanh, F32");
    for [batch, dim, hidden] in SIZES {
        let layer = Linear::new(dim, hidden, Activation::Tanh, builder(DType::F32)).unwrap();
        let (x, name) = (states(batch, dim, DType::F32), format!("{batch} x {dim} x {hidden}"));
        group.bench_function(BenchmarkId::new("ours", &name), |b| {
            b.iter(|| layer.forward(&x).unwrap());
        });
        group.bench_function(BenchmarkId::new("candle", &name), |b| {
            b.iter(|| layer.trace(&x).unwrap());
        });
        group.bench_function(BenchmarkId::new("ours with gradient", &name), |b| {
            b.iter(|| layer.forward(&x).unwrap().backward().unwrap());
        });
        group.bench_function(BenchmarkId::new("candle with gradient", &name), |b| {
            b.iter(|| layer.trace(&x).unwrap().backward().unwrap());
        });
    }
}

fn field(c: &mut Criterion) {
    for dtype in [DType::F32, DType::F64] {
        let mut group = c.benchmark_group(format!("field of two layers, {dtype:?}"));
        for [batch, dim, hidden] in SIZES {
            let (activation, time) = (Activation::Tanh, TimeInput::None);
            let config = MlpConfig { dim, hidden: vec![hidden], activation, time };
            let field = Mlp::new(&config, builder(dtype)).unwrap();
            let (t, y) = (Time::new(0.0), states(batch, dim, dtype));
            let name = format!("{batch} x {dim} x {hidden}");
            group.bench_function(BenchmarkId::new("eval", &name), |b| {
                b.iter(|| field.eval(&t, &y).unwrap());
            });
            group.bench_function(BenchmarkId::new("eval by candle", &name), |b| {
                b.iter(|| field.trace(&t, &y).unwrap());
            });
            group.bench_function(BenchmarkId::new("linearize and pull", &name), |b| {
                b.iter(|| field.linearize(&t, &y).unwrap().1.apply(&y).unwrap().y);
            });
            group.bench_function(BenchmarkId::new("trace and backward", &name), |b| {
                b.iter(|| field.trace(&t, &y).unwrap().backward().unwrap());
            });
        }
    }
}

criterion_group!(benches, layer, field);
criterion_main!(benches);

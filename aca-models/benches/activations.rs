//! How fast are activations and their derivatives, beside candle's operations?
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench ends by panicking")]

use aca_models::layers::Activation;
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::Module;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const SIZES: [usize; 3] = [18, 65_536, 1 << 20];

fn numbers(size: usize, dtype: DType) -> Tensor {
    let numbers = (0..size).map(|i| 3.0 * (i as f64).sin());
    Tensor::from_iter(numbers, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

fn value(c: &mut Criterion) {
    for dtype in [DType::F32, DType::F64] {
        for activation in Activation::ALL {
            let mut group = c.benchmark_group(format!("{} {dtype:?}", activation.name()));
            for size in SIZES {
                let x = numbers(size, dtype);
                group.throughput(Throughput::Elements(size as u64));
                group.bench_with_input(BenchmarkId::new("ours", size), &x, |b, x| {
                    b.iter(|| activation.forward(x).unwrap());
                });
                group.bench_with_input(BenchmarkId::new("candle", size), &x, |b, x| {
                    b.iter(|| activation.trace(x).unwrap());
                });
            }
        }
    }
}

/// Value and derivative: what a training step asks for.
fn gradient(c: &mut Criterion) {
    for activation in Activation::ALL {
        let mut group = c.benchmark_group(format!("{} and its gradient, F32", activation.name()));
        for size in SIZES {
            let x = Var::from_tensor(&numbers(size, DType::F32)).unwrap();
            group.throughput(Throughput::Elements(size as u64));
            group.bench_with_input(BenchmarkId::new("ours", size), &x, |b, x| {
                b.iter(|| activation.forward(x).unwrap().backward().unwrap());
            });
            group.bench_with_input(BenchmarkId::new("candle", size), &x, |b, x| {
                b.iter(|| activation.trace(x).unwrap().backward().unwrap());
            });
        }
    }
}

criterion_group!(benches, value, gradient);
criterion_main!(benches);

//! How fast are the stage sum and the error ratio, beside the same in candle's operations?
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench ends by panicking")]

use aca_core::kernels::{Scale, Terms, combine, scaled_norms};
use candle_core::{Device, Tensor};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rayon::prelude::*;

const WEIGHTS: [f64; 7] = [0.3, -0.2, 0.7, 0.1, -0.4, 0.25, 0.05];
const SIZES: [usize; 6] = [18, 4_096, 65_536, 131_072, 262_144, 4_194_304];

fn tensors(size: usize) -> Vec<Tensor> {
    let fill = |phase: usize| (0..size).map(move |i| ((i + phase) as f64).sin());
    (0..8).map(|phase| Tensor::from_iter(fill(phase), &Device::Cpu).unwrap()).collect()
}

/// The limit: bytes read and written by both threads at once, into memory that is there already.
fn copy(c: &mut Criterion) {
    let mut group = c.benchmark_group("copy, f64");
    for size in SIZES {
        let (x, mut y) = (vec![1.0f64; size], vec![0.0f64; size]);
        group.throughput(Throughput::Bytes(2 * 8 * size as u64));
        let part = size.div_ceil(rayon::current_num_threads());
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| {
                let parts = y.par_chunks_mut(part).zip(x.par_chunks(part));
                parts.for_each(|(y, x)| y.copy_from_slice(x));
            });
        });
    }
}

fn stage_sum(c: &mut Criterion) {
    let mut group = c.benchmark_group("stage sum of seven slopes, f64");
    for size in SIZES {
        let x = tensors(size);
        group.throughput(Throughput::Bytes(9 * 8 * size as u64));
        group.bench_with_input(BenchmarkId::new("combine", size), &x, |b, x| {
            let terms: Terms<'_> = WEIGHTS.iter().copied().zip(&x[1..]).collect();
            b.iter(|| combine(Some(&x[0]), &terms).unwrap());
        });
        group.bench_with_input(BenchmarkId::new("candle", size), &x, |b, x| {
            b.iter(|| {
                let scaled = WEIGHTS.iter().zip(&x[1..]).map(|(&w, x)| (x * w).unwrap());
                scaled.fold(x[0].clone(), |y, x| (y + x).unwrap())
            });
        });
    }
}

fn error_ratio(c: &mut Criterion) {
    let mut group = c.benchmark_group("error ratio of seven slopes, f64");
    for size in SIZES {
        let x = tensors(size);
        let scale = Scale::Uniform { rtol: 1e-6, atol: 1e-9 };
        group.throughput(Throughput::Bytes(8 * 8 * size as u64));
        group.bench_with_input(BenchmarkId::new("scaled_norms", size), &x, |b, x| {
            let k: Vec<&Tensor> = x[1..].iter().collect();
            b.iter(|| scaled_norms(&x[0], &x[1], &scale, &k, &[WEIGHTS.to_vec()]).unwrap());
        });
    }
}

criterion_group!(benches, copy, stage_sum, error_ratio);
criterion_main!(benches);

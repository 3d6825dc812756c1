//! What part of the GPU's copy bandwidth do the stage sum and the error ratio reach?
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a bench of its own")]

use std::time::Instant;

use aca_core::kernels::{Scale, Terms, combine, combine_rows, cuda, scaled_norms};
use candle_core::{DType, Device, Tensor};

const WEIGHTS: [f64; 7] = [0.3, -0.2, 0.7, 0.1, -0.4, 0.25, 0.05];

/// Entries of a state; the first argument says otherwise.
const SIZE: usize = 100_000_000;

/// Timed repetitions, of which the median counts, and how often each does its work: the host waits once.
const REPETITIONS: usize = 21;
const WORKS: usize = 10;

/// Bytes a second of `work`, which moves so many bytes.
fn bandwidth(gpu: &Device, bytes: usize, mut work: impl FnMut()) -> f64 {
    let mut seconds: Vec<f64> = (0..REPETITIONS + 2)
        .map(|_| {
            gpu.synchronize().unwrap();
            let start = Instant::now();
            (0..WORKS).for_each(|_| work());
            gpu.synchronize().unwrap();
            start.elapsed().as_secs_f64() / WORKS as f64
        })
        .skip(2)
        .collect();
    seconds.sort_by(f64::total_cmp);
    bytes as f64 / seconds[REPETITIONS / 2]
}

fn measure(gpu: &Device, dtype: DType, size: usize) {
    let state = || Tensor::rand(-1f32, 1f32, size, gpu).unwrap().to_dtype(dtype).unwrap();
    let x: Vec<Tensor> = (0..=WEIGHTS.len()).map(|_| state()).collect();
    let k: Vec<&Tensor> = x[1..].iter().collect();
    let bytes = size * dtype.size_in_bytes();
    let copy = bandwidth(gpu, 2 * bytes, || drop(x[0].copy().unwrap()));
    let line = |what: &str, rate: f64| {
        let (rate, part) = (rate / 1e9, 100.0 * rate / copy);
        println!("{what}, {size} entries of {dtype:?}: {rate:.0} GB/s, {part:.0} % of a copy");
    };
    line("copy", copy);
    let terms: Terms<'_> = WEIGHTS.iter().copied().zip(k.iter().copied()).collect();
    line(
        "stage sum of seven slopes",
        bandwidth(gpu, 9 * bytes, || drop(combine(Some(&x[0]), &terms).unwrap())),
    );
    let (scale, e) = (Scale::Uniform { rtol: 1e-6, atol: 1e-9 }, [WEIGHTS[1..].to_vec()]);
    line(
        "error ratio of six slopes",
        bandwidth(gpu, 8 * bytes, || {
            scaled_norms(&x[0], &x[1], &scale, &k[1..], &e).unwrap();
        }),
    );
    let rows = 4;
    let weights = WEIGHTS.repeat(rows);
    line(
        "four outputs of one step",
        bandwidth(gpu, (8 + rows) * bytes, || drop(combine_rows(&x[0], &weights, &k).unwrap())),
    );
}

fn main() {
    let size = std::env::args().nth(1).and_then(|size| size.parse().ok()).unwrap_or(SIZE);
    match cuda::device(0) {
        Ok(gpu) => [DType::F32, DType::F64].into_iter().for_each(|t| measure(&gpu, t, size)),
        Err(missing) => println!("nothing measured, {missing}"),
    }
}

//! Kernels on a GPU against the CPU's in double precision, and solves on both.
//!
//! Where there is no GPU the tests say so and pass.
#![allow(clippy::print_stderr, reason = "a test that is skipped says why")]

use std::sync::OnceLock;

#[cfg(not(feature = "cuda"))]
use aca_core::Error;
use aca_core::kernels::{self, Scale, cuda};
use candle_core::{DType, Device, Tensor, Var};
use proptest::prelude::*;

#[cfg(not(feature = "cuda"))]
use crate::common::assert_refused;
use crate::common::values;
use crate::kernels::{SIZES, assert_close, noise, noises};

#[cfg(feature = "cuda")]
mod memory;
mod reductions;
mod rows;
mod solves;

const DTYPES: [DType; 4] = [DType::F64, DType::F32, DType::F16, DType::BF16];

const UNIFORM: Scale = Scale::Uniform { rtol: 0.1, atol: 0.25 };

/// The first GPU, if there is one.
fn gpu() -> Option<Device> {
    static GPU: OnceLock<Result<Device, String>> = OnceLock::new();
    let gpu = GPU.get_or_init(|| cuda::device(0).map_err(|missing| missing.to_string()));
    gpu.as_ref().inspect_err(|missing| eprintln!("skipped, {missing}")).ok().cloned()
}

fn rounding(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => f64::EPSILON,
        DType::F32 => f64::from(f32::EPSILON),
        DType::F16 => 2f64.powi(-10),
        _ => 2f64.powi(-7),
    }
}

/// A tensor on the GPU, and what it holds on the CPU in double precision.
struct Twin {
    gpu: Tensor,
    cpu: Tensor,
}

impl Twin {
    fn new(x: &Tensor, gpu: &Device) -> Self {
        Self { gpu: x.to_device(gpu).unwrap(), cpu: x.to_dtype(DType::F64).unwrap() }
    }

    fn noise(shape: &[usize], seed: u64, dtype: DType, gpu: &Device) -> Self {
        Self::new(&noise(shape.iter().product(), seed, dtype).reshape(shape).unwrap(), gpu)
    }

    fn map(&self, f: impl Fn(&Tensor) -> candle_core::Result<Tensor>) -> Self {
        Self { gpu: f(&self.gpu).unwrap(), cpu: f(&self.cpu).unwrap() }
    }
}

fn twins(count: usize, shape: &[usize], dtype: DType, gpu: &Device) -> Vec<Twin> {
    (0..count).map(|i| Twin::noise(shape, 17 + i as u64, dtype, gpu)).collect()
}

fn on_gpu(twins: &[Twin]) -> Vec<&Tensor> {
    twins.iter().map(|twin| &twin.gpu).collect()
}

fn on_cpu(twins: &[Twin]) -> Vec<&Tensor> {
    twins.iter().map(|twin| &twin.cpu).collect()
}

fn weights(count: usize) -> Vec<f64> {
    values(&noise(count, 99, DType::F64))
}

fn weighted<'a>(weights: &[f64], xs: &[&'a Tensor]) -> Vec<(f64, &'a Tensor)> {
    weights.iter().copied().zip(xs.iter().copied()).collect()
}

/// Asserts that a sum of `terms` numbers of at most 1 is right up to rounding.
fn assert_sum(found: &Tensor, expected: &Tensor, terms: usize, what: &str) {
    let dtype = found.dtype();
    assert_eq!(found.dims(), expected.dims(), "{what}");
    // Sums of half types round once at their end and, beyond sixteen terms, once for each further launch.
    let bound = 2.0 * (terms + 2) as f64 * rounding(dtype);
    assert_close(found, &values(expected), bound, &format!("{what} {dtype:?}"));
}

#[cfg(not(feature = "cuda"))]
#[test]
fn asking_for_a_gpu_names_the_missing_feature() {
    assert_refused(
        cuda::device(0),
        |error| matches!(error, Error::CudaNotBuilt { ordinal: 0 }),
        "GPU 0 was requested, but this build has no GPU support; build with the feature cuda",
    );
}

#[cfg(feature = "cuda")]
#[test]
fn asking_for_a_gpu_without_driver_names_it() {
    let Err(error) = cuda::device(0) else {
        return eprintln!("there is a GPU, so its driver is not missing");
    };
    let text = error.to_string();
    assert!(text.starts_with("GPU 0 cannot be used: "), "{text}");
    assert!(text.contains("; install NVIDIA's driver, or compute on the CPU"), "{text}");
}

#[test]
fn gpus_have_one_handle_and_tensors_of_another_are_refused() {
    let Some(gpu) = gpu() else { return };
    assert!(gpu.same_device(&cuda::device(0).unwrap()));
    let other = Device::new_cuda(0).unwrap();
    let [here, there] = [&gpu, &other].map(|gpu| noise(5, 1, DType::F64).to_device(gpu).unwrap());
    for refused in [
        kernels::combine(Some(&here), &[(1.0, &there)]).map(|_| ()),
        kernels::dot(&here, &there).map(|_| ()),
    ] {
        let text = refused.unwrap_err().to_string();
        let expected = "tensors of one solve lie on Cuda { gpu_id: 0 } and another handle of Cuda { gpu_id: 0 }; \
                        move them to one device";
        assert_eq!(text, expected);
    }
}

#[test]
fn combine_on_a_gpu_adds_any_number_of_terms() {
    let Some(gpu) = gpu() else { return };
    for dtype in DTYPES {
        for (size, count) in SIZES.into_iter().zip([1, 3, 16, 17, 8, 40]) {
            let (base, xs) =
                (Twin::noise(&[size], 1, dtype, &gpu), twins(count, &[size], dtype, &gpu));
            let w = weights(count);
            let (here, there) = (weighted(&w, &on_cpu(&xs)), weighted(&w, &on_gpu(&xs)));
            for (base, what) in [(Some(&base), "with base"), (None, "without")] {
                let expected = kernels::combine(base.map(|base| &base.cpu), &here).unwrap();
                let found = kernels::combine(base.map(|base| &base.gpu), &there).unwrap();
                assert_sum(&found, &expected, count, &format!("{count} of {size}, {what}"));
            }
        }
    }
}

#[test]
fn combine_on_a_gpu_reads_every_layout() {
    let Some(gpu) = gpu() else { return };
    for dtype in DTYPES {
        let x = Twin::noise(&[9, 8], 3, dtype, &gpu);
        let parts = [
            x.map(|x| x.t()?.narrow(0, 1, 5)?.narrow(1, 2, 7)),
            x.map(|x| x.narrow(0, 3, 5)?.narrow(1, 1, 7)),
            x.map(|x| x.flatten_all()?.narrow(0, 3, 35)?.reshape((5, 7))),
            x.map(|x| x.narrow(0, 0, 1)?.narrow(1, 0, 7)?.broadcast_as((5, 7))),
        ];
        let w = weights(parts.len());
        let expected = kernels::combine(None, &weighted(&w, &on_cpu(&parts))).unwrap();
        let found = kernels::combine(None, &weighted(&w, &on_gpu(&parts))).unwrap();
        assert_sum(&found, &expected, parts.len(), "layouts");
    }
}

#[test]
fn tracked_sums_on_a_gpu_stay_in_candles_graph() {
    let Some(gpu) = gpu() else { return };
    let x = Var::new(&[1.0f64, 2.0], &gpu).unwrap();
    let sum = kernels::combine(Some(&x), &[(0.5, &x)]).unwrap().sum_all().unwrap();
    let grads = sum.backward().unwrap();
    assert_eq!(values(grads.get(&x).unwrap()), [1.5, 1.5]);
}

proptest! {
    #[test]
    fn combine_on_a_gpu_is_the_sum_over_any_shape(
        shape in prop::collection::vec(1..9usize, 1..4),
        count in 1..40usize,
        seed in any::<u64>(),
    ) {
        if let Some(gpu) = gpu() {
            for dtype in DTYPES {
                let xs = noises(count, shape.iter().product::<usize>() + 3, dtype);
                let slice = |x: &Tensor| {
                    let start = (seed % 4) as usize;
                    x.narrow(0, start, shape.iter().product()).unwrap().reshape(shape.as_slice()).unwrap()
                };
                let xs: Vec<Twin> = xs.iter().map(|x| Twin::new(&slice(x), &gpu)).collect();
                let w = weights(count);
                let expected = kernels::combine(None, &weighted(&w, &on_cpu(&xs))).unwrap();
                let found = kernels::combine(None, &weighted(&w, &on_gpu(&xs))).unwrap();
                assert_sum(&found, &expected, count, "random shape");
            }
        }
    }
}

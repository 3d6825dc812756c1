//! Layers, fields and networks on a GPU against the CPU's.
//!
//! Where there is no GPU the tests say so and pass.
#![allow(clippy::print_stderr, reason = "a test that is skipped says why")]

use std::sync::OnceLock;

use candle_core::{DType, Device, Tensor, Var};

use crate::activations::{distance, filled};

mod fields;
mod layers;
mod networks;
mod systems;

const DTYPES: [DType; 2] = [DType::F64, DType::F32];

/// The first GPU, if there is one.
fn gpu() -> Option<Device> {
    static GPU: OnceLock<Result<Device, String>> = OnceLock::new();
    let open = || aca_core::kernels::cuda::device(0).map_err(|missing| missing.to_string());
    let gpu = GPU.get_or_init(open);
    gpu.as_ref().inspect_err(|missing| eprintln!("skipped, {missing}")).ok().cloned()
}

/// A variable of the same entries on every device.
fn var(shape: &[usize], scale: f64, (dtype, device): (DType, &Device)) -> Var {
    let entries = filled(shape, dtype).affine(scale, 0.05).unwrap();
    Var::from_tensor(&entries.to_device(device).unwrap()).unwrap()
}

/// A cotangent of a value.
fn cotangent(value: &Tensor) -> Tensor {
    let entries = filled(value.dims(), value.dtype()).affine(1.3, 0.2).unwrap().cos().unwrap();
    entries.to_device(value.device()).unwrap()
}

/// A value and its gradients with respect to `vars`, by candle's backward.
fn value_and_gradients(value: &Tensor, vars: &[&Var]) -> Vec<Tensor> {
    let loss = (value * cotangent(value)).unwrap().sum_all().unwrap();
    let grads = loss.backward().unwrap();
    let of = |var: &&Var| grads.get(var).cloned().unwrap_or_else(|| var.zeros_like().unwrap());
    std::iter::once(value.detach()).chain(vars.iter().map(of)).collect()
}

/// Asserts that what `results` makes on the GPU is what it makes on the CPU, up to so many roundings of the
/// largest entry of each tensor.
fn assert_same(what: &str, roundings: f64, results: impl Fn(DType, &Device) -> Vec<Tensor>) {
    let Some(gpu) = gpu() else { return };
    for dtype in DTYPES {
        let (here, there) = (results(dtype, &Device::Cpu), results(dtype, &gpu));
        let unit = if dtype == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) };
        for (i, (here, there)) in here.iter().zip(&there).enumerate() {
            assert_eq!(here.dims(), there.dims(), "{what}, result {i}");
            let there = there.to_device(&Device::Cpu).unwrap();
            let (off, bound) = (distance(&there, here), roundings * unit);
            assert!(
                off <= bound,
                "{what} in {dtype:?}, result {i}: off by {off:e}, bound {bound:e}"
            );
        }
        assert_eq!(here.len(), there.len(), "{what}");
    }
}

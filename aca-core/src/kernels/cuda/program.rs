//! The kernels compiled for a GPU, and the memory that it lends.
#![allow(unsafe_code, reason = "the driver's settings have no safe form")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::CudaDevice;
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::result;
use candle_core::cuda_backend::cudarc::driver::sys::{CUdevice_attribute, CUmemPool_attribute};
use candle_core::cuda_backend::cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};

use crate::Result;

const SOURCE: &str =
    concat!(include_str!("elements.cu"), include_str!("sums.cu"), include_str!("reductions.cu"));

/// Returns the kernels' PTX for the GPU of that number, compiled once a process.
pub(super) fn program(device: &CudaDevice) -> Result<Arc<str>> {
    static PROGRAMS: Mutex<BTreeMap<usize, Arc<str>>> = Mutex::new(BTreeMap::new());
    let stream = device.cuda_stream();
    let context = stream.context();
    let mut programs = PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(program) = programs.get(&context.ordinal()) {
        return Ok(program.clone());
    }
    let part = |attribute| context.attribute(attribute).w();
    let capability = (
        part(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
        part(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
    );
    let program = compile(capability)?;
    programs.insert(context.ordinal(), program.clone());
    Ok(program)
}

fn compile((major, minor): (i32, i32)) -> Result<Arc<str>> {
    let options = vec![format!("--gpu-architecture=compute_{major}{minor}"), "--std=c++17".into()];
    let ptx =
        compile_ptx_with_opts(SOURCE, CompileOptions { options, ..Default::default() }).w()?;
    Ok(ptx.to_src().into())
}

/// Lets the driver keep freed memory for the next tensors: by default it goes back whenever the host
/// waits, which a solve does once a step.
pub(super) fn keep_memory(device: &CudaDevice) -> candle_core::Result<()> {
    let stream = device.cuda_stream();
    if !stream.context().has_async_alloc() {
        return Ok(());
    }
    let mut bytes = u64::MAX;
    let threshold = CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    // SAFETY: the device is the context's own, and this attribute is a number of 64 bits.
    unsafe {
        let pool = result::device::get_mem_pool(stream.context().cu_device()).w()?;
        result::mem_pool::set_attribute(pool, threshold, (&raw mut bytes).cast()).w()
    }
}

#[cfg(test)]
mod tests {
    use super::super::reductions::{Dots, Finite, Norms};
    use super::super::sums::{Combine, Picked, Rows};
    use super::compile;

    #[test]
    fn kernels_compile_for_turing_and_later_and_take_structures_of_our_size() {
        for capability in [(7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)] {
            let program = compile(capability).unwrap_or_else(|e| panic!("{capability:?}: {e}"));
            for (kernel, size) in [
                ("combine", size_of::<Combine>()),
                ("combine_rows", size_of::<Rows>()),
                ("combine_picked", size_of::<Picked>()),
                ("norms", size_of::<Norms>()),
                ("dots", size_of::<Dots>()),
                ("first_non_finite", size_of::<Finite>()),
            ] {
                for dtype in ["f64", "f32", "f16", "bf16", "f64_packs", "bf16_packs"] {
                    let parameter = format!("{kernel}_{dtype}_param_0[{size}]");
                    assert!(program.contains(&parameter), "no {parameter} for {capability:?}");
                }
            }
        }
    }
}

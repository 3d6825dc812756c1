//! GPUs as they are opened, and the kernels compiled for them.
#![allow(unsafe_code, reason = "the driver's settings have no safe form")]

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use candle_core::cuda_backend::cudarc::driver::sys::{CUdevice_attribute, CUmemPool_attribute};
use candle_core::cuda_backend::cudarc::driver::{CudaFunction, result};
use candle_core::cuda_backend::cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};
use candle_core::cuda_backend::{DeviceId, WrapErr};
use candle_core::{CudaDevice, Device};

use crate::Result;

/// What every program begins with: packs of elements, and sums over a block.
const ELEMENTS: &str = include_str!("elements.cu");

/// The passes over states of this crate.
pub(super) static STATES: Program =
    Program::new("aca states", &[include_str!("sums.cu"), include_str!("reductions.cu")]);

/// Kernels in CUDA C, compiled by NVRTC for the GPU at hand when the first of them is launched.
///
/// They see what `elements.cu` of this crate declares, and include nothing.
pub struct Program {
    name: &'static str,
    parts: &'static [&'static str],
    compiled: Mutex<BTreeMap<usize, Arc<str>>>,
    loaded: OnceLock<Mutex<HashMap<DeviceId, Kernels>>>,
}

/// Kernels by their names, so that the driver looks for each once.
type Kernels = HashMap<String, CudaFunction>;

impl Program {
    /// A program of several parts, to be kept in a `static`; no other has its name.
    pub const fn new(name: &'static str, parts: &'static [&'static str]) -> Self {
        Self { name, parts, compiled: Mutex::new(BTreeMap::new()), loaded: OnceLock::new() }
    }

    /// Returns the program's PTX for GPUs of a compute capability, which need not be there.
    ///
    /// # Errors
    /// When NVRTC refuses the program.
    pub fn compile(&self, (major, minor): (i32, i32)) -> Result<Arc<str>> {
        let source: String = [&[ELEMENTS], self.parts].concat().concat();
        let options =
            vec![format!("--gpu-architecture=compute_{major}{minor}"), "--std=c++17".into()];
        let ptx =
            compile_ptx_with_opts(source, CompileOptions { options, ..Default::default() }).w()?;
        Ok(ptx.to_src().into())
    }

    /// A kernel of the program on a GPU, where candle keeps the loaded module.
    pub(super) fn function(&self, device: &CudaDevice, kernel: &str) -> Result<CudaFunction> {
        let loaded = self.loaded.get_or_init(Mutex::default);
        let mut loaded = loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let kernels = loaded.entry(device.id()).or_default();
        if let Some(function) = kernels.get(kernel) {
            return Ok(function.clone());
        }
        let function = device.get_or_load_custom_func(kernel, self.name, &self.ptx(device)?)?;
        let function = function.into_cuda_function();
        kernels.insert(kernel.to_owned(), function.clone());
        Ok(function)
    }

    /// The PTX for the GPU of that number, compiled once per process.
    fn ptx(&self, device: &CudaDevice) -> Result<Arc<str>> {
        let stream = device.cuda_stream();
        let context = stream.context();
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ptx) = compiled.get(&context.ordinal()) {
            return Ok(ptx.clone());
        }
        let part = |attribute| context.attribute(attribute).w();
        let capability = (
            part(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            part(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        );
        let ptx = self.compile(capability)?;
        compiled.insert(context.ordinal(), ptx.clone());
        Ok(ptx)
    }
}

/// Opens the GPU of that number, or returns it as it was opened before.
pub(super) fn open(ordinal: usize) -> candle_core::Result<Device> {
    static OPEN: Mutex<BTreeMap<usize, Device>> = Mutex::new(BTreeMap::new());
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(device) = open.get(&ordinal) {
        return Ok(device.clone());
    }
    let device = Device::new_cuda_with_stream(ordinal)?;
    let gpu = device.as_cuda_device()?;
    // SAFETY: events, two for every tensor, make streams wait for each other, and whatever is made of this
    // device has its only one.
    unsafe { gpu.disable_event_tracking() };
    keep_memory(gpu)?;
    open.insert(ordinal, device.clone());
    Ok(device)
}

/// Lets the driver keep freed memory for the next tensors: by default it goes back whenever the host
/// waits, which a solve does once per step.
fn keep_memory(device: &CudaDevice) -> candle_core::Result<()> {
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
    use super::super::finite::Finite;
    use super::super::reductions::{Dots, Norms};
    use super::super::sums::{Combine, Picked, Rows};
    use super::STATES;

    #[test]
    fn kernels_compile_for_turing_and_later_and_take_structures_of_our_size() {
        for capability in [(7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)] {
            let program =
                STATES.compile(capability).unwrap_or_else(|e| panic!("{capability:?}: {e}"));
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

//! States on NVIDIA's GPUs, with the feature `cuda`.
//!
//! The kernels are CUDA C beside this file. NVRTC compiles them for the GPU at hand when the first of them is launched,
//! so building this crate needs no NVIDIA compiler; candle keeps the loaded module with its device. Only reading the
//! result of a sum waits for the GPU.

use candle_core::Device;

use crate::{Error, Result};

#[cfg(feature = "cuda")]
mod call;
#[cfg(feature = "cuda")]
mod finite;
#[cfg(feature = "cuda")]
mod launch;
#[cfg(feature = "cuda")]
mod program;
#[cfg(feature = "cuda")]
mod reductions;
#[cfg(feature = "cuda")]
mod rows;
#[cfg(feature = "cuda")]
mod sums;

#[cfg(feature = "cuda")]
pub use {
    call::{Argument, Kernel, Source, empty, tensor},
    launch::Grid,
    program::Program,
};
#[cfg(feature = "cuda")]
pub(super) use {
    finite::first_non_finite,
    reductions::{dots, norms},
    rows::{add_rows, choose_rows, gather_rows},
    sums::{combine, combine_picked, combine_rows},
};

#[cfg(feature = "cuda")]
pub(crate) use finite::Watch;

/// States on a GPU, in a build without GPU support.
#[cfg(not(feature = "cuda"))]
pub(crate) enum Watch {}

#[cfg(not(feature = "cuda"))]
impl Watch {
    pub(crate) fn over(_: &candle_core::Tensor) -> Result<Option<Self>> {
        Ok(None)
    }

    pub(crate) fn look(&mut self, _: &candle_core::Tensor) -> Result<()> {
        match *self {}
    }

    pub(crate) fn read(&self) -> Result<Option<(usize, usize)>> {
        match *self {}
    }
}

/// Returns the GPU of that number, counted from 0; every call gives the same handle.
///
/// All threads of the process queue their work in one stream of this device, so a tensor may be made in one thread and
/// used in another, as `Gradient::Naive` does. With candle's own `Device::new_cuda` every thread has its own stream,
/// and streams do not wait for each other. Memory that tensors free stays with the process, for the next ones.
///
/// # Errors
/// [`Error::CudaNotBuilt`] without the feature `cuda`; [`Error::CudaUnavailable`] when the machine has
/// no driver, or no GPU of that number.
pub fn device(ordinal: usize) -> Result<Device> {
    #[cfg(feature = "cuda")]
    return program::open(ordinal).map_err(|cause| {
        // The rest is a backtrace.
        let cause = cause.to_string().lines().next().unwrap_or_default().to_owned();
        Error::CudaUnavailable { ordinal, cause }
    });
    #[cfg(not(feature = "cuda"))]
    Err(Error::CudaNotBuilt { ordinal })
}

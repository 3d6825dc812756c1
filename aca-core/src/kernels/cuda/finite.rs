//! Looking for entries that are not finite.
#![allow(unsafe_code, reason = "structures of addresses go to the GPU as they are")]

use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtrMut, DeviceRepr};
use candle_core::cuda_backend::{CudaDevice, WrapErr};
use candle_core::{DType, Device, Tensor};

use super::super::View;
use super::launch::{Gpu, Grid, Inputs, aligned};
use crate::Result;

/// See `Finite` in `reductions.cu`.
#[repr(C)]
pub(super) struct Finite {
    first: u64,
    x: u64,
    size: u64,
    base: u64,
}

// SAFETY: numbers alone, laid out as C does.
unsafe impl DeviceRepr for Finite {}

/// See [`super::super::first_non_finite`]; the tensor is contiguous.
pub(crate) fn first_non_finite(device: &CudaDevice, x: &Tensor) -> Result<Option<usize>> {
    let mut found = Found::new(device, x.dtype())?;
    found.look(x, 0)?;
    Ok(found.read()?.map(|first| first as usize))
}

/// The states of a solve, looked at one after the other and read about once.
pub(crate) struct Watch {
    found: Found,
    size: u64,
    looks: u64,
}

impl Watch {
    /// A watch over states like `y`, if they live on a GPU.
    pub(crate) fn over(y: &Tensor) -> Result<Option<Self>> {
        let Device::Cuda(device) = y.device() else { return Ok(None) };
        let found = Found::new(device, y.dtype())?;
        Ok(Some(Self { found, size: y.elem_count() as u64, looks: 0 }))
    }

    /// Has the GPU look at `x`, of the size of the states, and does not wait for it.
    pub(crate) fn look(&mut self, x: &Tensor) -> Result<()> {
        self.found.look(&x.contiguous()?, self.looks * self.size)?;
        self.looks += 1;
        Ok(())
    }

    /// Waits for the GPU; returns the number of the first look that found something, from 0, and the
    /// index of the entry.
    pub(crate) fn read(&self) -> Result<Option<(usize, usize)>> {
        let found = self.found.read()?;
        Ok(found.map(|first| ((first / self.size) as usize, (first % self.size) as usize)))
    }
}

/// The smallest index found so far, in the memory of a GPU.
struct Found {
    device: CudaDevice,
    dtype: DType,
    first: CudaSlice<u64>,
}

impl Found {
    fn new(device: &CudaDevice, dtype: DType) -> Result<Self> {
        let first = Gpu::new(device, dtype)?.stream.clone_htod(&[u64::MAX]).w()?;
        Ok(Self { device: device.clone(), dtype, first })
    }

    /// Looks at a contiguous tensor whose first entry has the index `base`.
    fn look(&mut self, x: &Tensor, base: u64) -> Result<()> {
        let (gpu, size) = (Gpu::new(&self.device, self.dtype)?, x.elem_count());
        let view = View::held(x);
        let mut inputs = Inputs::new(&gpu);
        let x = inputs.address(&view, size)?;
        let packs = aligned([x]);
        let grid = Grid::over(if packs { size.div_ceil(gpu.pack()) } else { size });
        let (first, written) = self.first.device_ptr_mut(&gpu.stream);
        let arguments = Finite { first, x, size: size as u64, base };
        gpu.launch("first_non_finite", packs, &grid, &arguments)?;
        drop((written, inputs));
        Ok(())
    }

    fn read(&self) -> Result<Option<u64>> {
        let found = self.device.cuda_stream().clone_dtoh(&self.first).w()?;
        Ok(found.first().copied().filter(|&first| first != u64::MAX))
    }
}

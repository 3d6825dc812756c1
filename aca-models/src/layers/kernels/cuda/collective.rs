//! What ranks send each other from GPU to GPU, by NCCL.
#![allow(
    unsafe_code,
    reason = "NCCL's handle is a pointer, and results are written to memory as it comes"
)]

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DeviceRepr};
use candle_core::cuda_backend::cudarc::nccl::result::NcclError;
use candle_core::cuda_backend::cudarc::nccl::safe::{NcclType, group_end, group_start};
use candle_core::cuda_backend::cudarc::nccl::{Comm, Id};
use candle_core::cuda_backend::{CudaDType, WrapErr};
use candle_core::{CudaDevice, CudaStorage, Error, Result, Tensor};

use super::storage;
use aca_core::kernels::cuda::tensor;

/// Element types that NCCL sends.
pub(crate) trait Sent: NcclType + DeviceRepr + CudaDType {}

impl Sent for f32 {}
impl Sent for f64 {}

/// The ranks of a run, each with a GPU.
pub(crate) struct Collective {
    device: CudaDevice,
    comm: Mutex<OneThread>,
}

/// NCCL's handle, which wants its calls one at a time.
struct OneThread(Comm);

// SAFETY: NCCL lets any thread call, as long as no two do at once, which the mutex around it prevents.
unsafe impl Send for OneThread {}

impl Collective {
    /// A name by which the ranks of a run find each other.
    pub(crate) fn name() -> Result<[u8; 128]> {
        Ok(Id::new().map_err(failed)?.internal().map(|letter| letter as u8))
    }

    /// Joins the ranks of that name; returns when all have come.
    pub(crate) fn join(
        device: &CudaDevice,
        [rank, size]: [usize; 2],
        name: [u8; 128],
    ) -> Result<Self> {
        let stream = device.cuda_stream();
        // NCCL takes the GPU that the thread has chosen last.
        stream.context().bind_to_thread().w()?;
        let id = Id::uninit(name.map(|letter| letter as std::ffi::c_char));
        let comm = Comm::from_rank(stream, rank, size, id).map_err(failed)?;
        Ok(Self { device: device.clone(), comm: Mutex::new(OneThread(comm)) })
    }

    /// The GPU of this rank.
    pub(crate) fn device(&self) -> &CudaDevice {
        &self.device
    }

    /// Returns the parts that all ranks have of this one's: of `[ranks, part]`, row by row.
    pub(crate) fn exchange<T: Sent>(&self, numbers: &Tensor) -> Result<Tensor> {
        let (ranks, part) = numbers.dims2()?;
        let row = |rank: usize| rank * part..(rank + 1) * part;
        let (held, layout) = numbers.storage_and_layout();
        let sent = storage(&held)?.as_cuda_slice::<T>()?;
        let mut received = self.empty::<T>(ranks * part)?;
        let comm = self.lock()?;
        group_start().map_err(failed)?;
        for rank in 0..ranks {
            let from = offset(row(rank), layout.start_offset());
            comm.0.send(&sent.slice(from), rank as i32).map_err(failed)?;
            // All of it is on this stream, so that what follows there waits for it.
            comm.0.recv(&mut received.slice_mut(row(rank)), rank as i32).map_err(failed)?;
        }
        group_end().map_err(failed)?;
        drop(comm);
        Ok(tensor(self.storage(received), (ranks, part)))
    }

    /// Returns the numbers of all ranks, one after the other.
    pub(crate) fn gather<T: Sent>(&self, numbers: &Tensor, ranks: usize) -> Result<Tensor> {
        let (held, layout) = numbers.storage_and_layout();
        let sent = storage(&held)?.as_cuda_slice::<T>()?;
        let size = numbers.elem_count();
        let mut received = self.empty::<T>(ranks * size)?;
        let from = sent.slice(offset(0..size, layout.start_offset()));
        self.lock()?.0.all_gather(&from, &mut received).map_err(failed)?;
        Ok(tensor(self.storage(received), ranks * size))
    }

    /// Returns the tensor of rank `root`; all have the same shape.
    pub(crate) fn broadcast<T: Sent>(&self, x: &Tensor, root: usize) -> Result<Tensor> {
        let (held, layout) = x.storage_and_layout();
        let sent = storage(&held)?.as_cuda_slice::<T>()?;
        let mut received = self.empty::<T>(x.elem_count())?;
        let from = sent.slice(offset(0..x.elem_count(), layout.start_offset()));
        self.lock()?.0.broadcast(Some(&from), &mut received, root as i32).map_err(failed)?;
        Ok(tensor(self.storage(received), x.shape()))
    }

    fn lock(&self) -> Result<MutexGuard<'_, OneThread>> {
        self.device.cuda_stream().context().bind_to_thread().w()?;
        Ok(self.comm.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn empty<T: Sent>(&self, size: usize) -> Result<CudaSlice<T>> {
        // SAFETY: every use is followed by a message that writes every element.
        unsafe { self.device.alloc::<T>(size) }
    }

    fn storage<T: Sent>(&self, slice: CudaSlice<T>) -> CudaStorage {
        CudaStorage::wrap_cuda_slice(slice, self.device.clone())
    }
}

fn offset(range: Range<usize>, by: usize) -> Range<usize> {
    range.start + by..range.end + by
}

fn failed(NcclError(code): NcclError) -> Error {
    Error::msg(format!(
        "NCCL answered {code:?}; with NCCL_DEBUG=INFO in the environment it says more"
    ))
}

//! Launches, what they read and what they write.
#![allow(unsafe_code, reason = "a launch hands addresses to the GPU")]

use std::sync::Arc;

use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::cuda_backend::cudarc::driver::{
    CudaStream, DevicePtr, DevicePtrMut, DeviceRepr, LaunchConfig, PushKernelArg, SyncOnDrop,
};
use candle_core::cuda_backend::{CudaStorageSlice, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, DType, Shape, Storage, Tensor};
use smallvec::SmallVec;

use super::super::View;
use super::program::STATES;
use crate::{Error, Result};

/// Terms of one launch, as in `sums.cu`.
pub(super) const TERMS: usize = 16;

/// Rows of a dense output that one thread sums, as in `sums.cu`.
pub(super) const TILE: usize = 4;

/// Largest number of threads in a block, as in `elements.cu`.
const THREADS: usize = 256;

/// Largest number of blocks that share the entries of a state; several times those that run at once,
/// so that few wait for the last.
const BLOCKS: usize = 8192;

/// Bytes that a thread reads at once where an address and a length allow it.
const PACK: usize = 16;

/// Where and on what type kernels run.
pub(super) struct Gpu<'a> {
    pub(super) device: &'a CudaDevice,
    pub(super) stream: Arc<CudaStream>,
    pub(super) dtype: DType,
}

/// How many blocks of how many threads run.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    /// Blocks along the grid's two axes.
    pub blocks: [usize; 2],
    /// Threads of a block.
    pub threads: usize,
}

impl Grid {
    /// One thread for each of `items`, or for several.
    pub fn over(items: usize) -> Self {
        let threads = threads(items);
        Self { blocks: [items.div_ceil(threads).clamp(1, BLOCKS), 1], threads }
    }
}

/// Threads of a block that has `items` to go through: whole warps.
pub(super) fn threads(items: usize) -> usize {
    items.clamp(1, THREADS).next_multiple_of(32)
}

impl<'a> Gpu<'a> {
    /// # Errors
    /// [`Error::UnsupportedDType`] when the kernels do not know the type.
    pub(super) fn new(device: &'a CudaDevice, dtype: DType) -> Result<Self> {
        match dtype {
            DType::F64 | DType::F32 | DType::F16 | DType::BF16 => {
                Ok(Self { device, stream: device.cuda_stream(), dtype })
            }
            dtype => Err(Error::UnsupportedDType { dtype }),
        }
    }

    /// Elements that a thread reads at once where it can.
    pub(super) fn pack(&self) -> usize {
        PACK / self.dtype.size_in_bytes()
    }

    /// Launches a kernel of this type of elements, by packs or element by element.
    pub(super) fn launch<A: DeviceRepr>(
        &self,
        kernel: &str,
        packs: bool,
        grid: &Grid,
        arguments: &A,
    ) -> Result<()> {
        let suffix = if packs { "_packs" } else { "" };
        let name = format!("{kernel}_{}{suffix}", self.dtype.as_str());
        let function = STATES.function(self.device, &name)?;
        let mut builder = self.stream.launch_builder(&function);
        builder.arg(arguments);
        // SAFETY: the kernel takes one structure, of this layout; whoever filled it says why its
        // addresses hold.
        unsafe { builder.launch(grid.config()) }.w()?;
        Ok(())
    }

    /// Launches the sum over the parts of `[rows, parts, results]`.
    ///
    /// # Safety
    /// `sums` and `parts` are addresses of so many numbers, alive until the launch has run.
    pub(super) unsafe fn sum_parts(
        &self,
        sums: u64,
        parts: u64,
        [rows, count, results]: [usize; 3],
    ) -> Result<()> {
        let function = STATES.function(self.device, "sum_parts")?;
        let grid = Grid { blocks: [rows, results], threads: threads(count) };
        let count = count as i32;
        let mut builder = self.stream.launch_builder(&function);
        builder.arg(&sums).arg(&parts).arg(&count);
        // SAFETY: the kernel takes these three; the addresses are the caller's promise.
        unsafe { builder.launch(grid.config()) }.w()?;
        Ok(())
    }

    /// Memory for a result, not yet written.
    pub(super) fn empty(&self, shape: &Shape) -> Result<CudaStorage> {
        // SAFETY: every caller has a kernel write every element before the storage becomes a tensor.
        Ok(unsafe { self.device.alloc_uninit(shape, self.dtype)? })
    }

    /// A result that a kernel has been told to write.
    pub(super) fn tensor(&self, storage: CudaStorage, shape: Shape) -> Tensor {
        Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false)
    }
}

impl Grid {
    pub(super) fn config(&self) -> LaunchConfig {
        let [x, y] = self.blocks.map(|blocks| blocks as u32);
        let block_dim = (self.threads as u32, 1, 1);
        LaunchConfig { grid_dim: (x, y, 1), block_dim, shared_mem_bytes: 0 }
    }
}

/// What launches read, until they have been submitted.
pub(super) struct Inputs<'a> {
    gpu: &'a Gpu<'a>,
    held: SmallVec<[SyncOnDrop<'a>; 16]>,
}

impl<'a> Inputs<'a> {
    pub(super) fn new(gpu: &'a Gpu<'a>) -> Self {
        Self { gpu, held: SmallVec::new() }
    }

    /// Returns the address of the first of so many elements.
    ///
    /// # Errors
    /// When there are more or fewer, when they lie elsewhere or have another type: a kernel would read
    /// what is not theirs.
    pub(super) fn address(&mut self, view: &'a View<'_>, size: usize) -> Result<u64> {
        let got = view.end - view.start;
        if got != size {
            let message = format!("a sum over {size} entries met a tensor of {got}");
            return Err(candle_core::Error::msg(message).into());
        }
        let (dtype, stream) = (self.gpu.dtype, &self.gpu.stream);
        let storage = match &*view.storage {
            Storage::Cuda(storage) => storage,
            other => {
                let places = [self.gpu.device.location(), other.device().location()];
                let [expected, got] = places.map(|place| format!("{place:?}"));
                return Err(Error::DeviceMismatch { expected, got });
            }
        };
        check_handle(self.gpu.device, storage)?;
        let (address, held) = match &storage.slice {
            CudaStorageSlice::F64(slice) if dtype == DType::F64 => slice.device_ptr(stream),
            CudaStorageSlice::F32(slice) if dtype == DType::F32 => slice.device_ptr(stream),
            CudaStorageSlice::F16(slice) if dtype == DType::F16 => slice.device_ptr(stream),
            CudaStorageSlice::BF16(slice) if dtype == DType::BF16 => slice.device_ptr(stream),
            _ => {
                let (expected, got) = (dtype, storage.dtype());
                let message = format!("a sum of {expected:?} met a tensor of {got:?}; cast one");
                return Err(candle_core::Error::msg(message).into());
            }
        };
        self.held.push(held);
        Ok(address + (view.start * dtype.size_in_bytes()) as u64)
    }

    /// Keeps a list that was copied to the GPU, and returns its address.
    pub(super) fn list<T>(&mut self, list: &'a impl DevicePtr<T>) -> u64 {
        let (address, held) = list.device_ptr(&self.gpu.stream);
        self.held.push(held);
        address
    }
}

/// Refuses a storage that lies elsewhere, or belongs to another handle of the same GPU: that has a stream
/// of its own, which may not have written it yet.
///
/// # Errors
/// [`Error::DeviceMismatch`].
pub(super) fn check_handle(device: &CudaDevice, storage: &CudaStorage) -> Result<()> {
    let (expected, got) = (device.location(), storage.device().location());
    if storage.device().id() == device.id() {
        return Ok(());
    }
    let got =
        if got == expected { format!("another handle of {got:?}") } else { format!("{got:?}") };
    Err(Error::DeviceMismatch { expected: format!("{expected:?}"), got })
}

/// Returns the address of a result, and what marks it as written when it is dropped.
pub(super) fn output<'a>(
    storage: &'a mut CudaStorage,
    stream: &'a CudaStream,
) -> Result<(u64, SyncOnDrop<'a>)> {
    let dtype = storage.dtype();
    match &mut storage.slice {
        CudaStorageSlice::F64(slice) => Ok(slice.device_ptr_mut(stream)),
        CudaStorageSlice::F32(slice) => Ok(slice.device_ptr_mut(stream)),
        CudaStorageSlice::F16(slice) => Ok(slice.device_ptr_mut(stream)),
        CudaStorageSlice::BF16(slice) => Ok(slice.device_ptr_mut(stream)),
        _ => Err(Error::UnsupportedDType { dtype }),
    }
}

/// Whether packs may be read at all of these addresses; 0 stands for none.
pub(super) fn aligned(addresses: impl IntoIterator<Item = u64>) -> bool {
    addresses.into_iter().all(|address| address.is_multiple_of(PACK as u64))
}

/// At most [`TERMS`] addresses, as a kernel takes them.
pub(super) fn addresses(list: &[u64]) -> [u64; TERMS] {
    let mut addresses = [0; TERMS];
    addresses[..list.len()].copy_from_slice(list);
    addresses
}

/// At most [`TERMS`] weights, as a kernel takes them.
pub(super) fn weights(list: impl IntoIterator<Item = f64>) -> [f64; TERMS] {
    let mut weights = [0.0; TERMS];
    weights.iter_mut().zip(list).for_each(|(weight, w)| *weight = w);
    weights
}

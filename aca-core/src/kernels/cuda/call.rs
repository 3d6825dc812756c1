//! Launches of kernels that other crates bring.
#![allow(unsafe_code, reason = "a launch hands addresses to the GPU")]

use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::cuda_backend::cudarc::driver::{
    CudaStream, DevicePtr, DevicePtrMut, PushKernelArg, SyncOnDrop,
};
use candle_core::cuda_backend::{CudaStorageSlice, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, DType, Layout, Shape, Storage, Tensor};
use smallvec::SmallVec;

use super::super::View;
use super::launch::check_handle;
use super::{Grid, Program};
use crate::{Error, Result};

/// Contiguous elements on a GPU.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    storage: &'a CudaStorage,
    start: usize,
}

impl<'a> Source<'a> {
    /// The elements behind an argument of an operation.
    ///
    /// # Errors
    /// When they are not contiguous.
    pub fn new(storage: &'a CudaStorage, layout: &Layout) -> Result<Self> {
        match layout.contiguous_offsets() {
            Some((start, _)) => Ok(Self { storage, start }),
            None => {
                let stride = layout.stride();
                let message = format!("a kernel needs a contiguous tensor, not strides {stride:?}");
                Err(candle_core::Error::msg(message).into())
            }
        }
    }

    /// All elements of a storage.
    pub fn whole(storage: &'a CudaStorage) -> Self {
        Self { storage, start: 0 }
    }

    /// The elements of a view.
    ///
    /// # Errors
    /// [`Error::UnsupportedDevice`] when they are not on a GPU.
    pub fn of(view: &'a View<'_>) -> Result<Self> {
        match &*view.storage {
            Storage::Cuda(storage) => Ok(Self { storage, start: view.start }),
            other => {
                Err(Error::UnsupportedDevice { device: format!("{:?}", other.device().location()) })
            }
        }
    }

    /// Where they are.
    pub fn device(self) -> &'a CudaDevice {
        self.storage.device()
    }

    /// Their type.
    pub fn dtype(self) -> DType {
        self.storage.dtype()
    }
}

/// What a kernel takes: parameters of eight bytes each.
pub enum Argument<'a> {
    /// The address of elements to be read.
    Read(Source<'a>),
    /// The address of elements to be written, from an index on.
    Write(&'a mut CudaStorage, usize),
    /// A null pointer.
    Nothing,
    /// An `Index`.
    Size(usize),
    /// A `double`.
    Number(f64),
}

/// A kernel and the threads that run it.
pub struct Kernel<'a> {
    /// Where it is defined.
    pub program: &'a Program,
    /// Its name.
    pub name: &'a str,
    /// Its threads.
    pub grid: Grid,
}

impl Kernel<'_> {
    /// Launches the kernel, and does not wait for it.
    ///
    /// # Errors
    /// When an argument lives elsewhere, or the launch fails.
    ///
    /// # Safety
    /// The kernel takes exactly these arguments, and touches no element beyond those behind them.
    pub unsafe fn launch<const N: usize>(
        &self,
        device: &CudaDevice,
        arguments: [Argument<'_>; N],
    ) -> Result<()> {
        let stream = device.cuda_stream();
        let mut held = SmallVec::<[SyncOnDrop<'_>; N]>::new();
        let mut words = [0u64; N];
        for (word, argument) in words.iter_mut().zip(arguments) {
            *word = match argument {
                Argument::Read(Source { storage, start }) => {
                    check_handle(device, storage)?;
                    let (address, sync) = read(storage, &stream)?;
                    held.push(sync);
                    address + (start * storage.dtype().size_in_bytes()) as u64
                }
                Argument::Write(storage, start) => {
                    check_handle(device, storage)?;
                    let size = storage.dtype().size_in_bytes();
                    let (address, sync) = written(storage, &stream)?;
                    held.push(sync);
                    address + (start * size) as u64
                }
                Argument::Nothing => 0,
                Argument::Size(size) => size as u64,
                Argument::Number(number) => number.to_bits(),
            };
        }
        let function = self.program.function(device, self.name)?;
        let mut builder = stream.launch_builder(&function);
        for word in &words {
            builder.arg(word);
        }
        // SAFETY: the parameters are the caller's promise, and `held` keeps their memory until the
        // launch has been submitted.
        unsafe { builder.launch(self.grid.config()) }.w()?;
        drop(held);
        Ok(())
    }
}

fn read<'a>(storage: &'a CudaStorage, stream: &'a CudaStream) -> Result<(u64, SyncOnDrop<'a>)> {
    match &storage.slice {
        CudaStorageSlice::F64(slice) => Ok(slice.device_ptr(stream)),
        CudaStorageSlice::F32(slice) => Ok(slice.device_ptr(stream)),
        CudaStorageSlice::I64(slice) => Ok(slice.device_ptr(stream)),
        _ => Err(Error::UnsupportedDType { dtype: storage.dtype() }),
    }
}

fn written<'a>(
    storage: &'a mut CudaStorage,
    stream: &'a CudaStream,
) -> Result<(u64, SyncOnDrop<'a>)> {
    let dtype = storage.dtype();
    match &mut storage.slice {
        CudaStorageSlice::F64(slice) => Ok(slice.device_ptr_mut(stream)),
        CudaStorageSlice::F32(slice) => Ok(slice.device_ptr_mut(stream)),
        _ => Err(Error::UnsupportedDType { dtype }),
    }
}

/// Memory that is not yet written.
///
/// # Safety
/// A kernel writes every element before anything reads one.
pub unsafe fn empty(device: &CudaDevice, size: usize, dtype: DType) -> Result<CudaStorage> {
    // SAFETY: by the caller's promise.
    Ok(unsafe { device.alloc_uninit(&Shape::from(size), dtype)? })
}

/// A tensor outside candle's graph.
pub fn tensor(storage: CudaStorage, shape: impl Into<Shape>) -> Tensor {
    Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false)
}

//! Convolutions by cuDNN, with algorithms that give the same bits in every run.
#![allow(unsafe_code, reason = "descriptors tell cuDNN what lies behind addresses")]

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::cudnn::{
    ConvBackwardData, ConvBackwardFilter, ConvDescriptor, ConvForward, Cudnn, CudnnDataType,
    CudnnError, FilterDescriptor, TensorDescriptor, sys,
};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView, DeviceRepr};
use candle_core::cuda_backend::{
    CudaDType, CudaStorageSlice, DeviceId, gemm_reduced_precision_f32,
};
use candle_core::{CudaDevice, CudaStorage, DType, Layout, Result, WithDType, bail};

use crate::layers::kernels::conv::Geometry;

/// Elements of contiguous storage.
type From<'a> = (&'a CudaStorage, &'a Layout);

thread_local! {
    /// cuDNN's handles stay in their threads.
    static HANDLES: RefCell<HashMap<DeviceId, Arc<Cudnn>>> = RefCell::default();
    /// What was chosen for sizes met before, so that cuDNN is asked once.
    static CHOICES: RefCell<HashMap<Problem, Choices>> = RefCell::default();
}

/// What an algorithm is chosen for: a GPU, sizes, a type, and whether products may lose bits.
type Problem = (DeviceId, Geometry, DType, bool);

/// Algorithms with the bytes that they work in.
#[derive(Clone, Copy, Default)]
struct Choices {
    values: Option<(sys::cudnnConvolutionFwdAlgo_t, usize)>,
    input: Option<(sys::cudnnConvolutionBwdDataAlgo_t, usize)>,
    weight: Option<(sys::cudnnConvolutionBwdFilterAlgo_t, usize)>,
}

/// Returns `x` correlated with the kernels of `weight`.
pub(crate) fn correlate(x: From<'_>, weight: From<'_>, g: Geometry) -> Result<CudaStorage> {
    match &x.0.slice {
        CudaStorageSlice::F32(_) => Sizes::<f32>::new(x.0.device(), g)?.correlate(x, weight),
        _ => Sizes::<f64>::new(x.0.device(), g)?.correlate(x, weight),
    }
}

/// Pulls the cotangent `z` back to the images.
pub(crate) fn input_gradient(z: From<'_>, weight: From<'_>, g: Geometry) -> Result<CudaStorage> {
    match &z.0.slice {
        CudaStorageSlice::F32(_) => Sizes::<f32>::new(z.0.device(), g)?.input_gradient(z, weight),
        _ => Sizes::<f64>::new(z.0.device(), g)?.input_gradient(z, weight),
    }
}

/// Pulls the cotangent `z` back to the kernels.
pub(crate) fn weight_gradient(x: From<'_>, z: From<'_>, g: Geometry) -> Result<CudaStorage> {
    match &x.0.slice {
        CudaStorageSlice::F32(_) => Sizes::<f32>::new(x.0.device(), g)?.weight_gradient(x, z),
        _ => Sizes::<f64>::new(x.0.device(), g)?.weight_gradient(x, z),
    }
}

/// The sizes of a correlation as cuDNN takes them.
struct Sizes<'a, T> {
    device: &'a CudaDevice,
    g: Geometry,
    fewer_bits: bool,
    conv: ConvDescriptor<T>,
    x: TensorDescriptor<T>,
    weight: FilterDescriptor<T>,
    z: TensorDescriptor<T>,
}

/// Element types of cuDNN's and candle's.
trait Element: CudnnDataType + DeviceRepr + WithDType + CudaDType {}

impl Element for f32 {}
impl Element for f64 {}

impl<'a, T: Element> Sizes<'a, T> {
    fn new(device: &'a CudaDevice, g: Geometry) -> Result<Self> {
        let cudnn = handle(device)?;
        let int = |sizes: [usize; 4]| -> Result<[i32; 4]> {
            let fits = sizes.map(i32::try_from);
            match fits {
                [Ok(a), Ok(b), Ok(c), Ok(d)] => Ok([a, b, c, d]),
                _ => bail!(
                    "cuDNN counts to 2^31, but a tensor has shape {sizes:?}; give smaller ones"
                ),
            }
        };
        let [top, left, stride, _] = int([g.padding[0], g.padding[1], g.stride, 1])?;
        let mode = sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
        let mut conv = cudnn.create_conv2d::<T>([top, left], [stride; 2], [1; 2], mode)?;
        // As for products of matrices, fewer bits are the user's choice alone.
        let fewer_bits = gemm_reduced_precision_f32();
        conv.set_math_type(match fewer_bits {
            true => sys::cudnnMathType_t::CUDNN_DEFAULT_MATH,
            false => sys::cudnnMathType_t::CUDNN_FMA_MATH,
        })?;
        let format = sys::cudnnTensorFormat_t::CUDNN_TENSOR_NCHW;
        let x = int([g.batch, g.inner, g.size[0], g.size[1]])?;
        let weight = int([g.outer, g.inner, g.kernel[0], g.kernel[1]])?;
        let z = int([g.batch, g.outer, g.result[0], g.result[1]])?;
        Ok(Self {
            device,
            g,
            fewer_bits,
            conv,
            x: cudnn.create_4d_tensor::<T>(format, x)?,
            weight: cudnn.create_4d_filter::<T>(format, weight)?,
            z: cudnn.create_4d_tensor::<T>(format, z)?,
        })
    }

    fn correlate(&self, x: From<'_>, weight: From<'_>) -> Result<CudaStorage> {
        let Self { conv, x: x_sizes, weight: weight_sizes, z: z_sizes, g, .. } = self;
        let task = ConvForward { conv, x: x_sizes, w: weight_sizes, y: z_sizes };
        let choose = || {
            let algorithm = task.pick_algorithm()?;
            Ok((algorithm, task.get_workspace_size(algorithm)?))
        };
        let (algorithm, bytes) = self.chosen(|choices| &mut choices.values, choose)?;
        let mut room = self.workspace(bytes)?;
        let mut out = self.empty(g.batch * g.outer * g.result[0] * g.result[1])?;
        let (x, weight) = (elements::<T>(x)?, elements::<T>(weight)?);
        let scales = (T::one(), T::zero());
        // SAFETY: the descriptors have the sizes of these tensors, as their layers checked.
        unsafe { task.launch(algorithm, Some(&mut room), scales, &x, &weight, &mut out)? };
        Ok(self.storage(out))
    }

    fn input_gradient(&self, z: From<'_>, weight: From<'_>) -> Result<CudaStorage> {
        let Self { conv, x: x_sizes, weight: weight_sizes, z: z_sizes, g, .. } = self;
        let task = ConvBackwardData { conv, dx: x_sizes, w: weight_sizes, dy: z_sizes };
        let same = sys::cudnnConvolutionBwdDataAlgo_t::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1;
        let bytes = |algorithm| task.get_workspace_size(algorithm);
        let choose = || repeatable(same, bytes, || task.pick_algorithm());
        let (algorithm, bytes) = self.chosen(|choices| &mut choices.input, choose)?;
        let mut room = self.workspace(bytes)?;
        let mut out = self.empty(g.batch * g.inner * g.size[0] * g.size[1])?;
        let (z, weight) = (elements::<T>(z)?, elements::<T>(weight)?);
        let scales = (T::one(), T::zero());
        // SAFETY: as above.
        unsafe { task.launch(algorithm, Some(&mut room), scales, &mut out, &weight, &z)? };
        Ok(self.storage(out))
    }

    fn weight_gradient(&self, x: From<'_>, z: From<'_>) -> Result<CudaStorage> {
        let Self { conv, x: x_sizes, weight: weight_sizes, z: z_sizes, g, .. } = self;
        let task = ConvBackwardFilter { conv, x: x_sizes, dw: weight_sizes, dy: z_sizes };
        let same = sys::cudnnConvolutionBwdFilterAlgo_t::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1;
        let bytes = |algorithm| task.get_workspace_size(algorithm);
        let choose = || repeatable(same, bytes, || task.pick_algorithm());
        let (algorithm, bytes) = self.chosen(|choices| &mut choices.weight, choose)?;
        let mut room = self.workspace(bytes)?;
        let mut out = self.empty(g.outer * g.inner * g.kernel[0] * g.kernel[1])?;
        let (x, z) = (elements::<T>(x)?, elements::<T>(z)?);
        let scales = (T::one(), T::zero());
        // SAFETY: as above.
        unsafe { task.launch(algorithm, Some(&mut room), scales, &x, &mut out, &z)? };
        Ok(self.storage(out))
    }

    /// The algorithm and its bytes of memory that `choose` found when these sizes were first met.
    fn chosen<A: Copy>(
        &self,
        of: impl Fn(&mut Choices) -> &mut Option<(A, usize)>,
        choose: impl FnOnce() -> Result<(A, usize)>,
    ) -> Result<(A, usize)> {
        let problem = (self.device.id(), self.g, T::DTYPE, self.fewer_bits);
        CHOICES.with_borrow_mut(|known| {
            let choice = of(known.entry(problem).or_default());
            match *choice {
                Some(choice) => Ok(choice),
                None => Ok(*choice.insert(choose()?)),
            }
        })
    }

    fn workspace(&self, bytes: usize) -> Result<CudaSlice<u8>> {
        // SAFETY: cuDNN writes what it reads of it.
        unsafe { self.device.alloc::<u8>(bytes.max(1)) }
    }

    fn empty(&self, size: usize) -> Result<CudaSlice<T>> {
        // SAFETY: with a scale of zero for what is there, cuDNN writes every element and reads none.
        unsafe { self.device.alloc::<T>(size) }
    }

    fn storage(&self, slice: CudaSlice<T>) -> CudaStorage {
        CudaStorage::wrap_cuda_slice(slice, self.device.clone())
    }
}

/// The algorithm that adds in the same order in every run, or what cuDNN advises where it does not know
/// these sizes; and the memory that it needs.
fn repeatable<A: Copy>(
    same: A,
    bytes: impl Fn(A) -> std::result::Result<usize, CudnnError>,
    other: impl FnOnce() -> std::result::Result<A, CudnnError>,
) -> Result<(A, usize)> {
    if let Ok(bytes) = bytes(same) {
        return Ok((same, bytes));
    }
    let other = other()?;
    Ok((other, bytes(other)?))
}

/// This thread's handle for a GPU.
fn handle(device: &CudaDevice) -> Result<Arc<Cudnn>> {
    HANDLES.with(|handles| {
        if let Some(handle) = handles.borrow().get(&device.id()) {
            return Ok(handle.clone());
        }
        let handle = Cudnn::new(device.cuda_stream())?;
        handles.borrow_mut().insert(device.id(), handle.clone());
        Ok(handle)
    })
}

fn elements<'a, T: Element>((storage, layout): From<'a>) -> Result<CudaView<'a, T>> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(storage.as_cuda_slice::<T>()?.slice(start..end)),
        None => bail!("cuDNN is given contiguous tensors, not strides {:?}", layout.stride()),
    }
}

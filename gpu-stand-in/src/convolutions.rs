//! cuDNN's convolutions in two dimensions, added up in double precision.
#![allow(non_snake_case, reason = "names of the library")]
#![allow(clippy::missing_safety_doc, reason = "NVIDIA's manual says what each takes")]

use std::ffi::{c_int, c_uint, c_void};

use crate::driver::{code, with};
use crate::memory::Memory;
use crate::numbers::{read, write};
use crate::ptx::Ty;

type Handle = *mut c_void;

/// Bytes that every algorithm asks for, so that a missing workspace shows.
const WORKSPACE: usize = 64;

/// A descriptor: sizes of a tensor, or padding and strides of a convolution.
#[derive(Clone, Copy)]
struct Sizes {
    ty: Ty,
    numbers: [usize; 4],
}

macro_rules! descriptors {
    ($($create:ident, $destroy:ident;)*) => {$(
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $create(to: *mut Handle) -> c_int {
            let sizes = Box::new(Sizes { ty: Ty::F32, numbers: [0; 4] });
            unsafe { to.write(Box::into_raw(sizes).cast()) };
            0
        }

        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $destroy(sizes: Handle) -> c_int {
            drop(unsafe { Box::from_raw(sizes.cast::<Sizes>()) });
            0
        }
    )*};
}

descriptors! {
    cudnnCreate, cudnnDestroy;
    cudnnCreateTensorDescriptor, cudnnDestroyTensorDescriptor;
    cudnnCreateFilterDescriptor, cudnnDestroyFilterDescriptor;
    cudnnCreateConvolutionDescriptor, cudnnDestroyConvolutionDescriptor;
}

#[unsafe(no_mangle)]
pub extern "C" fn cudnnSetStream(_: Handle, _: Handle) -> c_int {
    0
}

#[unsafe(no_mangle)]
pub extern "C" fn cudnnSetConvolutionMathType(_: Handle, _: c_uint) -> c_int {
    0
}

unsafe fn set(descriptor: Handle, ty: c_uint, numbers: [c_int; 4]) -> c_int {
    let ty = if ty == 1 { Ty::F64 } else { Ty::F32 };
    let sizes = Sizes { ty, numbers: numbers.map(|size| size as usize) };
    unsafe { descriptor.cast::<Sizes>().write(sizes) };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudnnSetTensor4dDescriptor(
    to: Handle,
    _: c_uint,
    ty: c_uint,
    n: c_int,
    c: c_int,
    h: c_int,
    w: c_int,
) -> c_int {
    unsafe { set(to, ty, [n, c, h, w]) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudnnSetFilter4dDescriptor(
    to: Handle,
    ty: c_uint,
    _: c_uint,
    k: c_int,
    c: c_int,
    h: c_int,
    w: c_int,
) -> c_int {
    unsafe { set(to, ty, [k, c, h, w]) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudnnSetConvolution2dDescriptor(
    to: Handle,
    padding_h: c_int,
    padding_w: c_int,
    stride_h: c_int,
    stride_w: c_int,
    _: c_int,
    _: c_int,
    _: c_uint,
    ty: c_uint,
) -> c_int {
    unsafe { set(to, ty, [padding_h, padding_w, stride_h, stride_w]) }
}

/// What cuDNN says of an algorithm: number, status, time, memory, whether it repeats, and more.
#[repr(C)]
pub struct Advice {
    algorithm: c_int,
    status: c_int,
    time: f32,
    memory: usize,
    rest: [c_int; 5],
}

macro_rules! advice {
    ($($pick:ident, $room:ident;)*) => {$(
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $pick(
            _: Handle, _: Handle, _: Handle, _: Handle, _: Handle, _: c_int, count: *mut c_int, to: *mut Advice,
        ) -> c_int {
            with(stringify!($pick), |_| ());
            let advice = Advice { algorithm: 1, status: 0, time: 0.0, memory: WORKSPACE, rest: [0; 5] };
            unsafe {
                to.write(advice);
                count.write(1);
            }
            0
        }

        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $room(
            _: Handle, _: Handle, _: Handle, _: Handle, _: Handle, _: c_uint, to: *mut usize,
        ) -> c_int {
            unsafe { to.write(WORKSPACE) };
            0
        }
    )*};
}

advice! {
    cudnnGetConvolutionForwardAlgorithm_v7, cudnnGetConvolutionForwardWorkspaceSize;
    cudnnGetConvolutionBackwardDataAlgorithm_v7, cudnnGetConvolutionBackwardDataWorkspaceSize;
    cudnnGetConvolutionBackwardFilterAlgorithm_v7, cudnnGetConvolutionBackwardFilterWorkspaceSize;
}

/// A tensor of four dimensions in the GPU's memory.
#[derive(Clone, Copy)]
struct Tensor {
    start: u64,
    sizes: Sizes,
}

impl Tensor {
    unsafe fn new(sizes: Handle, start: u64) -> Self {
        Self { start, sizes: unsafe { *sizes.cast::<Sizes>() } }
    }

    fn count(self) -> usize {
        self.sizes.numbers.iter().product()
    }

    fn index(self, [n, c, y, x]: [usize; 4]) -> usize {
        let [_, channels, height, width] = self.sizes.numbers;
        ((n * channels + c) * height + y) * width + x
    }

    fn load(self, memory: &mut Memory) -> Result<Vec<f64>, String> {
        let (ty, count) = (self.sizes.ty, self.count());
        memory.check(self.start, count * ty.bytes())?;
        // SAFETY: so many bytes lie in an allocation.
        let number = |i| unsafe { read(ty, self.start + (i * ty.bytes()) as u64) };
        Ok((0..count).map(|i| number(i).unwrap_or(f64::NAN)).collect())
    }

    fn store(self, memory: &mut Memory, numbers: &[f64]) -> Result<(), String> {
        let ty = self.sizes.ty;
        memory.fill(self.start, self.count() * ty.bytes())?;
        let mut places = (self.start..).step_by(ty.bytes());
        // SAFETY: as above.
        let mut put = |x: &f64| places.next().and_then(|place| unsafe { write(ty, place, *x) });
        numbers.iter().try_for_each(|x| put(x).ok_or_else(|| "no floating-point type".to_owned()))
    }
}

/// Which of the three tensors is computed of the others.
#[derive(Clone, Copy)]
enum Wanted {
    Images,
    Kernels,
    Results,
}

/// Goes through all products of a correlation.
fn correlate(
    convolution: Handle,
    [images, kernels, results]: [Tensor; 3],
    wanted: Wanted,
    (room, bytes): (u64, usize),
) -> c_int {
    // SAFETY: a descriptor of this file.
    let [top, left, down, right] = unsafe { (*convolution.cast::<Sizes>()).numbers };
    let ([_, inner, height, width], [outer, _, rows, columns]) =
        (images.sizes.numbers, kernels.sizes.numbers);
    let [batch, _, result_rows, result_columns] = results.sizes.numbers;
    let work = |memory: &mut Memory| -> Result<(), String> {
        if bytes < WORKSPACE {
            return Err(format!("a workspace of {bytes} bytes is too small"));
        }
        memory.fill(room, bytes)?;
        let mut numbers = [Vec::new(), Vec::new(), Vec::new()];
        for (i, tensor) in [images, kernels, results].into_iter().enumerate() {
            numbers[i] = match i == wanted as usize {
                true => vec![0.0; tensor.count()],
                false => tensor.load(memory)?,
            };
        }
        let sizes = [batch, outer, result_rows, result_columns, inner, rows, columns];
        for flat in 0..sizes.iter().product() {
            let mut rest = flat;
            let mut at = [0; 7];
            for (at, size) in at.iter_mut().zip(sizes).rev() {
                (*at, rest) = (rest % size, rest / size);
            }
            let [n, o, y, x, i, dy, dx] = at;
            let (image_y, image_x) = (y * down + dy, x * right + dx);
            if image_y < top || image_x < left || image_y - top >= height || image_x - left >= width
            {
                continue;
            }
            let image = images.index([n, i, image_y - top, image_x - left]);
            let (kernel, result) = (kernels.index([o, i, dy, dx]), results.index([n, o, y, x]));
            match wanted {
                Wanted::Images => numbers[0][image] += numbers[1][kernel] * numbers[2][result],
                Wanted::Kernels => numbers[1][kernel] += numbers[0][image] * numbers[2][result],
                Wanted::Results => numbers[2][result] += numbers[0][image] * numbers[1][kernel],
            }
        }
        [images, kernels, results][wanted as usize].store(memory, &numbers[wanted as usize])
    };
    code("convolution", with("cuDNN", |gpu| work(&mut gpu.memory)))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudnnConvolutionForward(
    _: Handle,
    _: Handle,
    x_sizes: Handle,
    x: u64,
    w_sizes: Handle,
    w: u64,
    convolution: Handle,
    _: c_uint,
    room: u64,
    bytes: usize,
    _: Handle,
    y_sizes: Handle,
    y: u64,
) -> c_int {
    let tensors =
        unsafe { [Tensor::new(x_sizes, x), Tensor::new(w_sizes, w), Tensor::new(y_sizes, y)] };
    correlate(convolution, tensors, Wanted::Results, (room, bytes))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudnnConvolutionBackwardData(
    _: Handle,
    _: Handle,
    w_sizes: Handle,
    w: u64,
    y_sizes: Handle,
    y: u64,
    convolution: Handle,
    _: c_uint,
    room: u64,
    bytes: usize,
    _: Handle,
    x_sizes: Handle,
    x: u64,
) -> c_int {
    let tensors =
        unsafe { [Tensor::new(x_sizes, x), Tensor::new(w_sizes, w), Tensor::new(y_sizes, y)] };
    correlate(convolution, tensors, Wanted::Images, (room, bytes))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudnnConvolutionBackwardFilter(
    _: Handle,
    _: Handle,
    x_sizes: Handle,
    x: u64,
    y_sizes: Handle,
    y: u64,
    convolution: Handle,
    _: c_uint,
    room: u64,
    bytes: usize,
    _: Handle,
    w_sizes: Handle,
    w: u64,
) -> c_int {
    let tensors =
        unsafe { [Tensor::new(x_sizes, x), Tensor::new(w_sizes, w), Tensor::new(y_sizes, y)] };
    correlate(convolution, tensors, Wanted::Kernels, (room, bytes))
}

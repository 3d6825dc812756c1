//! Two-dimensional convolutions.

use candle_core::{Result, Tensor, bail};
use candle_nn::init::DEFAULT_KAIMING_NORMAL;
use candle_nn::{Init, Module, VarBuilder};

use self::operation::{Correlation, geometry};
use super::activation::is_native;
use super::kernels::conv::Geometry;
use super::operation::{Bars, InGraph};

mod operation;

/// The sizes of a [`Conv2d`]; pairs are (vertical, horizontal).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv2dConfig {
    /// Pixels of the kernels.
    pub kernel: [usize; 2],
    /// Pixels from one place of the kernels to the next.
    pub stride: usize,
    /// Zeros on each side of the image.
    pub padding: [usize; 2],
    /// Whether a bias is added.
    pub bias: bool,
}

impl Conv2dConfig {
    /// Kernels of an odd size that keep the image's size, without a bias, as before a batch norm.
    pub fn same(kernel: [usize; 2]) -> Self {
        Self { kernel, stride: 1, padding: kernel.map(|size| size / 2), bias: false }
    }
}

/// 2-D convolution, that is, cross-correlation as in PyTorch.
///
/// # Shapes
/// `weight`: `[out, in, kernel height, kernel width]`; `bias`: `[out]`; input `[batch, in, height, width]`,
/// result `[batch, out, ..]` with `(size + 2 padding - kernel) / stride + 1` pixels along each axis. All `f32`
/// or all `f64`; other types use candle's operations, and so do GPUs unless cuDNN is there (feature `cudnn`).
///
/// # Gradient
/// In closed form, with respect to the input, the weight and the bias, each of which may be a variable,
/// any other tensor of candle's graph, or a constant. Second derivatives as with
/// [`Activation`](super::Activation).
///
/// # Errors
/// `forward` fails when shapes or dtypes do not fit.
///
/// # Cost
/// Kernels of 3x3 and stride 1 go through Winograd's F(4x4, 3x3), which takes a quarter of the products;
/// the error of `f32` is about twice that of a plain sum, relative to the largest values of a tile of 6x6 pixels: an
/// outlier, or a NaN, reaches neighbours that a plain sum would keep clear of it. Each thread keeps some megabytes of
/// working memory for the next call, and the transforms of kernels used lately are kept, up to 320 MB.
///
/// # Example
/// ```
/// use aca_models::layers::Conv2d;
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::Module;
///
/// # fn main() -> candle_core::Result<()> {
/// let weight = Tensor::ones((1, 1, 3, 3), DType::F32, &Device::Cpu)?;
/// let layer = Conv2d { weight, bias: None, stride: 1, padding: [0, 0] };
/// let x = Tensor::ones((1, 1, 3, 3), DType::F32, &Device::Cpu)?;
/// assert_eq!(layer.forward(&x)?.flatten_all()?.to_vec1::<f32>()?, [9.0]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Conv2d {
    /// `[out, in, kernel height, kernel width]`.
    pub weight: Tensor,
    /// `[out]`.
    pub bias: Option<Tensor>,
    /// Pixels from one place of the kernels to the next.
    pub stride: usize,
    /// Zeros above and below, and to the left and the right.
    pub padding: [usize; 2],
}

impl Conv2d {
    /// Returns a layer whose variables are called `weight` and `bias`, with candle's initial values.
    pub fn new(
        inputs: usize,
        outputs: usize,
        config: Conv2dConfig,
        vb: VarBuilder<'_>,
    ) -> Result<Self> {
        let Conv2dConfig { kernel: [height, width], stride, padding, bias } = config;
        let shape = (outputs, inputs, height, width);
        let weight = vb.get_with_hints(shape, "weight", DEFAULT_KAIMING_NORMAL)?;
        let bound = 1.0 / (inputs as f64).sqrt();
        let init = Init::Uniform { lo: -bound, up: bound };
        let bias = bias.then(|| vb.get_with_hints(outputs, "bias", init)).transpose()?;
        Ok(Self { weight, bias, stride, padding })
    }

    /// Returns the same function of `x` in candle's operations, which can be differentiated twice.
    pub fn trace(&self, x: &Tensor) -> Result<Tensor> {
        let g = self.geometry(x)?;
        let [vertical, horizontal] = self.padding;
        let (x, padding) = if vertical == horizontal && self.stride == 1 {
            (x.clone(), vertical)
        } else {
            let mut x = x.pad_with_zeros(2, vertical, vertical)?;
            x = x.pad_with_zeros(3, horizontal, horizontal)?;
            // Candle's backward takes the pixels beyond the last place of a kernel to be as many along both axes.
            for (axis, (count, kernel)) in g.result.into_iter().zip(g.kernel).enumerate() {
                x = x.narrow(2 + axis, 0, count.saturating_sub(1) * self.stride + kernel)?;
            }
            (x, 0)
        };
        let sums = x.contiguous()?.conv2d(&self.weight, padding, self.stride, 1, 1)?;
        match &self.bias {
            Some(bias) => sums.broadcast_add(&bias.reshape((1, (), 1, 1))?),
            None => Ok(sums),
        }
    }

    /// Returns the sizes, after checking that `x` fits the layer.
    pub(crate) fn geometry(&self, x: &Tensor) -> Result<Geometry> {
        for parameter in self.parameters() {
            if parameter.dtype() != x.dtype() {
                bail!("x is {:?} but a parameter is {:?}; cast one", x.dtype(), parameter.dtype());
            }
        }
        let g = geometry(x.dims(), self.weight.dims(), self.stride, self.padding)?;
        match &self.bias {
            Some(bias) if bias.dims() != [g.outer] => {
                bail!("a bias of shape {:?} does not fit {} outputs", bias.dims(), g.outer)
            }
            _ => Ok(g),
        }
    }

    /// The weight, and the bias if there is one.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = &Tensor> {
        [Some(&self.weight), self.bias.as_ref()].into_iter().flatten()
    }

    fn place(&self) -> Correlation {
        Correlation { stride: self.stride, padding: self.padding }
    }

    /// Returns the value outside candle's graph.
    pub(crate) fn value(&self, x: &Tensor) -> Result<Tensor> {
        let bias = self.bias.as_ref().map(Tensor::detach);
        let detached = Self { weight: self.weight.detach(), bias, ..*self };
        detached.forward(&x.detach())
    }

    /// Pulls a cotangent of the value back to the inputs that are `wanted`: x, weight and bias.
    pub(crate) fn pull(&self, x: &Tensor, z: &Tensor, wanted: [bool; 3]) -> Result<Bars> {
        self.place().pull(x, &self.weight, z, wanted)
    }
}

impl Module for Conv2d {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.geometry(x)?;
        let known = x.device().is_cpu() || cfg!(feature = "cudnn");
        if !(known && [x].into_iter().chain(self.parameters()).all(is_native)) {
            return self.trace(x);
        }
        let (x, weight) = (x.contiguous()?, self.weight.contiguous()?);
        match &self.bias {
            Some(bias) if x.device().is_cuda() => {
                let sums = InGraph(self.place()).apply(&x, &weight, None)?;
                sums.broadcast_add(&bias.reshape((1, (), 1, 1))?)
            }
            bias => InGraph(self.place()).apply(&x, &weight, bias.as_ref()),
        }
    }
}

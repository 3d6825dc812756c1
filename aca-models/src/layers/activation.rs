//! Activations.

use aca_adjoint::is_second_order_enabled;
#[cfg(feature = "cuda")]
use aca_core::kernels::cuda::Source;
use aca_core::kernels::{View, has_kernels};
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Result, Shape, Tensor, bail};
use candle_nn::Module;

use super::kernels::activation as kernel;
use super::kernels::vector_math::Elementary;

/// A function of one number, applied to every entry of a tensor.
///
/// # Shapes
/// Any; `f32` and `f64` run on kernels of our own on the CPU and on GPUs, other types on candle's operations. Errors of
/// `f32` on the CPU stay below 1 (elu), 3 (tanh, sigmoid, softplus) and 6 (gelu) units in the last place, including
/// tails and subnormal numbers; tested with every seventh `f32`.
///
/// # Gradient
/// In closed form. Where candle keeps gradients in its graph, which [`is_second_order_enabled`] tells, tracked inputs
/// go through candle's operations instead, so that second derivatives exist.
///
/// # Example
/// ```
/// use aca_models::layers::Activation;
/// use candle_core::{Device, Tensor};
/// use candle_nn::Module;
///
/// # fn main() -> candle_core::Result<()> {
/// let x = Tensor::new(&[-1.0f32, 0.0, 2.0], &Device::Cpu)?;
/// assert_eq!(Activation::Relu.forward(&x)?.to_vec1::<f32>()?, [0.0, 0.0, 2.0]);
/// assert_eq!(Activation::by_name("tanh")?, Activation::Tanh);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x`.
    Identity,
    /// The hyperbolic tangent.
    Tanh,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `log(1 + exp(x))`.
    Softplus,
    /// `x`, or `exp(x) - 1` below zero.
    Elu,
    /// `max(x, 0)`, whose derivative at 0 is 0, as in PyTorch (candle's own relu has 1).
    Relu,
    /// `x` times the standard normal probability below `x`: the exact form, not the one by tanh.
    Gelu,
}

impl Activation {
    /// Every activation.
    pub const ALL: [Self; 7] = [
        Self::Identity,
        Self::Tanh,
        Self::Sigmoid,
        Self::Softplus,
        Self::Elu,
        Self::Relu,
        Self::Gelu,
    ];

    /// The name by which [`by_name`](Self::by_name) finds it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Tanh => "tanh",
            Self::Sigmoid => "sigmoid",
            Self::Softplus => "softplus",
            Self::Elu => "elu",
            Self::Relu => "relu",
            Self::Gelu => "gelu",
        }
    }

    /// The activation of that name.
    ///
    /// # Errors
    /// When there is none; the message lists the names.
    pub fn by_name(name: &str) -> Result<Self> {
        match Self::ALL.into_iter().find(|activation| activation.name() == name) {
            Some(activation) => Ok(activation),
            None => {
                let names = Self::ALL.map(Self::name).join(", ");
                bail!("no activation is called {name:?}; there are {names}")
            }
        }
    }

    /// Returns the same function of `x` in candle's operations, which can be differentiated twice.
    pub fn trace(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Identity => Ok(x.clone()),
            Self::Tanh => x.tanh(),
            Self::Sigmoid => candle_nn::ops::sigmoid(x),
            // log(1 + exp(x)) without overflow
            Self::Softplus => x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?,
            Self::Elu => x.elu(1.0),
            Self::Relu => x.le(0.0)?.where_cond(&x.zeros_like()?, x),
            // Not candle's gelu_erf, whose derivative has a constant of six digits.
            Self::Gelu => x * (x * std::f64::consts::FRAC_1_SQRT_2)?.erf()?.affine(0.5, 0.5)?,
        }
    }

    /// Whether the derivative is computed from the input; else from the value, which needs no second
    /// tensor.
    pub(crate) fn keeps_input(self) -> bool {
        self == Self::Gelu
    }

    /// Returns `lambda` times the derivative; `kept`: the input where it is kept, else the value.
    pub(crate) fn pull(self, kept: &Tensor, lambda: &Tensor) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if kept.device().is_cuda() {
            return super::kernels::cuda::pulled(self, &kept.contiguous()?, &lambda.contiguous()?);
        }
        match kept.dtype() {
            DType::F32 => self.pull_elements::<f32>(kept, lambda),
            _ => self.pull_elements::<f64>(kept, lambda),
        }
    }

    fn pull_elements<T: Elementary>(self, kept: &Tensor, lambda: &Tensor) -> Result<Tensor> {
        let (kept, lambda) = (kept.contiguous()?, lambda.contiguous()?);
        let (kept, view) = (View::new(&kept)?, View::new(&lambda)?);
        let out = kernel::pulled::<T>(self, kept.slice()?, view.slice()?);
        Tensor::from_vec(out, lambda.shape(), &Device::Cpu)
    }
}

impl Module for Activation {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if *self == Self::Identity || !is_native(x) {
            return self.trace(x);
        }
        x.contiguous()?.apply_op1(Apply(*self))
    }
}

/// Whether our kernels may run on `x`: they know two types, and one derivative.
pub(crate) fn is_native(x: &Tensor) -> bool {
    let known = has_kernels(x.device()) && matches!(x.dtype(), DType::F32 | DType::F64);
    known && !(x.track_op() && is_second_order_enabled())
}

/// Refuses a backward whose result candle would take for a constant.
pub(crate) fn refuse_second_order(name: &str) -> Result<()> {
    if is_second_order_enabled() {
        bail!(
            "{name} was evaluated in a thread without second derivatives and differentiated in one with \
             them; do both in one thread"
        )
    }
    Ok(())
}

/// An activation as an operation of candle's graph.
struct Apply(Activation);

impl CustomOp1 for Apply {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let range = layout.start_offset()..layout.start_offset() + layout.shape().elem_count();
        let storage = match storage {
            CpuStorage::F32(x) => CpuStorage::F32(kernel::applied(self.0, &x[range])),
            CpuStorage::F64(x) => CpuStorage::F64(kernel::applied(self.0, &x[range])),
            _ => bail!("{} knows f32 and f64", self.name()),
        };
        Ok((storage, layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let (x, shape) = (Source::new(storage, layout)?, layout.shape());
        Ok((super::kernels::cuda::applied(self.0, x, shape.elem_count())?, shape.clone()))
    }

    fn bwd(&self, x: &Tensor, value: &Tensor, lambda: &Tensor) -> Result<Option<Tensor>> {
        refuse_second_order(self.name())?;
        let kept = if self.0.keeps_input() { x } else { value };
        self.0.pull(&kept.detach(), &lambda.detach()).map(Some)
    }
}

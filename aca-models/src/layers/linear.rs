//! Dense layers.

use aca_core::kernels::View;
use candle_core::{Device, Result, Tensor, bail};
use candle_nn::{Module, VarBuilder};
use smallvec::SmallVec;

use super::Activation;
use super::activation::is_native;
use super::kernels::linear::Dense;
use super::kernels::stack::{Stack, Times};
use super::kernels::vector_math::Elementary;
use super::operation::InGraph;

#[cfg(feature = "cuda")]
mod gpu;
mod op;
mod pullback;

pub use pullback::{LinearCotangents, LinearPullback};

/// `activation(x W^T + b)`, in one pass over the product while it is in the cache.
///
/// # Shapes
/// `weight`: `[out, in]`; `bias`: `[out]`; input `[.., in]`, result `[.., out]`, all `f32` or all `f64`.
/// Other types use candle's operations. On a GPU the product is cuBLAS's, with one launch beside it.
///
/// # Gradient
/// In closed form, with respect to the input, the weight and the bias, each of which may be a variable,
/// any other tensor of candle's graph, or a constant. Second derivatives as with [`Activation`].
///
/// # Errors
/// `forward` fails when shapes or dtypes do not fit.
///
/// # Example
/// ```
/// use aca_models::layers::{Activation, Linear};
/// use candle_core::{Device, Tensor};
/// use candle_nn::Module;
///
/// # fn main() -> candle_core::Result<()> {
/// let weight = Tensor::new(&[[1.0f32, 2.0], [3.0, -4.0]], &Device::Cpu)?;
/// let layer = Linear { weight, bias: None, activation: Activation::Relu };
/// let x = Tensor::new(&[[10.0f32, 100.0]], &Device::Cpu)?;
/// assert_eq!(layer.forward(&x)?.to_vec2::<f32>()?, [[210.0, 0.0]]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: Tensor,
    /// `[out]`.
    pub bias: Option<Tensor>,
    /// The function after the sum.
    pub activation: Activation,
}

impl Linear {
    /// Returns a layer whose variables are called `weight` and `bias`, with candle's initial values.
    pub fn new(
        inputs: usize,
        outputs: usize,
        activation: Activation,
        vb: VarBuilder<'_>,
    ) -> Result<Self> {
        let linear = candle_nn::linear(inputs, outputs, vb)?;
        Ok(Self { weight: linear.weight().clone(), bias: linear.bias().cloned(), activation })
    }

    /// Returns the same function of `x` in candle's operations, which can be differentiated twice.
    pub fn trace(&self, x: &Tensor) -> Result<Tensor> {
        let (out, inputs) = self.check(x)?;
        let rows = x.elem_count() / inputs;
        let sums = x.reshape((rows, inputs))?.matmul(&self.weight.t()?)?;
        let sums = match &self.bias {
            Some(bias) => sums.broadcast_add(bias)?,
            None => sums,
        };
        self.activation.trace(&sums.reshape(with_last(x.dims(), out))?)
    }

    /// Returns the value at `x` and its closed-form derivative there; neither is in candle's graph.
    ///
    /// # Errors
    /// When shapes or dtypes do not fit; on devices without kernels of our own.
    pub fn linearize(&self, x: &Tensor) -> Result<(Tensor, LinearPullback)> {
        let x = x.detach();
        let layer = self.detached();
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            return gpu::linearize(layer, &x);
        }
        if self.activation.keeps_input() {
            let sums = layer.sums().forward(&x)?;
            return Ok((self.activation.forward(&sums)?, LinearPullback::new(layer, x, sums)));
        }
        let value = layer.forward(&x)?;
        Ok((value.clone(), LinearPullback::new(layer, x, value)))
    }

    /// The layer before its activation.
    fn sums(&self) -> Self {
        Self { activation: Activation::Identity, ..self.clone() }
    }

    /// The layer as a constant.
    pub(crate) fn detached(&self) -> Self {
        let bias = self.bias.as_ref().map(Tensor::detach);
        Self { weight: self.weight.detach(), bias, activation: self.activation }
    }

    fn is_tracked(&self) -> bool {
        self.weight.track_op() || self.bias.as_ref().is_some_and(Tensor::track_op)
    }

    /// Returns the numbers of outputs and inputs, after checking that weight and bias fit.
    pub(crate) fn sizes(&self) -> Result<(usize, usize)> {
        let (out, inputs) = match *self.weight.dims() {
            [out, inputs] if out * inputs > 0 => (out, inputs),
            _ => bail!("a weight has shape [out, in], not {:?}", self.weight.dims()),
        };
        let Some(bias) = &self.bias else { return Ok((out, inputs)) };
        if bias.dims() != [out] {
            bail!("a bias of shape {:?} does not fit {out} outputs", bias.dims());
        }
        if bias.dtype() != self.weight.dtype() {
            let (bias, weight) = (bias.dtype(), self.weight.dtype());
            bail!("the bias is {bias:?} but the weight is {weight:?}; cast one");
        }
        Ok((out, inputs))
    }

    /// [`sizes`](Self::sizes), after checking that `x` fits them.
    fn check(&self, x: &Tensor) -> Result<(usize, usize)> {
        let (out, inputs) = self.sizes()?;
        if x.dims().last() != Some(&inputs) {
            bail!("the layer has {inputs} inputs, but x has shape {:?}", x.dims());
        }
        if x.dtype() != self.weight.dtype() {
            bail!("x is {:?} but the weight is {:?}; cast one", x.dtype(), self.weight.dtype());
        }
        Ok((out, inputs))
    }
}

impl Module for Linear {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.check(x)?;
        let mut tensors = [Some(x), Some(&self.weight), self.bias.as_ref()].into_iter().flatten();
        if !tensors.all(is_native) {
            return self.trace(x);
        }
        if self.activation.keeps_input() && (x.track_op() || self.is_tracked()) {
            // Candle's graph then holds the sums, which the derivative needs.
            return self.activation.forward(&self.sums().forward(x)?);
        }
        let (x, weight) = (x.contiguous()?, self.weight.contiguous()?);
        InGraph(op::Fused(self.activation)).apply(&x, &weight, self.bias.as_ref())
    }
}

/// A tensor of `entries`, if there are any.
pub(crate) fn tensor<T: Elementary>(entries: Vec<T>, shape: &[usize]) -> Result<Option<Tensor>> {
    match entries.is_empty() {
        true => Ok(None),
        false => Tensor::from_vec(entries, shape, &Device::Cpu).map(Some),
    }
}

/// Runs `body` on the elements of `layers`, whose sizes fit each other.
pub(crate) fn with_stack<T: Elementary, R>(
    layers: &[Linear],
    times: Times<'_, T>,
    body: impl FnOnce(&Stack<'_, T>) -> R,
) -> Result<R> {
    type Few<X> = SmallVec<[X; 4]>;
    let tensors = layers.iter().map(|layer| {
        let bias = layer.bias.as_ref().map(Tensor::contiguous).transpose()?;
        Ok((layer.weight.contiguous()?, bias))
    });
    let tensors = tensors.collect::<Result<Few<_>>>()?;
    let views = tensors
        .iter()
        .map(|(weight, bias)| Ok((View::new(weight)?, bias.as_ref().map(View::new).transpose()?)));
    let views = views.collect::<Result<Few<_>>>()?;
    let dense = layers.iter().zip(&views).map(|(layer, (weight, bias))| {
        let bias = bias.as_ref().map(View::slice::<T>).transpose()?;
        Ok(Dense::new(weight.slice()?, bias, layer.sizes()?, layer.activation))
    });
    Ok(body(&Stack { layers: dense.collect::<Result<_>>()?, times }))
}

/// `dims` with another last one.
fn with_last(dims: &[usize], last: usize) -> Vec<usize> {
    let mut dims = dims.to_vec();
    if let Some(dim) = dims.last_mut() {
        *dim = last;
    }
    dims
}

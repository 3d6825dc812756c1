//! The transposed derivative of a dense layer.

use std::ops::Range;

use aca_core::kernels::View;
use candle_core::{DType, Device, Result, Tensor, bail};
use smallvec::smallvec;

use super::{Linear, tensor, with_stack};
use crate::layers::kernels::linear::Wanted;
use crate::layers::kernels::stack::{Step, Times, WantedOf};
use crate::layers::kernels::vector_math::Elementary;
use crate::layers::operation::Bars;

/// Cotangents of a layer's inputs.
#[derive(Clone, Debug)]
pub struct LinearCotangents {
    /// Of `x`.
    pub x: Tensor,
    /// Of the weight.
    pub weight: Tensor,
    /// Of the bias, if there is one.
    pub bias: Option<Tensor>,
}

/// The transposed derivative of a layer at one point.
pub struct LinearPullback {
    layer: Linear,
    x: Tensor,
    kept: Tensor,
}

impl LinearPullback {
    /// The derivative of `layer` at `x`; `kept`: the activation's input or value, as its derivative needs.
    pub(super) fn new(layer: Linear, x: Tensor, kept: Tensor) -> Self {
        Self { layer, x, kept }
    }

    /// Maps a cotangent of the value, of its shape, to cotangents of the inputs.
    ///
    /// # Errors
    /// When the cotangent has another shape or dtype.
    pub fn pull(&self, cotangent: &Tensor) -> Result<LinearCotangents> {
        let wanted = Wanted { weight: true, bias: true };
        let [x, weight, bias] = self.bars(cotangent, true, wanted)?;
        let x = x.map_or_else(|| self.x.zeros_like(), Ok)?;
        let weight = weight.map_or_else(|| self.layer.weight.zeros_like(), Ok)?;
        Ok(LinearCotangents { x, weight, bias })
    }

    /// The cotangents of x, and of the weight and the bias of `layer` where they are variables.
    #[cfg(feature = "cuda")]
    pub(crate) fn variables(&self, cotangent: &Tensor, layer: &Linear) -> Result<Bars> {
        let bias = layer.bias.as_ref().is_some_and(|bias| bias.is_variable());
        let wanted = Wanted { weight: layer.weight.is_variable(), bias };
        self.bars(cotangent, true, wanted)
    }

    /// The cotangents that are wanted.
    pub(super) fn bars(&self, cotangent: &Tensor, want_x: bool, wanted: Wanted) -> Result<Bars> {
        let (got, expected) = (cotangent.dims(), self.kept.dims());
        if got != expected {
            bail!("a cotangent of shape {got:?} does not fit a value of shape {expected:?}");
        }
        #[cfg(feature = "cuda")]
        if self.x.device().is_cuda() {
            let tensors = [&self.x, &self.kept, cotangent];
            return super::gpu::bars(&self.layer, tensors, want_x, wanted);
        }
        match self.x.dtype() {
            DType::F32 => self.bars_of::<f32>(cotangent, want_x, wanted),
            _ => self.bars_of::<f64>(cotangent, want_x, wanted),
        }
    }

    fn bars_of<T: Elementary>(
        &self,
        cotangent: &Tensor,
        want_x: bool,
        wanted: Wanted,
    ) -> Result<Bars> {
        let (x, kept) = (self.x.contiguous()?, self.kept.contiguous()?);
        let lambda = cotangent.detach().contiguous()?;
        let (x, kept, lambda) = (View::new(&x)?, View::new(&kept)?, View::new(&lambda)?);
        let (x, kept, lambda) = (x.slice::<T>()?, kept.slice::<T>()?, lambda.slice::<T>()?);
        let (out, inputs) = self.layer.sizes()?;
        let step = |rows: Range<usize>| Step {
            input: &x[rows.start * inputs..rows.end * inputs],
            kept: &kept[rows.start * out..rows.end * out],
        };
        let layers = std::slice::from_ref(&self.layer);
        let wanted = WantedOf { x: want_x, parameters: &[wanted] };
        let mut pulled = with_stack(layers, Times::None, |stack| {
            stack.pull(|_, rows| smallvec![step(rows)], lambda, wanted)
        })?;
        let [weight, bias] = match pulled.parameters.pop() {
            Some(sums) => [sums.weight, sums.bias],
            None => [Vec::new(), Vec::new()],
        };
        let x = want_x.then(|| Tensor::from_vec(pulled.x, self.x.shape(), &Device::Cpu));
        Ok([x.transpose()?, tensor(weight, &[out, inputs])?, tensor(bias, &[out])?])
    }
}

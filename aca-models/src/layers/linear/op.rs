//! The dense layer as an operation of candle's graph.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, Result, Shape, Tensor};
use smallvec::smallvec;

#[cfg(feature = "cuda")]
use super::gpu;
use super::pullback::LinearPullback;
use super::{Linear, with_last};
use crate::layers::Activation;
use crate::layers::elements::entries;
use crate::layers::kernels::linear::{Dense, Wanted};
use crate::layers::kernels::stack::{Stack, Times};
use crate::layers::kernels::vector_math::Elementary;
#[cfg(feature = "cuda")]
use crate::layers::operation::GpuArgument;
use crate::layers::operation::{Argument, Bars, Operation};

/// A layer as an operation of candle's graph on (x, weight, bias), or (x, weight).
pub(super) struct Fused(pub(super) Activation);

impl Fused {
    fn rows<T: Elementary>(
        &self,
        x: &[T],
        weight: &[T],
        bias: Option<&[T]>,
        sizes: (usize, usize),
    ) -> Vec<T> {
        let layers = smallvec![Dense::new(weight, bias, sizes, self.0)];
        Stack { layers, times: Times::None }.forward(x)
    }
}

impl Operation for Fused {
    const NAME: &'static str = "linear";
    const WHAT: &'static str = "a linear layer";

    fn forward(
        &self,
        [x, weight]: [Argument<'_>; 2],
        bias: Option<Argument<'_>>,
    ) -> Result<(CpuStorage, Shape)> {
        let sizes = weight.1.shape().dims2()?;
        let storage = match x.0 {
            CpuStorage::F32(_) => {
                let bias = bias.map(entries).transpose()?;
                CpuStorage::F32(self.rows(entries(x)?, entries(weight)?, bias, sizes))
            }
            _ => {
                let bias = bias.map(entries).transpose()?;
                CpuStorage::F64(self.rows(entries(x)?, entries(weight)?, bias, sizes))
            }
        };
        Ok((storage, with_last(x.1.dims(), sizes.0).into()))
    }

    #[cfg(feature = "cuda")]
    fn forward_on_gpu(
        &self,
        arguments: [GpuArgument<'_>; 2],
        bias: Option<GpuArgument<'_>>,
    ) -> Result<(CudaStorage, Shape)> {
        gpu::value(self.0, arguments, bias)
    }

    fn pull_back(
        &self,
        [x, weight]: [&Tensor; 2],
        bias: Option<&Tensor>,
        value: &Tensor,
        lambda: &Tensor,
    ) -> Result<Bars> {
        let wanted = Wanted { weight: weight.track_op(), bias: bias.is_some_and(Tensor::track_op) };
        let bias = bias.map(Tensor::detach);
        let layer = Linear { weight: weight.detach(), bias, activation: self.0 };
        let pullback = LinearPullback::new(layer, x.detach(), value.detach());
        pullback.bars(lambda, x.track_op(), wanted)
    }
}

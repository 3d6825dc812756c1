//! The dense layer as an operation of candle's graph.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};
use smallvec::smallvec;

#[cfg(feature = "cuda")]
use super::gpu;
use super::pullback::{Bars, LinearPullback};
use super::{Linear, with_last};
use crate::layers::Activation;
use crate::layers::activation::refuse_second_order;
use crate::layers::elements::entries;
use crate::layers::kernels::linear::{Dense, Wanted};
use crate::layers::kernels::stack::{Stack, Times};
use crate::layers::kernels::vector_math::Elementary;

/// A layer as an operation of candle's graph on (x, weight, bias), or (x, weight).
pub(super) struct Fused(pub(super) Activation);

impl Fused {
    fn run(
        &self,
        [x, weight]: [(&CpuStorage, &Layout); 2],
        bias: Option<(&CpuStorage, &Layout)>,
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

    fn pull(
        &self,
        [x, weight]: [&Tensor; 2],
        bias: Option<&Tensor>,
        value: &Tensor,
        lambda: &Tensor,
    ) -> Result<Bars> {
        refuse_second_order("a linear layer")?;
        let wanted = Wanted { weight: weight.track_op(), bias: bias.is_some_and(Tensor::track_op) };
        let bias = bias.map(Tensor::detach);
        let layer = Linear { weight: weight.detach(), bias, activation: self.0 };
        let pullback = LinearPullback::new(layer, x.detach(), value.detach());
        pullback.bars(lambda, x.track_op(), wanted)
    }
}

impl CustomOp2 for Fused {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.run([(x, x_layout), (weight, weight_layout)], None)
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        weight: &CudaStorage,
        weight_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        gpu::value(self.0, [(x, x_layout), (weight, weight_layout)], None)
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        value: &Tensor,
        lambda: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let bars = self.pull([x, weight], None, value, lambda)?;
        Ok((bars.x, bars.weight))
    }
}

impl CustomOp3 for Fused {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.run([(x, x_layout), (weight, weight_layout)], Some((bias, bias_layout)))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        weight: &CudaStorage,
        weight_layout: &Layout,
        bias: &CudaStorage,
        bias_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        gpu::value(self.0, [(x, x_layout), (weight, weight_layout)], Some((bias, bias_layout)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        value: &Tensor,
        lambda: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let bars = self.pull([x, weight], Some(bias), value, lambda)?;
        Ok((bars.x, bars.weight, bars.bias))
    }
}

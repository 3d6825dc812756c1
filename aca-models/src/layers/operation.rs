//! Layers as operations of candle's graph.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use super::activation::refuse_second_order;

/// A contiguous argument on the CPU.
pub(super) type Argument<'a> = (&'a CpuStorage, &'a Layout);

/// A contiguous argument on a GPU.
#[cfg(feature = "cuda")]
pub(super) type GpuArgument<'a> = (&'a CudaStorage, &'a Layout);

/// Cotangents of x, weight and bias, as far as they were asked for.
pub(crate) type Bars = [Option<Tensor>; 3];

/// A layer as a function of x, weight and bias, or of x and weight.
pub(super) trait Operation: Send + Sync {
    /// What candle calls it.
    const NAME: &'static str;
    /// What messages call it.
    const WHAT: &'static str;

    fn forward(
        &self,
        arguments: [Argument<'_>; 2],
        bias: Option<Argument<'_>>,
    ) -> Result<(CpuStorage, Shape)>;

    #[cfg(feature = "cuda")]
    fn forward_on_gpu(
        &self,
        arguments: [GpuArgument<'_>; 2],
        bias: Option<GpuArgument<'_>>,
    ) -> Result<(CudaStorage, Shape)>;

    /// Pulls `lambda`, a cotangent of `value`, back to those of x, weight and bias that candle tracks.
    fn pull_back(
        &self,
        arguments: [&Tensor; 2],
        bias: Option<&Tensor>,
        value: &Tensor,
        lambda: &Tensor,
    ) -> Result<Bars>;
}

/// An [`Operation`] as candle takes it.
pub(super) struct InGraph<O>(pub(super) O);

impl<O: Operation + 'static> InGraph<O> {
    /// Joins the layer's value at contiguous `x` to candle's graph.
    pub(super) fn apply(
        self,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
    ) -> Result<Tensor> {
        match bias {
            Some(bias) => x.apply_op3(weight, &bias.contiguous()?, self),
            None => x.apply_op2(weight, self),
        }
    }
}

impl<O: Operation> InGraph<O> {
    fn pull(
        &self,
        arguments: [&Tensor; 2],
        bias: Option<&Tensor>,
        value: &Tensor,
        lambda: &Tensor,
    ) -> Result<Bars> {
        refuse_second_order(O::WHAT)?;
        self.0.pull_back(arguments, bias, value, lambda)
    }
}

impl<O: Operation> CustomOp2 for InGraph<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.0.forward([(x, x_layout), (weight, weight_layout)], None)
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        weight: &CudaStorage,
        weight_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.0.forward_on_gpu([(x, x_layout), (weight, weight_layout)], None)
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        value: &Tensor,
        lambda: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [x, weight, _] = self.pull([x, weight], None, value, lambda)?;
        Ok((x, weight))
    }
}

impl<O: Operation> CustomOp3 for InGraph<O> {
    fn name(&self) -> &'static str {
        O::NAME
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
        self.0.forward([(x, x_layout), (weight, weight_layout)], Some((bias, bias_layout)))
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
        self.0.forward_on_gpu([(x, x_layout), (weight, weight_layout)], Some((bias, bias_layout)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        value: &Tensor,
        lambda: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [x, weight, bias] = self.pull([x, weight], Some(bias), value, lambda)?;
        Ok((x, weight, bias))
    }
}

//! The dense layer on a GPU: cuBLAS's products, and one launch beside each.

use aca_core::kernels::cuda::{Source, tensor};
use candle_core::backend::BackendStorage;
use candle_core::{CudaStorage, Layout, Result, Shape, Tensor};

use super::pullback::LinearPullback;
use super::{Linear, with_last};
use crate::layers::Activation;
use crate::layers::kernels::cuda;
use crate::layers::kernels::linear::Wanted;
use crate::layers::operation::{Bars, GpuArgument};

/// Returns a layer's value: the product and one launch.
pub(super) fn value(
    activation: Activation,
    [x, weight]: [GpuArgument<'_>; 2],
    bias: Option<GpuArgument<'_>>,
) -> Result<(CudaStorage, Shape)> {
    let (mut sums, [rows, out]) = product(x, weight)?;
    cuda::epilogue(activation, &mut sums, column(bias, out)?, rows * out)?;
    Ok((sums, with_last(x.1.dims(), out).into()))
}

/// Returns a layer's value and its derivative, outside candle's graph.
pub(super) fn linearize(layer: Linear, x: &Tensor) -> Result<(Tensor, LinearPullback)> {
    let (x, weight) = (x.contiguous()?, layer.weight.contiguous()?);
    let bias = layer.bias.as_ref().map(Tensor::contiguous).transpose()?;
    let (value, sums) = {
        let (x, weight) = (x.storage_and_layout(), weight.storage_and_layout());
        let bias = bias.as_ref().map(Tensor::storage_and_layout);
        let bias = bias
            .as_ref()
            .map(|(bias, layout)| Ok::<_, candle_core::Error>((cuda::storage(bias)?, *layout)));
        let bias = bias.transpose()?;
        let x = (cuda::storage(&x.0)?, x.1);
        let (mut sums, [rows, out]) = product(x, (cuda::storage(&weight.0)?, weight.1))?;
        let bias = column(bias, out)?;
        if layer.activation.keeps_input() {
            let value = cuda::kept_epilogue(layer.activation, &mut sums, bias, rows * out)?;
            (value, Some(sums))
        } else {
            cuda::epilogue(layer.activation, &mut sums, bias, rows * out)?;
            (sums, None)
        }
    };
    let shape = with_last(x.dims(), layer.sizes()?.0);
    let value = tensor(value, shape.as_slice());
    let kept = sums.map_or_else(|| value.clone(), |sums| tensor(sums, shape.as_slice()));
    Ok((value, LinearPullback::new(layer, x, kept)))
}

/// `x W^T` of contiguous rows, and how many rows and columns it has.
fn product(
    (x, x_layout): GpuArgument<'_>,
    (weight, weight_layout): GpuArgument<'_>,
) -> Result<(CudaStorage, [usize; 2])> {
    let (out, inputs) = weight_layout.shape().dims2()?;
    let rows = x_layout.shape().elem_count() / inputs;
    let matrix = |shape: (usize, usize), layout: &Layout| {
        Layout::contiguous_with_offset(shape, layout.start_offset())
    };
    let transposed = matrix((out, inputs), weight_layout).transpose(0, 1)?;
    let x_layout = matrix((rows, inputs), x_layout);
    let sums = x.matmul(weight, (1, rows, out, inputs), &x_layout, &transposed)?;
    Ok((sums, [rows, out]))
}

/// The bias of so many columns.
fn column(bias: Option<GpuArgument<'_>>, out: usize) -> Result<Option<(Source<'_>, usize)>> {
    bias.map(|(bias, layout)| Ok((Source::new(bias, layout)?, out))).transpose()
}

/// The cotangents that are wanted: a launch for the sums' and the bias's, and a product for each of the
/// others.
pub(super) fn bars(
    layer: &Linear,
    [x, kept, lambda]: [&Tensor; 3],
    want_x: bool,
    wanted: Wanted,
) -> Result<Bars> {
    let (out, inputs) = layer.sizes()?;
    let rows = x.elem_count() / inputs;
    let (kept, lambda) = (kept.contiguous()?, lambda.detach().contiguous()?);
    let (z, bias) = if wanted.bias && layer.bias.is_some() {
        let (z, bias) = cuda::pulled_columns(layer.activation, &kept, &lambda, [rows, out])?;
        (z, Some(bias))
    } else if layer.activation == Activation::Identity {
        (lambda, None)
    } else {
        (cuda::pulled(layer.activation, &kept, &lambda)?, None)
    };
    let z = z.reshape((rows, out))?;
    let x_bar = want_x.then(|| z.matmul(&layer.weight.contiguous()?)?.reshape(x.shape()));
    let flat = x.contiguous()?.reshape((rows, inputs))?;
    let weight = wanted.weight.then(|| z.t()?.matmul(&flat));
    Ok([x_bar.transpose()?, weight.transpose()?, bias])
}

//! The derivative of a correlation by cuDNN.

use aca_core::kernels::cuda::tensor;
use candle_core::{CudaStorage, Result, Tensor};

use crate::layers::kernels::conv::Geometry;
use crate::layers::kernels::cuda;
use crate::layers::operation::{Bars, GpuArgument};

/// Correlates.
pub(super) fn value(
    x: GpuArgument<'_>,
    weight: GpuArgument<'_>,
    g: Geometry,
) -> Result<CudaStorage> {
    cuda::correlate(x, weight, g)
}

/// Pulls `z` back to the arguments that are `wanted`: x, weight and bias.
pub(super) fn pull([x, weight, z]: [&Tensor; 3], g: Geometry, wanted: [bool; 3]) -> Result<Bars> {
    let [x, weight, z] = [x.contiguous()?, weight.contiguous()?, z.detach().contiguous()?];
    let [x_held, weight_held, z_held] = [&x, &weight, &z].map(Tensor::storage_and_layout);
    let from_x = (cuda::storage(&x_held.0)?, x_held.1);
    let from_weight = (cuda::storage(&weight_held.0)?, weight_held.1);
    let from_z = (cuda::storage(&z_held.0)?, z_held.1);
    let [want_x, want_weight, want_bias] = wanted;
    let x_bar = want_x.then(|| cuda::input_gradient(from_z, from_weight, g)).transpose()?;
    let weight_bar = want_weight.then(|| cuda::weight_gradient(from_x, from_z, g)).transpose()?;
    Ok([
        x_bar.map(|x_bar| tensor(x_bar, x.shape())),
        weight_bar.map(|weight_bar| tensor(weight_bar, weight.shape())),
        want_bias.then(|| z.sum((0, 2, 3))).transpose()?,
    ])
}

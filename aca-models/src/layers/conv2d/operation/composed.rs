//! The derivative of a correlation in candle's convolutions, for GPUs without cuDNN.

#[cfg(feature = "cuda")]
use candle_core::{CudaStorage, bail};
use candle_core::{Result, Tensor};

use crate::layers::kernels::conv::Geometry;
use crate::layers::operation::Bars;
#[cfg(feature = "cuda")]
use crate::layers::operation::GpuArgument;

/// Refuses: without cuDNN layers on a GPU take candle's convolutions.
#[cfg(feature = "cuda")]
pub(super) fn value(
    _x: GpuArgument<'_>,
    _weight: GpuArgument<'_>,
    _g: Geometry,
) -> Result<CudaStorage> {
    bail!("a convolution of ours on a GPU needs the feature cudnn")
}

/// Pulls `z` back to the arguments that are `wanted`: x, weight and bias.
pub(super) fn pull([x, weight, z]: [&Tensor; 3], g: Geometry, wanted: [bool; 3]) -> Result<Bars> {
    let [x, weight, z] = [x.detach(), weight.detach(), z.detach().contiguous()?];
    let [want_x, want_weight, want_bias] = wanted;
    Ok([
        want_x.then(|| input_gradient(&z, &weight.contiguous()?, g)).transpose()?,
        want_weight.then(|| weight_gradient(&x, &z, g)).transpose()?,
        want_bias.then(|| z.sum((0, 2, 3))).transpose()?,
    ])
}

/// Candle pads both axes alike, so that the gradient of an unpadded image is found and its frame left out.
fn input_gradient(z: &Tensor, weight: &Tensor, g: Geometry) -> Result<Tensor> {
    // What the last kernel does not reach.
    let reached = |axis: usize| (g.result[axis] - 1) * g.stride + g.kernel[axis];
    let padded = |axis: usize| g.size[axis] + 2 * g.padding[axis];
    let rest = (0..2).map(|axis| padded(axis) - reached(axis)).max().unwrap_or(0);
    let framed = z.conv_transpose2d(weight, 0, rest, g.stride, 1)?;
    let image = framed.narrow(2, g.padding[0], g.size[0])?.narrow(3, g.padding[1], g.size[1])?;
    image.contiguous()
}

/// The images correlated with the cotangent, channels in place of images.
fn weight_gradient(x: &Tensor, z: &Tensor, g: Geometry) -> Result<Tensor> {
    let [vertical, horizontal] = g.padding;
    let x = x.pad_with_zeros(2, vertical, vertical)?.pad_with_zeros(3, horizontal, horizontal)?;
    let (x, z) = (x.transpose(0, 1)?.contiguous()?, z.transpose(0, 1)?.contiguous()?);
    let weight = x.conv2d(&z, 0, 1, g.stride, 1)?.transpose(0, 1)?;
    weight.narrow(2, 0, g.kernel[0])?.narrow(3, 0, g.kernel[1])?.contiguous()
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::super::{Correlation, geometry};
    use super::*;

    fn noise(shape: &[usize], seed: f64) -> Tensor {
        let numbers = (0..shape.iter().product()).map(|i: usize| (seed + 1.7 * i as f64).sin());
        Tensor::from_iter(numbers, &Device::Cpu).unwrap().reshape(shape).unwrap()
    }

    #[test]
    fn candles_convolutions_give_the_gradients_of_our_kernels() {
        for (size, kernel, stride, padding) in [
            ([6, 6], [3, 3], 1, [1, 1]),
            ([8, 7], [3, 3], 2, [1, 1]),
            ([5, 8], [3, 1], 1, [1, 0]),
            ([7, 6], [2, 3], 2, [0, 1]),
            ([9, 4], [1, 1], 2, [0, 0]),
        ] {
            let x = noise(&[2, 3, size[0], size[1]], 0.1);
            let weight = noise(&[4, 3, kernel[0], kernel[1]], 0.2);
            let g = geometry(x.dims(), weight.dims(), stride, padding).unwrap();
            let z = noise(&[2, 4, g.result[0], g.result[1]], 0.3);
            let expected =
                Correlation { stride, padding }.pull(&x, &weight, &z, [true; 3]).unwrap();
            let found = pull([&x, &weight, &z], g, [true; 3]).unwrap();
            for (found, expected) in found.into_iter().zip(expected) {
                let (found, expected) = (found.unwrap(), expected.unwrap());
                assert_eq!((found.dims(), found.dtype()), (expected.dims(), DType::F64));
                let off = (&found - &expected).unwrap().abs().unwrap().max_all().unwrap();
                let off = off.to_scalar::<f64>().unwrap();
                assert!(off < 1e-12, "{g:?}: off by {off}, far above rounding");
            }
        }
    }
}

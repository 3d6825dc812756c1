//! Two-dimensional correlations, what learned "convolutions" are, with their transposes.
//!
//! Where kernels are 3x3 and move by one pixel, Winograd's algorithm does it with a quarter of the
//! products; everything else goes through matrices of patches.

mod geometry;
mod im2col;
mod lanes;
mod points;
mod scratch;
mod spectra;
mod spectrum;
mod tiles;
mod transforms;
mod transpose;
mod winograd;
mod winograd_gradient;

pub(crate) use geometry::Geometry;
pub(crate) use lanes::Lanes;
use spectrum::Kernels;
use tiles::Images;

/// Correlates `x` with the kernels `weight`.
///
/// # Shapes
/// `x`: `[batch, inner, ..size]`; `weight`: `[outer, inner, ..kernel]`; `bias`: `[outer]`; result:
/// `[batch, outer, ..result]`.
pub(crate) fn correlate<T: Lanes>(
    x: &[T],
    weight: &[T],
    bias: Option<&[T]>,
    g: Geometry,
) -> Vec<T> {
    if !g.suits_winograd() {
        return im2col::correlate(x, weight, bias, g);
    }
    let kernels = T::spectra().of(weight, [g.outer, g.inner], Kernels::Forward);
    let x = Images { data: x, channels: g.inner, size: g.size };
    winograd::correlate(x, &kernels, bias, g.padding, g.result)
}

/// Returns the cotangent of `x` for the cotangent `z` of the result.
pub(crate) fn input_gradient<T: Lanes>(z: &[T], weight: &[T], g: Geometry) -> Vec<T> {
    if !g.suits_winograd() {
        return im2col::input_gradient(z, weight, g);
    }
    let kernels = T::spectra().of(weight, [g.outer, g.inner], Kernels::Transposed);
    let z = Images { data: z, channels: g.outer, size: g.result };
    winograd::correlate(z, &kernels, None, g.padding.map(|padding| 2 - padding), g.size)
}

/// Returns the cotangent of `weight` for the cotangent `z` of the result.
pub(crate) fn weight_gradient<T: Lanes>(x: &[T], z: &[T], g: Geometry) -> Vec<T> {
    if !g.suits_winograd() {
        return im2col::weight_gradient(x, z, g);
    }
    let x = Images { data: x, channels: g.inner, size: g.size };
    let z = Images { data: z, channels: g.outer, size: g.result };
    winograd_gradient::kernel_gradient(x, z, g.padding)
}

/// Returns the cotangent of the bias for the cotangent `z` of the result: sums over pixels.
pub(crate) fn bias_gradient<T: Lanes>(z: &[T], g: Geometry) -> Vec<T> {
    let channel = |channel: usize| {
        let images = z.chunks_exact(g.outer * g.plane());
        let planes = images.map(|image| &image[channel * g.plane()..][..g.plane()]);
        let sums = planes.map(|plane| plane.iter().map(|z| z.to_f64()).sum::<f64>());
        T::from_f64(sums.sum())
    };
    (0..g.outer).map(channel).collect()
}

//! A convolution as an operation of candle's graph.

use aca_core::kernels::View;
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, DType, Device, Result, Shape, Tensor, bail};

use crate::layers::elements::entries;
use crate::layers::kernels::conv::{self, Geometry, Lanes};
#[cfg(feature = "cuda")]
use crate::layers::operation::GpuArgument;
use crate::layers::operation::{Argument, Bars, Operation};

#[cfg(not(feature = "cudnn"))]
mod composed;
#[cfg(feature = "cudnn")]
mod cudnn;

#[cfg(not(feature = "cudnn"))]
use composed as gpu;
#[cfg(feature = "cudnn")]
use cudnn as gpu;

/// A layer as an operation of candle's graph on (x, weight, bias), or (x, weight).
pub(super) struct Correlation {
    pub(super) stride: usize,
    pub(super) padding: [usize; 2],
}

impl Correlation {
    /// Pulls a cotangent back to the arguments that are `wanted`: x, weight and bias.
    pub(super) fn pull(
        &self,
        x: &Tensor,
        weight: &Tensor,
        z: &Tensor,
        wanted: [bool; 3],
    ) -> Result<Bars> {
        if x.device().is_cuda() {
            let g = geometry(x.dims(), weight.dims(), self.stride, self.padding)?;
            return gpu::pull([x, weight, z], g, wanted);
        }
        match x.dtype() {
            DType::F32 => self.pull_elements::<f32>(x, weight, z, wanted),
            _ => self.pull_elements::<f64>(x, weight, z, wanted),
        }
    }

    fn pull_elements<T: Lanes>(
        &self,
        x: &Tensor,
        weight: &Tensor,
        z: &Tensor,
        wanted: [bool; 3],
    ) -> Result<Bars> {
        let g = geometry(x.dims(), weight.dims(), self.stride, self.padding)?;
        let tensors = [x.contiguous()?, weight.contiguous()?, z.detach().contiguous()?];
        let [x, weight, z] = &tensors;
        let (x_view, weight_view, z_view) = (View::new(x)?, View::new(weight)?, View::new(z)?);
        let (x_slice, weight_slice) = (x_view.slice::<T>()?, weight_view.slice::<T>()?);
        let z = z_view.slice::<T>()?;
        let tensor =
            |entries: Vec<T>, shape: &[usize]| Tensor::from_vec(entries, shape, &Device::Cpu);
        let [want_x, want_weight, want_bias] = wanted;
        let x_bar = want_x.then(|| tensor(conv::input_gradient(z, weight_slice, g), x.dims()));
        let weight_bar =
            want_weight.then(|| tensor(conv::weight_gradient(x_slice, z, g), weight.dims()));
        let bias_bar = want_bias.then(|| tensor(conv::bias_gradient(z, g), &[g.outer]));
        Ok([x_bar.transpose()?, weight_bar.transpose()?, bias_bar.transpose()?])
    }
}

/// Returns the sizes of a correlation, after checking that they fit.
pub(super) fn geometry(
    x: &[usize],
    weight: &[usize],
    stride: usize,
    padding: [usize; 2],
) -> Result<Geometry> {
    let &[batch, inner, height, width] = x else {
        bail!("x has shape [batch, channels, height, width], not {x:?}");
    };
    let &[outer, channels, rows, columns] = weight else {
        bail!("a weight has shape [out, in, height, width], not {weight:?}");
    };
    if channels != inner {
        bail!("the layer has {channels} input channels, but x has shape {x:?}");
    }
    if stride == 0 {
        bail!("a stride of 0 leads nowhere; give at least 1");
    }
    if x.contains(&0) || weight.contains(&0) {
        bail!("x of shape {x:?} or a weight of shape {weight:?} is empty");
    }
    let (size, kernel) = ([height, width], [rows, columns]);
    let mut result = [0; 2];
    for axis in 0..2 {
        let padded = size[axis] + 2 * padding[axis];
        if padded < kernel[axis] {
            bail!(
                "kernels of {kernel:?} do not fit into images of {size:?} padded by {padding:?}; give \
                 larger ones or pad more"
            );
        }
        result[axis] = (padded - kernel[axis]) / stride + 1;
    }
    Ok(Geometry { batch, inner, outer, size, kernel, stride, padding, result })
}

fn correlated<T: Lanes>(
    x: Argument<'_>,
    weight: Argument<'_>,
    bias: Option<Argument<'_>>,
    g: Geometry,
) -> Result<Vec<T>> {
    let bias = bias.map(entries).transpose()?;
    Ok(conv::correlate(entries(x)?, entries(weight)?, bias, g))
}

impl Operation for Correlation {
    const NAME: &'static str = "conv2d";
    const WHAT: &'static str = "a convolution";

    fn forward(
        &self,
        [x, weight]: [Argument<'_>; 2],
        bias: Option<Argument<'_>>,
    ) -> Result<(CpuStorage, Shape)> {
        let g = geometry(x.1.dims(), weight.1.dims(), self.stride, self.padding)?;
        let storage = match x.0 {
            CpuStorage::F32(_) => CpuStorage::F32(correlated(x, weight, bias, g)?),
            _ => CpuStorage::F64(correlated(x, weight, bias, g)?),
        };
        Ok((storage, (g.batch, g.outer, g.result[0], g.result[1]).into()))
    }

    #[cfg(feature = "cuda")]
    fn forward_on_gpu(
        &self,
        [x, weight]: [GpuArgument<'_>; 2],
        bias: Option<GpuArgument<'_>>,
    ) -> Result<(CudaStorage, Shape)> {
        if bias.is_some() {
            bail!("a convolution on a GPU takes its bias apart");
        }
        let g = geometry(x.1.dims(), weight.1.dims(), self.stride, self.padding)?;
        Ok((gpu::value(x, weight, g)?, (g.batch, g.outer, g.result[0], g.result[1]).into()))
    }

    fn pull_back(
        &self,
        [x, weight]: [&Tensor; 2],
        bias: Option<&Tensor>,
        _value: &Tensor,
        lambda: &Tensor,
    ) -> Result<Bars> {
        let wanted = [x.track_op(), weight.track_op(), bias.is_some_and(Tensor::track_op)];
        self.pull(x, weight, lambda, wanted)
    }
}

//! A convolution as an operation of candle's graph.

use aca_core::kernels::View;
#[cfg(feature = "cudnn")]
use candle_core::CudaStorage;
use candle_core::{
    CpuStorage, CustomOp2, CustomOp3, DType, Device, Layout, Result, Shape, Tensor, bail,
};

use crate::layers::activation::refuse_second_order;
use crate::layers::elements::entries;
use crate::layers::kernels::conv::{self, Geometry, Lanes};
#[cfg(feature = "cudnn")]
use crate::layers::kernels::cuda;

#[cfg(not(feature = "cudnn"))]
mod composed;
#[cfg(feature = "cudnn")]
mod cudnn;

#[cfg(not(feature = "cudnn"))]
use composed as gpu;
#[cfg(feature = "cudnn")]
use cudnn as gpu;

/// Cotangents of x, weight and bias, where they were wanted.
pub(crate) type Bars = [Option<Tensor>; 3];

/// A layer as an operation of candle's graph on (x, weight, bias), or (x, weight).
pub(super) struct Correlation {
    pub(super) stride: usize,
    pub(super) padding: [usize; 2],
}

impl Correlation {
    fn run(
        &self,
        [x, weight]: [(&CpuStorage, &Layout); 2],
        bias: Option<(&CpuStorage, &Layout)>,
    ) -> Result<(CpuStorage, Shape)> {
        let g = geometry(x.1.dims(), weight.1.dims(), self.stride, self.padding)?;
        let storage = match x.0 {
            CpuStorage::F32(_) => CpuStorage::F32(correlated(x, weight, bias, g)?),
            _ => CpuStorage::F64(correlated(x, weight, bias, g)?),
        };
        Ok((storage, (g.batch, g.outer, g.result[0], g.result[1]).into()))
    }

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
    x: (&CpuStorage, &Layout),
    weight: (&CpuStorage, &Layout),
    bias: Option<(&CpuStorage, &Layout)>,
    g: Geometry,
) -> Result<Vec<T>> {
    let bias = bias.map(entries).transpose()?;
    Ok(conv::correlate(entries(x)?, entries(weight)?, bias, g))
}

impl CustomOp2 for Correlation {
    fn name(&self) -> &'static str {
        "conv2d"
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

    #[cfg(feature = "cudnn")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        weight: &CudaStorage,
        weight_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let g = geometry(x_layout.dims(), weight_layout.dims(), self.stride, self.padding)?;
        let storage = cuda::correlate((x, x_layout), (weight, weight_layout), g)?;
        Ok((storage, (g.batch, g.outer, g.result[0], g.result[1]).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        z: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        refuse_second_order("a convolution")?;
        let wanted = [x.track_op(), weight.track_op(), false];
        let [x, weight, _] = self.pull(x, weight, z, wanted)?;
        Ok((x, weight))
    }
}

impl CustomOp3 for Correlation {
    fn name(&self) -> &'static str {
        "conv2d"
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

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        z: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        refuse_second_order("a convolution")?;
        let wanted = [x.track_op(), weight.track_op(), bias.track_op()];
        let [x, weight, bias] = self.pull(x, weight, z, wanted)?;
        Ok((x, weight, bias))
    }
}

//! A batch norm as an operation of candle's graph.

use std::sync::{Arc, OnceLock};

use aca_core::kernels::View;
use candle_core::{CpuStorage, CustomOp3, DType, Device, Layout, Result, Shape, Tensor};

use super::BatchNorm2d;
use crate::Real;
use crate::layers::activation::refuse_second_order;
use crate::layers::elements::entries;
use crate::layers::kernels::norm::{Moments, Norm, Planes};

/// A layer as an operation of candle's graph on (x, weight, bias); its copies share the moments.
#[derive(Clone)]
pub(crate) struct Normalise {
    planes: Planes,
    eps: f64,
    relu: bool,
    /// Whether the moments are those of the batch.
    batch: bool,
    moments: Arc<OnceLock<Vec<Moments>>>,
}

impl Normalise {
    /// Normalises as `layer` does, by the moments given or by those of the batch.
    pub(super) fn of(layer: &BatchNorm2d, planes: Planes, given: Option<Vec<Moments>>) -> Self {
        let batch = given.is_none();
        let moments = Arc::new(given.map_or_else(OnceLock::new, OnceLock::from));
        Self { planes, eps: layer.eps, relu: layer.relu, batch, moments }
    }

    /// The sizes of its input.
    pub(super) fn planes(&self) -> Planes {
        self.planes
    }

    /// The moments that it normalised by; none before it ran.
    pub(super) fn moments(&self) -> &[Moments] {
        self.moments.get().map_or(&[], Vec::as_slice)
    }

    /// Returns the value at contiguous `x`, outside candle's graph.
    pub(super) fn value(&self, x: &Tensor, parameters: [&Tensor; 2]) -> Result<Tensor> {
        match x.dtype() {
            DType::F32 => self.value_of::<f32>(x, parameters),
            _ => self.value_of::<f64>(x, parameters),
        }
    }

    fn value_of<T: Real>(&self, x: &Tensor, parameters: [&Tensor; 2]) -> Result<Tensor> {
        let values = with_slices(x, parameters, |x, norm| self.run::<T>(x, norm))?;
        Tensor::from_vec(values, x.shape(), &Device::Cpu)
    }

    fn run<T: Real>(&self, x: &[T], parameters: [&[T]; 2]) -> Vec<T> {
        let given = (!self.batch).then(|| self.moments());
        let (values, moments) = self.norm(parameters).forward(x, given);
        self.moments.get_or_init(|| moments);
        values
    }

    fn norm<'a, T>(&self, [weight, bias]: [&'a [T]; 2]) -> Norm<'a, T> {
        Norm { planes: self.planes, weight, bias, eps: self.eps, relu: self.relu }
    }

    /// Pulls a cotangent of the value at `x` back to x, weight and bias.
    pub(crate) fn pull(&self, x: &Tensor, parameters: [&Tensor; 2], z: &Tensor) -> Result<Bars> {
        match x.dtype() {
            DType::F32 => self.pull_of::<f32>(x, parameters, z),
            _ => self.pull_of::<f64>(x, parameters, z),
        }
    }

    fn pull_of<T: Real>(&self, x: &Tensor, parameters: [&Tensor; 2], z: &Tensor) -> Result<Bars> {
        let (x, z) = (x.contiguous()?, z.detach().contiguous()?);
        let z = View::new(&z)?;
        let z = z.slice::<T>()?;
        let pulled = with_slices(&x, parameters, |x, parameters| {
            self.norm(parameters).pull([x, z], self.moments(), self.batch)
        })?;
        Ok([
            Tensor::from_vec(pulled.x, x.shape(), &Device::Cpu)?,
            Tensor::from_vec(pulled.weight, self.planes.channels, &Device::Cpu)?,
            Tensor::from_vec(pulled.bias, self.planes.channels, &Device::Cpu)?,
        ])
    }
}

/// Cotangents of x, weight and bias.
pub(crate) type Bars = [Tensor; 3];

impl CustomOp3 for Normalise {
    fn name(&self) -> &'static str {
        "batch-norm"
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
        let (x, weight, bias) = ((x, x_layout), (weight, weight_layout), (bias, bias_layout));
        let storage = match x.0 {
            CpuStorage::F32(_) => {
                CpuStorage::F32(self.run(entries(x)?, [entries(weight)?, entries(bias)?]))
            }
            _ => CpuStorage::F64(self.run(entries(x)?, [entries(weight)?, entries(bias)?])),
        };
        Ok((storage, x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        z: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        refuse_second_order("a batch norm")?;
        let [x, weight, bias] = self.pull(x, [weight, bias], z)?;
        Ok((Some(x), Some(weight), Some(bias)))
    }
}

/// Runs `body` on the elements of contiguous `x`, and of a weight and a bias.
fn with_slices<T: Real, R>(
    x: &Tensor,
    [weight, bias]: [&Tensor; 2],
    body: impl FnOnce(&[T], [&[T]; 2]) -> R,
) -> Result<R> {
    let (weight, bias) = (weight.contiguous()?, bias.contiguous()?);
    let (x, weight, bias) = (View::new(x)?, View::new(&weight)?, View::new(&bias)?);
    Ok(body(x.slice()?, [weight.slice()?, bias.slice()?]))
}

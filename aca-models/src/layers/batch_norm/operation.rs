//! A batch norm as an operation of candle's graph.

use std::sync::{Arc, OnceLock};

use aca_core::kernels::View;
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, DType, Device, Result, Shape, Tensor};

use super::{BatchNorm2d, peers};
use crate::Real;
use crate::layers::elements::entries;
use crate::layers::kernels::norm::{Moments, Norm, Planes, Pulled, Through};
#[cfg(feature = "cuda")]
use crate::layers::operation::GpuArgument;
use crate::layers::operation::{Argument, Bars, Operation};

/// A layer as an operation of candle's graph on (x, weight, bias); its copies share the moments.
#[derive(Clone)]
pub(crate) struct Normalise {
    pub(super) planes: Planes,
    pub(super) eps: f64,
    pub(super) relu: bool,
    /// Whether the moments are those of the batch.
    pub(super) batch: bool,
    /// Who has other images of the batch.
    pub(super) ranks: Option<Arc<dyn super::BatchPeers>>,
    pub(super) moments: Arc<OnceLock<Batch>>,
    #[cfg(feature = "cuda")]
    pub(super) on_gpu: Arc<OnceLock<super::gpu::Found>>,
}

/// What was normalised by.
pub(super) struct Batch {
    moments: Vec<Moments>,
    /// Numbers of a channel that they are of.
    count: f64,
}

impl Normalise {
    /// Normalises as `layer` does, by the moments given or by those of the batch.
    pub(super) fn of(layer: &BatchNorm2d, planes: Planes, given: Option<Vec<Moments>>) -> Self {
        let batch = given.is_none();
        let ranks = if batch { layer.peers.get() } else { None };
        let count = planes.count() as f64;
        let given = given.map(|moments| Batch { moments, count });
        let moments = Arc::new(given.map_or_else(OnceLock::new, OnceLock::from));
        Self {
            planes,
            eps: layer.eps,
            relu: layer.relu,
            batch,
            ranks,
            moments,
            #[cfg(feature = "cuda")]
            on_gpu: Arc::default(),
        }
    }

    /// The moments that it normalised by, none before it ran, and how many numbers of a channel they are
    /// of.
    pub(super) fn moments(&self) -> (&[Moments], f64) {
        self.moments.get().map_or((&[], 0.0), |batch| (&batch.moments, batch.count))
    }

    /// Returns the value at contiguous `x`, outside candle's graph.
    pub(super) fn value(&self, x: &Tensor, parameters: [&Tensor; 2]) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            return self.value_on_gpu(x, parameters);
        }
        match x.dtype() {
            DType::F32 => self.value_of::<f32>(x, parameters),
            _ => self.value_of::<f64>(x, parameters),
        }
    }

    fn value_of<T: Real>(&self, x: &Tensor, parameters: [&Tensor; 2]) -> Result<Tensor> {
        let values = with_slices(x, parameters, |x, norm| self.run::<T>(x, norm))??;
        Tensor::from_vec(values, x.shape(), &Device::Cpu)
    }

    fn run<T: Real>(&self, x: &[T], parameters: [&[T]; 2]) -> Result<Vec<T>> {
        let norm = self.norm(parameters);
        if let Some(ranks) = &self.ranks {
            let own = norm.batch_moments(x);
            let (moments, count) = peers::moments(&**ranks, &own, self.planes.count())?;
            let all = self.moments.get_or_init(|| Batch { moments, count });
            return Ok(norm.forward(x, Some(&all.moments)).0);
        }
        let given = (!self.batch).then(|| self.moments().0);
        let (values, moments) = norm.forward(x, given);
        self.moments.get_or_init(|| Batch { moments, count: self.planes.count() as f64 });
        Ok(values)
    }

    fn norm<'a, T>(&self, [weight, bias]: [&'a [T]; 2]) -> Norm<'a, T> {
        Norm { planes: self.planes, weight, bias, eps: self.eps, relu: self.relu }
    }

    /// Pulls a cotangent of the value at `x` back to x, weight and bias.
    pub(crate) fn pull(
        &self,
        x: &Tensor,
        parameters: [&Tensor; 2],
        z: &Tensor,
    ) -> Result<[Tensor; 3]> {
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            return self.pull_on_gpu(x, parameters, z);
        }
        match x.dtype() {
            DType::F32 => self.pull_of::<f32>(x, parameters, z),
            _ => self.pull_of::<f64>(x, parameters, z),
        }
    }

    fn pull_of<T: Real>(
        &self,
        x: &Tensor,
        parameters: [&Tensor; 2],
        z: &Tensor,
    ) -> Result<[Tensor; 3]> {
        let (x, z) = (x.contiguous()?, z.detach().contiguous()?);
        let z = View::new(&z)?;
        let z = z.slice::<T>()?;
        let pulled = with_slices(&x, parameters, |x, parameters| {
            self.pull_slices(self.norm(parameters), [x, z])
        })??;
        Ok([
            Tensor::from_vec(pulled.x, x.shape(), &Device::Cpu)?,
            Tensor::from_vec(pulled.weight, self.planes.channels, &Device::Cpu)?,
            Tensor::from_vec(pulled.bias, self.planes.channels, &Device::Cpu)?,
        ])
    }

    fn pull_slices<T: Real>(&self, norm: Norm<'_, T>, xz: [&[T]; 2]) -> Result<Pulled<T>> {
        let (moments, count) = self.moments();
        let Some(ranks) = &self.ranks else {
            let through = if self.batch { Through::Own } else { Through::Nothing };
            return Ok(norm.pull(xz, moments, through));
        };
        // The moments are those of all ranks, so every rank's result depends on this one's input.
        let sums = peers::sums(&**ranks, &norm.cotangent_sums(xz, moments))?;
        Ok(norm.pull(xz, moments, Through::All { sums: &sums, count }))
    }
}

impl Operation for Normalise {
    const NAME: &'static str = "batch-norm";
    const WHAT: &'static str = "a batch norm";

    fn forward(
        &self,
        [x, weight]: [Argument<'_>; 2],
        bias: Option<Argument<'_>>,
    ) -> Result<(CpuStorage, Shape)> {
        let bias = given(bias)?;
        let storage = match x.0 {
            CpuStorage::F32(_) => {
                CpuStorage::F32(self.run(entries(x)?, [entries(weight)?, entries(bias)?])?)
            }
            _ => CpuStorage::F64(self.run(entries(x)?, [entries(weight)?, entries(bias)?])?),
        };
        Ok((storage, x.1.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn forward_on_gpu(
        &self,
        [x, weight]: [GpuArgument<'_>; 2],
        bias: Option<GpuArgument<'_>>,
    ) -> Result<(CudaStorage, Shape)> {
        Ok((self.run_on_gpu([x, weight, given(bias)?])?, x.1.shape().clone()))
    }

    fn pull_back(
        &self,
        [x, weight]: [&Tensor; 2],
        bias: Option<&Tensor>,
        _value: &Tensor,
        lambda: &Tensor,
    ) -> Result<Bars> {
        Ok(self.pull(x, [weight, given(bias)?], lambda)?.map(Some))
    }
}

/// A batch norm always has a bias.
fn given<T>(bias: Option<T>) -> Result<T> {
    bias.ok_or_else(|| candle_core::Error::msg("a batch norm needs its bias"))
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

//! Batch norms on a GPU, whose moments stay there.

use std::sync::{Arc, OnceLock};

use aca_core::kernels::cuda::{Source, tensor};
use candle_core::{CudaStorage, DType, Device, Result, Tensor};

use super::operation::Normalise;
use super::{BatchNorm2d, BatchNormMode, peers};
use crate::layers::kernels::cuda::{Batch, Follow, Norm, storage};
use crate::layers::kernels::norm::Moments;
use crate::layers::operation::GpuArgument;

/// What was normalised by: `[channels, 2]` in `f64`, and how many numbers of a channel it is of.
pub(super) struct Found {
    moments: Tensor,
    count: f64,
}

impl BatchNorm2d {
    /// The running moments as the kernels take them, if the layer normalises by them.
    pub(super) fn given_on_gpu(&self) -> Result<Option<Tensor>> {
        if self.mode() != BatchNormMode::Eval {
            return Ok(None);
        }
        let moments = self.running_statistics().map(|var| var.as_detached_tensor());
        Tensor::stack(&moments, 1)?.to_dtype(DType::F64)?.contiguous().map(Some)
    }

    /// Lets running statistics follow the moments of a batch, in a launch each.
    pub(super) fn follow_on_gpu(&self, normalise: &Normalise) -> Result<()> {
        let Some(Found { moments, count }) = normalise.on_gpu.get() else { return Ok(()) };
        if self.mode() != BatchNormMode::Train {
            return Ok(());
        }
        let unbiased = self.momentum * count / (count - 1.0);
        let kept = 1.0 - self.momentum;
        self.running_mean.inplace_op2(moments, &Follow { entry: 0, kept, part: self.momentum })?;
        self.running_var.inplace_op2(moments, &Follow { entry: 1, kept, part: unbiased })
    }
}

impl Normalise {
    /// The same operation with given moments of a GPU.
    pub(super) fn given_on_gpu(self, moments: Option<Tensor>) -> Self {
        let Some(moments) = moments else { return self };
        let found = Found { moments, count: self.planes.count() as f64 };
        Self { batch: false, ranks: None, on_gpu: Arc::new(OnceLock::from(found)), ..self }
    }

    fn norm_on_gpu<'a>(&self, [weight, bias]: [Source<'a>; 2]) -> Norm<'a> {
        Norm { planes: self.planes, weight, bias, eps: self.eps, relu: self.relu }
    }

    /// Returns the values, and notes the moments.
    pub(super) fn run_on_gpu(
        &self,
        [x, weight, bias]: [GpuArgument<'_>; 3],
    ) -> Result<CudaStorage> {
        let x = Source::new(x.0, x.1)?;
        let parameters = [Source::new(weight.0, weight.1)?, Source::new(bias.0, bias.1)?];
        let norm = self.norm_on_gpu(parameters);
        if !self.batch {
            return self.by_known(&norm, x);
        }
        if let Some(ranks) = &self.ranks {
            let found = self.moments_of_ranks(&**ranks, &norm, x)?;
            self.on_gpu.get_or_init(|| found);
            return self.by_known(&norm, x);
        }
        let (values, moments) = norm.batch_value(x)?;
        let moments = tensor(moments, (self.planes.channels, 2));
        let count = self.planes.count() as f64;
        self.on_gpu.get_or_init(|| Found { moments, count });
        Ok(values)
    }

    /// The values by moments that are there.
    fn by_known(&self, norm: &Norm<'_>, x: Source<'_>) -> Result<CudaStorage> {
        let (held, layout) = self.found()?.moments.storage_and_layout();
        norm.value(x, Source::new(storage(&held)?, layout)?)
    }

    fn found(&self) -> Result<&Found> {
        let missing = || candle_core::Error::msg("a batch norm has no moments before it ran");
        self.on_gpu.get().ok_or_else(missing)
    }

    /// The moments of all ranks, which meet on the CPU.
    fn moments_of_ranks(
        &self,
        ranks: &dyn super::BatchPeers,
        norm: &Norm<'_>,
        x: Source<'_>,
    ) -> Result<Found> {
        let own = tensor(norm.batch_moments(x)?, (self.planes.channels, 2)).to_vec2::<f64>()?;
        let own = own.iter().map(|own| Moments { mean: own[0], variance: own[1] });
        let own: Vec<Moments> = own.collect();
        let (all, count) = peers::moments(ranks, &own, self.planes.count())?;
        let numbers = all.iter().flat_map(|moments| [moments.mean, moments.variance]);
        let moments = Tensor::from_iter(numbers, &Device::Cuda(x.device().clone()))?;
        Ok(Found { moments: moments.reshape((self.planes.channels, 2))?, count })
    }

    pub(super) fn value_on_gpu(&self, x: &Tensor, parameters: [&Tensor; 2]) -> Result<Tensor> {
        let [weight, bias] = [parameters[0].contiguous()?, parameters[1].contiguous()?];
        let held = [x, &weight, &bias].map(Tensor::storage_and_layout);
        let [x_held, weight, bias] = &held;
        let from = [
            (storage(&x_held.0)?, x_held.1),
            (storage(&weight.0)?, weight.1),
            (storage(&bias.0)?, bias.1),
        ];
        Ok(tensor(self.run_on_gpu(from)?, x.shape()))
    }

    /// Pulls a cotangent of the value at `x` back to x, weight and bias.
    pub(super) fn pull_on_gpu(
        &self,
        x: &Tensor,
        parameters: [&Tensor; 2],
        z: &Tensor,
    ) -> Result<[Tensor; 3]> {
        let Found { moments, count } = self.found()?;
        let (x, z) = (x.contiguous()?, z.detach().contiguous()?);
        let [weight, bias] = [parameters[0].contiguous()?, parameters[1].contiguous()?];
        let held = [&x, &z, &weight, &bias, moments].map(Tensor::storage_and_layout);
        let sources = held.iter().map(|(held, layout)| Ok(Source::new(storage(held)?, layout)?));
        let sources = sources.collect::<Result<Vec<_>>>()?;
        let &[from_x, from_z, weight, bias, moments] = sources.as_slice() else {
            candle_core::bail!("a source for each of five tensors")
        };
        let norm = self.norm_on_gpu([weight, bias]);
        let all = match &self.ranks {
            None => None,
            // The moments are those of all ranks, so every rank's result depends on this one's input.
            Some(ranks) => Some(self.sums_of_ranks(&**ranks, &norm, [from_x, from_z, moments])?),
        };
        let all = all.as_ref().map(Tensor::storage_and_layout);
        let batch = match &all {
            Some((all, layout)) => Batch::All(Source::new(storage(all)?, layout)?, *count),
            None if self.batch => Batch::Own,
            None => Batch::Given,
        };
        let [x_bar, weight, bias] = norm.pull([from_x, from_z], moments, batch)?;
        let channels = self.planes.channels;
        Ok([tensor(x_bar, x.shape()), tensor(weight, channels), tensor(bias, channels)])
    }

    /// The sums of cotangents over all ranks, which meet on the CPU.
    fn sums_of_ranks(
        &self,
        ranks: &dyn super::BatchPeers,
        norm: &Norm<'_>,
        [x, z, moments]: [Source<'_>; 3],
    ) -> Result<Tensor> {
        let shape = (self.planes.channels, 2);
        let own = tensor(norm.sums([x, z], moments)?, shape).to_vec2::<f64>()?;
        let own: Vec<[f64; 2]> = own.iter().map(|own| [own[0], own[1]]).collect();
        let all = peers::sums(ranks, &own)?;
        let numbers = all.into_iter().flatten();
        Tensor::from_iter(numbers, &Device::Cuda(x.device().clone()))?.reshape(shape)
    }
}

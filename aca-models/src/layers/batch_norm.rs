//! Normalisation of channels over a batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use candle_core::{DType, Device, Result, Tensor, Var, bail};
use candle_nn::{Init, Module, VarBuilder};

pub(crate) use self::operation::Normalise;
pub use self::peers::BatchPeers;
pub(crate) use self::peers::Peers;
use super::Activation;
use super::activation::is_native;
use super::kernels::norm::{Moments, Planes};
use super::operation::InGraph;

#[cfg(feature = "cuda")]
mod gpu;
mod operation;
mod peers;

/// Which statistics a [`BatchNorm2d`] uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BatchNormMode {
    /// Statistics of the batch; the running ones are updated.
    #[default]
    Train,
    /// Statistics of the batch; the running ones stay as they are.
    Frozen,
    /// The running statistics.
    Eval,
}

/// `weight * (x - mean) / sqrt(variance + eps) + bias` for each channel, and with `relu` the larger of that
/// and zero, in the same pass.
///
/// While training, mean and variance are those of the batch, and each evaluation moves the running ones a
/// part `momentum` of the way to them (to the unbiased variance, as PyTorch does).
///
/// # Shapes
/// `weight`, `bias` and both running statistics: `[channels]`; input and result `[batch, channels, height,
/// width]`. All `f32` or all `f64`; other types use candle's operations.
///
/// # Gradient
/// In closed form, with respect to the input, the weight and the bias, through the statistics of the batch
/// where those are used. Second derivatives as with [`Activation`].
///
/// # Errors
/// `forward` fails when shapes or dtypes do not fit, and on one number per channel where the batch's
/// statistics are used.
///
/// # Example
/// ```
/// use aca_models::layers::{BatchNorm2d, BatchNormMode};
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::{Module, VarBuilder, VarMap};
///
/// # fn main() -> candle_core::Result<()> {
/// let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F64, &Device::Cpu);
/// let layer = BatchNorm2d::new(1, vb)?;
/// let x = Tensor::new(&[[[[1.0f64, 3.0]]]], &Device::Cpu)?;
/// layer.forward(&x)?;
/// assert!((layer.running_mean.to_vec1::<f64>()?[0] - 0.2).abs() < 1e-15);
/// layer.set_mode(BatchNormMode::Eval);
/// layer.forward(&x)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct BatchNorm2d {
    /// `[channels]`.
    pub weight: Tensor,
    /// `[channels]`.
    pub bias: Tensor,
    /// `[channels]`.
    pub running_mean: Var,
    /// `[channels]`.
    pub running_var: Var,
    /// Added to variances.
    pub eps: f64,
    /// How far running statistics move towards those of a batch: 0 not at all, 1 all the way.
    pub momentum: f64,
    /// Whether a ReLU follows.
    pub relu: bool,
    mode: AtomicU8,
    peers: Peers,
}

impl BatchNorm2d {
    /// Returns a layer whose variables have PyTorch's names and initial values, in training mode.
    pub fn new(channels: usize, vb: VarBuilder<'_>) -> Result<Self> {
        let constant =
            |name: &str, value: f64| vb.get_with_hints(channels, name, Init::Const(value));
        let running = [constant("running_mean", 0.0)?, constant("running_var", 1.0)?];
        Self::from_tensors([constant("weight", 1.0)?, constant("bias", 0.0)?], running)
    }

    /// Returns a layer with given parameters and running statistics (mean and variance), which may be
    /// variables or not.
    ///
    /// # Errors
    /// When their shapes or dtypes differ.
    pub fn from_tensors([weight, bias]: [Tensor; 2], running: [Tensor; 2]) -> Result<Self> {
        for tensor in [&weight, &bias, &running[0], &running[1]] {
            if tensor.rank() != 1 || tensor.dims() != weight.dims() {
                let (one, other) = (weight.dims(), tensor.dims());
                bail!(
                    "parameters of a batch norm have shape [channels], not {one:?} and {other:?}"
                );
            }
            if tensor.dtype() != weight.dtype() {
                let (one, other) = (weight.dtype(), tensor.dtype());
                bail!("parameters of a batch norm are {one:?} and {other:?}; cast one");
            }
        }
        let [mean, variance] = running;
        let (running_mean, running_var) = (Var::from_tensor(&mean)?, Var::from_tensor(&variance)?);
        let (eps, momentum, mode) = (1e-5, 0.1, AtomicU8::new(BatchNormMode::Train as u8));
        let (relu, peers) = (false, Peers::default());
        Ok(Self { weight, bias, running_mean, running_var, eps, momentum, relu, mode, peers })
    }

    /// The same layer followed by a ReLU.
    pub fn with_relu(self) -> Self {
        Self { relu: true, ..self }
    }

    /// The same layer with the ranks that `peers` will have.
    pub(crate) fn with_peers(self, peers: Peers) -> Self {
        Self { peers, ..self }
    }

    /// Takes the statistics of a batch over the images of all ranks from now on.
    ///
    /// All ranks must then evaluate the layer, and pull back through it, the same number of times: an ODE block needs
    /// fixed steps. What fails on one rank alone leaves the others waiting, so it must end the whole run. A value needs
    /// one message, a pullback another, of a few numbers per channel.
    pub fn synchronise(&self, ranks: Arc<dyn BatchPeers>) {
        self.peers.set(ranks);
    }

    /// Which statistics it uses.
    pub fn mode(&self) -> BatchNormMode {
        match self.mode.load(Ordering::Relaxed) {
            mode if mode == BatchNormMode::Train as u8 => BatchNormMode::Train,
            mode if mode == BatchNormMode::Frozen as u8 => BatchNormMode::Frozen,
            _ => BatchNormMode::Eval,
        }
    }

    /// Sets which statistics it uses from now on.
    pub fn set_mode(&self, mode: BatchNormMode) {
        self.mode.store(mode as u8, Ordering::Relaxed);
    }

    /// The running mean and variance.
    pub fn running_statistics(&self) -> [Var; 2] {
        [self.running_mean.clone(), self.running_var.clone()]
    }

    /// Returns the same function of `x` in candle's operations, which can be differentiated twice; running
    /// statistics follow as they do with `forward`.
    pub fn trace(&self, x: &Tensor) -> Result<Tensor> {
        let planes = self.planes(x)?;
        let channels = (1, planes.channels, 1, 1);
        let [mean, variance] = if self.mode() == BatchNormMode::Eval {
            let [mean, variance] = self.running_statistics().map(|var| var.as_detached_tensor());
            [mean.reshape(channels)?, variance.reshape(channels)?]
        } else if self.peers.get().is_some() {
            bail!(
                "a batch norm with the statistics of many ranks has no second derivatives and runs on the \
                 CPU; leave its statistics to each rank"
            );
        } else {
            let mean = average(x)?;
            let variance = average(&x.broadcast_sub(&mean)?.sqr()?)?;
            let entries = |x: &Tensor| x.detach().flatten_all();
            self.advance([&entries(&mean)?, &entries(&variance)?], planes.count() as f64)?;
            [mean, variance]
        };
        let normal = x.broadcast_sub(&mean)?.broadcast_div(&(variance + self.eps)?.sqrt()?)?;
        let weighted = normal.broadcast_mul(&self.weight.reshape(channels)?)?;
        let value = weighted.broadcast_add(&self.bias.reshape(channels)?)?;
        if self.relu { Activation::Relu.trace(&value) } else { Ok(value) }
    }

    /// Returns the value outside candle's graph, and how to pull a cotangent of it back.
    pub(crate) fn linearize(&self, x: &Tensor) -> Result<(Tensor, Normalise)> {
        let normalise = self.normalise(self.planes(x)?, x)?;
        let value = normalise.value(&x.contiguous()?, [&self.weight, &self.bias])?;
        self.follow(&normalise)?;
        Ok((value, normalise))
    }

    /// What it does to `x`.
    fn normalise(&self, planes: Planes, x: &Tensor) -> Result<Normalise> {
        match x.device() {
            #[cfg(feature = "cuda")]
            Device::Cuda(_) => {
                Ok(Normalise::of(self, planes, None).given_on_gpu(self.given_on_gpu()?))
            }
            _ => Ok(Normalise::of(self, planes, self.given()?)),
        }
    }

    /// The running moments, if the layer normalises by them.
    fn given(&self) -> Result<Option<Vec<Moments>>> {
        if self.mode() != BatchNormMode::Eval {
            return Ok(None);
        }
        let [mean, variance] = self.running_statistics().map(|var| numbers(&var));
        let moments = mean?.into_iter().zip(variance?);
        Ok(Some(moments.map(|(mean, variance)| Moments { mean, variance }).collect()))
    }

    /// Lets running statistics follow the moments of a batch.
    fn follow(&self, normalise: &Normalise) -> Result<()> {
        if self.mode() != BatchNormMode::Train {
            return Ok(());
        }
        #[cfg(feature = "cuda")]
        if self.weight.device().is_cuda() {
            return self.follow_on_gpu(normalise);
        }
        let (moments, count) = normalise.moments();
        let tensor = |entry: fn(&Moments) -> f64| {
            Tensor::from_iter(moments.iter().map(entry), &Device::Cpu)?
                .to_dtype(self.weight.dtype())
        };
        self.advance([&tensor(|m| m.mean)?, &tensor(|m| m.variance)?], count)
    }

    fn advance(&self, [mean, variance]: [&Tensor; 2], count: f64) -> Result<()> {
        if self.mode() != BatchNormMode::Train {
            return Ok(());
        }
        let unbiased = self.momentum * count / (count - 1.0);
        for (var, batch, part) in
            [(&self.running_mean, mean, self.momentum), (&self.running_var, variance, unbiased)]
        {
            let kept = var.as_detached_tensor().affine(1.0 - self.momentum, 0.0)?;
            var.set(&(kept + batch.affine(part, 0.0)?)?)?;
        }
        Ok(())
    }

    /// Returns the sizes of `x`, after checking that it fits the layer.
    fn planes(&self, x: &Tensor) -> Result<Planes> {
        let &[batch, channels, height, width] = x.dims() else {
            bail!("x has shape [batch, channels, height, width], not {:?}", x.dims());
        };
        if self.weight.dims() != [channels] {
            let known = self.weight.dims();
            bail!("the layer has channels {known:?}, but x has shape {:?}", x.dims());
        }
        if x.dtype() != self.weight.dtype() {
            bail!("x is {:?} but the layer is {:?}; cast one", x.dtype(), self.weight.dtype());
        }
        let planes = Planes { batch, channels, pixels: height * width };
        if planes.count() < 2 && self.mode() != BatchNormMode::Eval {
            bail!(
                "x of shape {:?} has {} numbers per channel, which have no variance; give more or evaluate \
                 with running statistics",
                x.dims(),
                planes.count()
            );
        }
        Ok(planes)
    }
}

impl Module for BatchNorm2d {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let planes = self.planes(x)?;
        if ![x, &self.weight, &self.bias].into_iter().all(is_native) {
            return self.trace(x);
        }
        let normalise = self.normalise(planes, x)?;
        let (x, weight) = (x.contiguous()?, self.weight.contiguous()?);
        let value = InGraph(normalise.clone()).apply(&x, &weight, Some(&self.bias))?;
        self.follow(&normalise)?;
        Ok(value)
    }
}

/// The mean of every channel, `[1, channels, 1, 1]`.
fn average(x: &Tensor) -> Result<Tensor> {
    x.mean_keepdim((0, 2, 3))
}

fn numbers(x: &Tensor) -> Result<Vec<f64>> {
    x.to_dtype(DType::F64)?.to_vec1()
}

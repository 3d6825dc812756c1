//! A network with its variables.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor, Var};

use super::evaluations::Meter;
use super::layer::Layer;
use super::variables::{Named, Scope, Variables};
use super::{
    Evaluations, LoadReport, Mode, NetworkName, NetworkSpec, OdeOptions, digits, pth, residual,
    squeezenext,
};
use crate::communicator::Communicator;
use crate::layers::BatchNormMode;
use crate::layers::batch_norm::Peers;
use crate::{Error, Result};

/// A network that classifies images.
///
/// # Shapes
/// Images: `[n, channels, height, width]`, of the network's dtype; result: `[n, classes]`, before any
/// softmax. The size of the images is free, as long as something is left after three halvings (one for
/// digits).
///
/// # Gradient
/// By candle's `backward`, with respect to the images and the parameters; through ODE blocks as
/// [`OdeOptions::gradient`] says. Parameters must not change between a forward pass and its backward.
/// Second derivatives are there where candle keeps gradients in its graph, through ODE blocks with
/// `Gradient::Naive` alone; other strategies then refuse them.
///
/// # Example
/// ```
/// use aca_models::networks::{Mode, Network, NetworkName, NetworkSpec, OdeOptions};
/// use candle_core::{DType, Device, Tensor};
///
/// # fn main() -> aca_models::Result<()> {
/// let spec = NetworkSpec { seed: 7, ..NetworkSpec::of(NetworkName::Digits) };
/// let network = Network::new(&spec, &OdeOptions::digits())?;
/// let images = Tensor::ones((2, 1, 8, 8), DType::F32, &Device::Cpu)?;
/// let logits = network.forward(&images, Mode::Train)?;
/// assert_eq!(logits.dims(), [2, 10]);
/// assert!(logits.sum_all()?.backward()?.get(&network.parameters()[0].1).is_some());
/// # Ok(())
/// # }
/// ```
pub struct Network {
    name: NetworkName,
    classes: usize,
    train: Vec<Layer>,
    /// The same layers over the same variables with batch norms that use running statistics: a switch
    /// in one set of layers would reach into backward passes that are still to come.
    eval: Vec<Layer>,
    parameters: Named,
    statistics: Named,
    meters: Vec<(String, Arc<Meter>)>,
    peers: Peers,
}

/// A parameter of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name, of parts joined by dots.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its entries.
    pub count: usize,
}

impl Network {
    /// Builds a network whose ODE blocks are solved as `ode` says.
    ///
    /// # Errors
    /// When the solver's settings are wrong, or the dtype is neither `f32` nor `f64`.
    pub fn new(spec: &NetworkSpec, ode: &OdeOptions) -> Result<Self> {
        let NetworkSpec { name, classes, channels, .. } = *spec;
        let variables = RefCell::new(Variables::new(spec)?);
        let layers = |mode: BatchNormMode| {
            let scope = Scope::new(&variables, mode);
            match name {
                NetworkName::ResNet18 => residual::layers(&scope, channels, classes, None),
                NetworkName::Node18 => residual::layers(&scope, channels, classes, Some(ode)),
                NetworkName::SqueezeNext => squeezenext::layers(&scope, channels, classes, ode),
                NetworkName::Digits => digits::layers(&scope, channels, classes, ode),
            }
        };
        let (train, eval) = (layers(BatchNormMode::Train)?, layers(BatchNormMode::Eval)?);
        let Variables { parameters, statistics, meters, peers, .. } = variables.into_inner();
        Ok(Self { name, classes, train, eval, parameters, statistics, meters, peers })
    }

    /// The kind of network.
    pub fn name(&self) -> NetworkName {
        self.name
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Numbers in a channel of one image where batch norms see the fewest: after all halvings, of which each
    /// rounds up.
    pub(crate) fn fewest_numbers(&self, [_, height, width]: [usize; 3]) -> usize {
        let halvings = match self.name {
            NetworkName::Digits => 1,
            NetworkName::ResNet18 | NetworkName::Node18 | NetworkName::SqueezeNext => 3,
        };
        height.div_ceil(1 << halvings) * width.div_ceil(1 << halvings)
    }

    /// Device of the variables and of the images.
    pub fn device(&self) -> &Device {
        self.parameters.first().map_or(&Device::Cpu, |(_, var)| var.device())
    }

    /// The type of its variables, and of images that it takes.
    pub fn dtype(&self) -> DType {
        self.parameters.first().map_or(DType::F32, |(_, var)| var.dtype())
    }

    /// Returns a score (logit) for each class.
    ///
    /// # Errors
    /// When the images do not fit, or an ODE cannot be solved.
    pub fn forward(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        match mode {
            Mode::Train => self.train.iter().try_fold(images.clone(), |x, layer| layer.forward(&x)),
            Mode::Eval => self.eval.iter().try_fold(images.detach(), |x, layer| {
                // At once, so that nothing is kept for a backward.
                Ok(layer.forward(&x)?.detach())
            }),
        }
    }

    /// The parameters with their names, in the order of the layers.
    pub fn parameters(&self) -> Vec<(String, Var)> {
        self.parameters.clone()
    }

    /// The running means and variances with their names, in the order of the layers.
    pub fn statistics(&self) -> Vec<(String, Var)> {
        self.statistics.clone()
    }

    /// The parameters' names, shapes and counts, in the order of [`parameters`](Self::parameters).
    pub fn describe(&self) -> Vec<Parameter> {
        let rows = self.parameters.iter().map(|(name, var)| Parameter {
            name: name.clone(),
            shape: var.dims().to_vec(),
            count: var.elem_count(),
        });
        rows.collect()
    }

    /// Changes how the ODE blocks are solved and differentiated; has no effect on a network without them.
    ///
    /// # Errors
    /// When the solver's settings are wrong; some blocks may then have them and others not.
    pub fn set_ode(&mut self, ode: OdeOptions) -> Result<()> {
        for layer in self.train.iter_mut().chain(&mut self.eval) {
            if let Layer::Ode(block) = layer {
                block.set(&ode)?;
            }
        }
        Ok(())
    }

    /// Calls `work` with this network while the blocks that it trains with solve at a tenth of their tolerance, or with
    /// fixed steps of half the size.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn tightened<R>(&mut self, work: impl FnOnce(&Self) -> Result<R>) -> Result<R> {
        let mut kept = Vec::new();
        for layer in &mut self.train {
            if let Layer::Ode(block) = layer {
                kept.push(block.tightened().map(|ode| block.swap(ode))?);
            }
        }
        let result = work(self);
        let blocks = self.train.iter_mut().filter_map(|layer| match layer {
            Layer::Ode(block) => Some(block),
            _ => None,
        });
        for (block, ode) in blocks.zip(kept) {
            block.swap(ode);
        }
        result
    }

    /// Lets all batch norms use the images of all ranks while they train, as
    /// [`BatchNorm2d::synchronise`](crate::layers::BatchNorm2d::synchronise) says.
    ///
    /// # Errors
    /// [`Error::StepsOfRanks`] when an ODE block adapts its steps: ranks would evaluate their batch norms
    /// a different number of times, and wait for each other.
    pub fn synchronise(&self, ranks: Arc<dyn Communicator>) -> Result<()> {
        let mut blocks = self.train.iter().filter_map(|layer| match layer {
            Layer::Ode(block) => block.adaptive_method(),
            _ => None,
        });
        if let Some(method) = blocks.next() {
            return Err(Error::StepsOfRanks { method: method.to_owned() });
        }
        self.peers.set(ranks);
        Ok(())
    }

    /// Everything but numbers of variables that decides what it computes, as text to compare.
    pub(crate) fn settings(&self) -> String {
        let blocks = self.train.iter().filter_map(|layer| match layer {
            Layer::Ode(block) => Some(block.settings()),
            _ => None,
        });
        let blocks: Vec<String> = blocks.collect();
        format!("{:?} {:?} {:?} {blocks:?}", self.name, self.dtype(), self.describe())
    }

    /// What all ODE blocks have cost since [`reset_evaluations`](Self::reset_evaluations).
    pub fn evaluations(&self) -> Evaluations {
        let meters = self.meters.iter().map(|(_, meter)| meter.read());
        meters.fold(Evaluations::default(), Evaluations::with)
    }

    /// What each ODE block has cost, with its name, in the order of the layers.
    pub fn evaluations_by_block(&self) -> Vec<(String, Evaluations)> {
        self.meters.iter().map(|(name, meter)| (name.clone(), meter.read())).collect()
    }

    /// Sets all counters back to zero.
    pub fn reset_evaluations(&self) {
        self.meters.iter().for_each(|(_, meter)| meter.reset());
    }

    /// Sets parameters and running statistics to those of a checkpoint of PyTorch.
    ///
    /// The file holds a state dict, or a dict with one under `state_dict`, `model_state_dict`, `model` or
    /// `net`. Names may start with `module.`; torchvision's `fc` and `downsample` are understood; counts
    /// of batches (`num_batches_tracked`) are passed over. Values are cast to the network's dtype. Code in a file
    /// is never run, but one made for it can exhaust memory: load files that you trust.
    ///
    /// # Errors
    /// When the file cannot be read, or holds no tensor, none that the network knows, or one of another
    /// shape; then nothing has changed.
    pub fn load_pth(&self, path: impl AsRef<Path>) -> Result<LoadReport> {
        pth::load(path.as_ref(), &[&self.parameters[..], &self.statistics[..]].concat())
    }
}

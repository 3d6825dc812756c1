//! The named variables of a network, and layers made of them.

use std::cell::RefCell;
use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor, Var, bail};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::NetworkSpec;
use super::evaluations::Meter;
use super::layer::ConvNorm;
use crate::layers::batch_norm::Peers;
use crate::layers::{Activation, BatchNorm2d, BatchNormMode, Conv2d, Conv2dConfig, Linear};

/// Variables with their names.
pub(super) type Named = Vec<(String, Var)>;

/// Keeps these numbers apart from those that shuffle and augment data by the same seed.
const PURPOSE: u8 = 16;

/// All variables of a network in the order of its layers; a name that is known gives the variable that
/// is there.
pub(super) struct Variables {
    dtype: DType,
    device: Device,
    seed: u64,
    pub(super) parameters: Named,
    pub(super) statistics: Named,
    pub(super) meters: Vec<(String, Arc<Meter>)>,
    /// Those of all batch norms.
    pub(super) peers: Peers,
}

/// Initial values.
#[derive(Clone, Copy)]
enum Init {
    Constant(f64),
    /// Uniform from minus this number to it.
    Uniform(f64),
}

impl Variables {
    /// No variables yet, of the dtype and the seed of `spec`, on its device.
    pub(super) fn new(spec: &NetworkSpec) -> Result<Self> {
        let NetworkSpec { dtype, seed, .. } = *spec;
        if !matches!(dtype, DType::F32 | DType::F64) {
            bail!("a network holds f32 or f64, not {dtype:?}");
        }
        let (parameters, statistics, meters, peers) = Default::default();
        Ok(Self { dtype, device: spec.device.clone(), seed, parameters, statistics, meters, peers })
    }

    fn parameter(&mut self, name: String, shape: &[usize], init: Init) -> Result<Tensor> {
        if let Some((_, var)) = self.parameters.iter().find(|(known, _)| *known == name) {
            return Ok(var.as_tensor().clone());
        }
        let var = self.create(self.parameters.len(), shape, init)?;
        let tensor = var.as_tensor().clone();
        self.parameters.push((name, var));
        Ok(tensor)
    }

    fn statistic(&mut self, name: String, channels: usize, value: f64) -> Result<Tensor> {
        if let Some((_, var)) = self.statistics.iter().find(|(known, _)| *known == name) {
            return Ok(var.as_tensor().clone());
        }
        let var = self.create(0, &[channels], Init::Constant(value))?;
        let tensor = var.as_tensor().clone();
        self.statistics.push((name, var));
        Ok(tensor)
    }

    /// A variable whose values follow from the seed and its `index`.
    fn create(&self, index: usize, shape: &[usize], init: Init) -> Result<Var> {
        let count = shape.iter().product();
        let values = match init {
            Init::Constant(value) => vec![value; count],
            Init::Uniform(bound) => uniform(self.seed, index, bound).take(count).collect(),
        };
        let values = Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(self.dtype)?;
        Var::from_tensor(&values.to_device(&self.device)?)
    }
}

/// Numbers from `-bound` to `bound`, a pure function of the seed and the index.
fn uniform(seed: u64, index: usize, bound: f64) -> impl Iterator<Item = f64> {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[16] = PURPOSE;
    let mut generator = ChaCha8Rng::from_seed(key);
    generator.set_stream(index as u64);
    std::iter::repeat_with(move || {
        let unit = (generator.next_u64() >> 11) as f64 * (0.5 * f64::EPSILON);
        bound * (2.0 * unit - 1.0)
    })
}

/// A place in the tree of names, where layers are made.
pub(super) struct Scope<'a> {
    variables: &'a RefCell<Variables>,
    mode: BatchNormMode,
    path: String,
}

impl<'a> Scope<'a> {
    /// The root, whose batch norms are in `mode`.
    pub(super) fn new(variables: &'a RefCell<Variables>, mode: BatchNormMode) -> Self {
        Self { variables, mode, path: String::new() }
    }

    /// The place `name` below this one.
    pub(super) fn pp(&self, name: impl AsRef<str>) -> Self {
        Self { variables: self.variables, mode: self.mode, path: self.join(name.as_ref()) }
    }

    /// Whether the layers made here serve evaluation alone.
    pub(super) fn is_eval(&self) -> bool {
        self.mode == BatchNormMode::Eval
    }

    /// The counters of the ODE block at this place.
    pub(super) fn meter(&self) -> Arc<Meter> {
        let mut variables = self.variables.borrow_mut();
        if let Some((_, meter)) = variables.meters.iter().find(|(known, _)| *known == self.path) {
            return meter.clone();
        }
        let meter = Arc::<Meter>::default();
        variables.meters.push((self.path.clone(), meter.clone()));
        meter
    }

    /// A convolution called `name` with so many inputs and outputs.
    pub(super) fn conv(
        &self,
        name: &str,
        [inputs, outputs]: [usize; 2],
        config: Conv2dConfig,
    ) -> Result<Conv2d> {
        let Conv2dConfig { kernel: [height, width], stride, padding, bias } = config;
        let (place, pixels) = (self.pp(name), (height * width) as f64);
        let bound = if bias {
            (12.0 / (pixels * (inputs + outputs) as f64)).sqrt()
        } else {
            (pixels * inputs as f64).sqrt().recip()
        };
        let shape = [outputs, inputs, height, width];
        let weight = place.parameter("weight", &shape, Init::Uniform(bound))?;
        let bias =
            bias.then(|| place.parameter("bias", &[outputs], Init::Constant(0.0))).transpose()?;
        Ok(Conv2d { weight, bias, stride, padding })
    }

    /// A batch norm called `name`.
    pub(super) fn norm(&self, name: &str, channels: usize) -> Result<BatchNorm2d> {
        let place = self.pp(name);
        let parameter =
            |name: &str, value| place.parameter(name, &[channels], Init::Constant(value));
        let statistic = |name: &str, value| {
            self.variables.borrow_mut().statistic(place.join(name), channels, value)
        };
        let parameters = [parameter("weight", 1.0)?, parameter("bias", 0.0)?];
        let running = [statistic("running_mean", 0.0)?, statistic("running_var", 1.0)?];
        let norm = BatchNorm2d::from_tensors(parameters, running)?;
        norm.set_mode(self.mode);
        Ok(norm.with_peers(self.variables.borrow().peers.clone()))
    }

    /// A convolution and its batch norm, called by `names`, with a relu after them if `relu`.
    pub(super) fn unit(
        &self,
        names: [&str; 2],
        sizes: [usize; 2],
        config: Conv2dConfig,
        relu: bool,
    ) -> Result<ConvNorm> {
        let conv = self.conv(names[0], sizes, config)?;
        let norm = self.norm(names[1], sizes[1])?;
        Ok(ConvNorm { conv, norm: if relu { norm.with_relu() } else { norm } })
    }

    /// A dense layer called `name`.
    pub(super) fn linear(&self, name: &str, inputs: usize, outputs: usize) -> Result<Linear> {
        let (place, init) = (self.pp(name), Init::Uniform((inputs as f64).sqrt().recip()));
        let weight = place.parameter("weight", &[outputs, inputs], init)?;
        let bias = Some(place.parameter("bias", &[outputs], init)?);
        Ok(Linear { weight, bias, activation: Activation::Identity })
    }

    fn parameter(&self, name: &str, shape: &[usize], init: Init) -> Result<Tensor> {
        self.variables.borrow_mut().parameter(self.join(name), shape, init)
    }

    fn join(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

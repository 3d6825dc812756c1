//! Adam and AdamW.

use candle_core::backprop::GradStore;
use candle_core::{Device, Result, Tensor, Var, bail};
use candle_nn::Optimizer;

use super::Resumable;
use super::parameters::{Parameters, check_finite};

/// Settings of [`Adam`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamConfig {
    /// Learning rate.
    pub lr: f64,
    /// The parts of the first and the second moment that are kept from step to step.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub eps: f64,
    /// The part of the parameter that is added to its gradient, or with `decoupled` taken off the parameter itself.
    pub weight_decay: f64,
    /// Whether the weight decay bypasses the moments: AdamW.
    pub decoupled: bool,
}

impl Default for AdamConfig {
    /// Adam as in its paper: 0.001, (0.9, 0.999), 1e-8, no weight decay.
    fn default() -> Self {
        Self { lr: 1e-3, betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.0, decoupled: false }
    }
}

impl AdamConfig {
    /// AdamW as PyTorch has it: as Adam, with a decoupled weight decay of 0.01.
    pub fn adam_w() -> Self {
        Self { weight_decay: 0.01, decoupled: true, ..Self::default() }
    }

    fn check(&self) -> Result<()> {
        let Self { lr, betas, eps, weight_decay, .. } = *self;
        check_finite(&[("learning rate", lr), ("eps", eps), ("weight decay", weight_decay)])?;
        for beta in [betas.0, betas.1] {
            if !(0.0..1.0).contains(&beta) {
                bail!("a beta is {beta}; give numbers of at least 0 and below 1");
            }
        }
        Ok(())
    }
}

/// Adam as PyTorch does it, whose moments can be saved and resumed bit for bit.
///
/// With `g` the gradient: `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`, and in step `n` the parameter moves by
/// `-lr (m / (1 - b1^n)) / (sqrt(v / (1 - b2^n)) + eps)`. A parameter without a gradient stays as it is, and so do its
/// moments.
///
/// # Source
/// Kingma, Ba, "Adam: a method for stochastic optimization", ICLR 2015; Loshchilov, Hutter, "Decoupled weight decay
/// regularization", ICLR 2019.
///
/// # Example
/// ```
/// use aca_models::optimizers::{Adam, AdamConfig};
/// use candle_core::{Device, Var};
///
/// # fn main() -> aca_models::Result<()> {
/// let x = Var::new(&[3.0f64], &Device::Cpu)?;
/// let config = AdamConfig { lr: 0.1, ..AdamConfig::default() };
/// let mut adam = Adam::new(vec![("x".to_owned(), x.clone())], config)?;
/// adam.step(&x.sqr()?.backward()?)?; // the first step is lr long, whatever the gradient
/// assert!((x.to_vec1::<f64>()?[0] - 2.9).abs() < 1e-8);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Adam {
    parameters: Parameters,
    first: Vec<Var>,
    second: Vec<Var>,
    /// Steps of each parameter so far, numbers without dimensions.
    steps: Vec<Var>,
    /// Settings, which may change between steps.
    pub config: AdamConfig,
}

impl Adam {
    /// Prepares to train named parameters. One that is listed twice is the same parameter, and moves once.
    ///
    /// # Errors
    /// For settings out of their range; those of making moments.
    pub fn new(parameters: Vec<(String, Var)>, config: AdamConfig) -> Result<Self> {
        config.check()?;
        let parameters = Parameters::new(parameters);
        let (first, second) = (parameters.zeros()?, parameters.zeros()?);
        let steps = parameters.0.iter().map(|_| Var::new(0f64, &Device::Cpu));
        let steps = steps.collect::<Result<_>>()?;
        Ok(Self { parameters, first, second, steps, config })
    }

    /// Moves every parameter that has a gradient.
    ///
    /// # Errors
    /// For settings out of their range, and gradients of another shape.
    pub fn step(&mut self, gradients: &GradStore) -> Result<()> {
        self.config.check()?;
        self.parameters.check(gradients)?;
        for (i, (_, parameter)) in self.parameters.0.iter().enumerate() {
            if let Some(gradient) = gradients.get(parameter) {
                self.move_one(i, parameter, &gradient.detach())?;
            }
        }
        Ok(())
    }

    fn move_one(&self, i: usize, parameter: &Var, gradient: &Tensor) -> Result<()> {
        let AdamConfig { lr, betas: (b1, b2), eps, weight_decay, decoupled } = self.config;
        let [x, m, v] = [parameter, &self.first[i], &self.second[i]].map(Var::as_detached_tensor);
        let coupled = if decoupled { 0.0 } else { weight_decay };
        let g = if coupled == 0.0 { gradient.clone() } else { (gradient + (&x * coupled)?)? };
        let m = ((m * b1)? + (&g * (1.0 - b1))?)?;
        let v = ((v * b2)? + (g.sqr()? * (1.0 - b2))?)?;
        let n = self.steps[i].to_scalar::<f64>()? + 1.0;
        let size = ((&v / (1.0 - b2.powf(n)))?.sqrt()? + eps)?;
        let by = ((&m / size)? * (lr / (1.0 - b1.powf(n))))?;
        let x = if decoupled { (x * (1.0 - lr * weight_decay))? } else { x };
        parameter.set(&(x - by)?)?;
        self.first[i].set(&m)?;
        self.second[i].set(&v)?;
        self.steps[i].set(&Tensor::new(n, &Device::Cpu)?)
    }
}

impl Resumable for Adam {
    fn state(&self) -> Vec<(String, Var)> {
        let parts = [(&self.first, "/first"), (&self.second, "/second"), (&self.steps, "/steps")];
        parts.iter().flat_map(|(vars, suffix)| self.parameters.beside(vars, suffix)).collect()
    }
}

/// Parameters are named by their positions.
impl Optimizer for Adam {
    type Config = AdamConfig;

    fn new(vars: Vec<Var>, config: AdamConfig) -> Result<Self> {
        Self::new(Parameters::numbered(vars), config)
    }

    fn step(&mut self, gradients: &GradStore) -> Result<()> {
        Self::step(self, gradients)
    }

    fn learning_rate(&self) -> f64 {
        self.config.lr
    }

    fn set_learning_rate(&mut self, lr: f64) {
        self.config.lr = lr;
    }
}

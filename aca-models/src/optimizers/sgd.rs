//! Stochastic gradient descent with momentum.

use aca_core::kernels::combine;
use candle_core::backprop::GradStore;
use candle_core::{
    CpuStorage, InplaceOp2, InplaceOp3, Layout, Result, Tensor, Var, WithDType, bail,
};
use candle_nn::Optimizer;
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use super::Resumable;
use super::parameters::{Parameters, check_finite};
use crate::Real;

/// Entries per task.
///
/// Measured on 2 cores of an AVX-512 server with `f32`: a step of 65 536 entries takes 8 us alone; 131 072
/// take 46 us alone or shared, 262 144 take 83 us alone and 37 us shared.
const TASK: usize = 1 << 16;

/// Gradient descent as PyTorch does it: with `g` the gradient plus `weight_decay` times the parameter,
/// `buffer = momentum * buffer + g`, and the parameter moves by `-lr * buffer`.
///
/// A parameter without a gradient stays as it is, and so does its buffer; buffers start at zero.
///
/// # Cost
/// Two passes in place: one over buffer, parameter and gradient, one over parameter and buffer; on a GPU two
/// launches, and two copies.
///
/// # Example
/// ```
/// use aca_models::optimizers::Sgd;
/// use candle_core::{Device, Var};
///
/// # fn main() -> aca_models::Result<()> {
/// let x = Var::new(&[3.0f64], &Device::Cpu)?;
/// let mut sgd = Sgd::new(vec![("x".to_owned(), x.clone())], 0.1, 0.9, 0.0)?;
/// for _ in 0..2 {
///     sgd.step(&x.sqr()?.backward()?)?; // gradients 6 and 4.8, so steps of 0.6 and 1.02
/// }
/// assert!((x.to_vec1::<f64>()?[0] - 1.38).abs() < 1e-12);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Sgd {
    parameters: Parameters,
    buffers: Vec<Var>,
    /// Learning rate.
    pub lr: f64,
    /// The part of the buffer that is kept from step to step.
    pub momentum: f64,
    /// The part of the parameter that is added to its gradient.
    pub weight_decay: f64,
}

impl Sgd {
    /// Prepares to train named parameters. One that is listed twice is the same parameter, and moves once.
    ///
    /// # Errors
    /// For settings that are not finite; those of making buffers.
    pub fn new(
        parameters: Vec<(String, Var)>,
        lr: f64,
        momentum: f64,
        weight_decay: f64,
    ) -> Result<Self> {
        check_finite(&[
            ("learning rate", lr),
            ("momentum", momentum),
            ("weight decay", weight_decay),
        ])?;
        let parameters = Parameters::new(parameters);
        let buffers = parameters.zeros()?;
        Ok(Self { parameters, buffers, lr, momentum, weight_decay })
    }

    /// Moves every parameter that has a gradient.
    ///
    /// # Errors
    /// For parameters that are neither `f32` nor `f64`; when a gradient lives elsewhere or has another shape.
    pub fn step(&mut self, gradients: &GradStore) -> Result<()> {
        let Self { momentum, weight_decay, lr, .. } = *self;
        self.parameters.check(gradients)?;
        for ((_, parameter), buffer) in self.parameters.0.iter().zip(&self.buffers) {
            let Some(gradient) = gradients.get(parameter) else { continue };
            if !parameter.device().is_cpu() {
                self.step_by_sums([parameter, buffer], &gradient.detach())?;
                continue;
            }
            let gradient = gradient.contiguous()?;
            buffer.inplace_op3(parameter, &gradient, &Follow { momentum, weight_decay })?;
            parameter.inplace_op2(buffer, &Move { lr })?;
        }
        Ok(())
    }

    /// Moves a parameter on a GPU: two launches, and two copies into the variables.
    fn step_by_sums(&self, [parameter, buffer]: [&Var; 2], gradient: &Tensor) -> Result<()> {
        let [x, velocity] = [parameter, buffer].map(Var::as_detached_tensor);
        let terms = [(self.momentum, &velocity), (1.0, gradient), (self.weight_decay, &x)];
        let velocity = combine(None, &terms)?;
        buffer.set(&velocity)?;
        parameter.set(&combine(Some(&x), &[(-self.lr, &velocity)])?)
    }

    /// The buffers with the names of their parameters, in the parameters' order; setting them resumes
    /// an interrupted run exactly.
    pub fn momentum_buffers(&self) -> Vec<(String, Var)> {
        self.parameters.beside(&self.buffers, "")
    }
}

impl Resumable for Sgd {
    fn state(&self) -> Vec<(String, Var)> {
        self.momentum_buffers()
    }
}

/// Parameters are named by their positions; settings are learning rate, momentum and weight decay.
impl Optimizer for Sgd {
    type Config = (f64, f64, f64);

    fn new(vars: Vec<Var>, (lr, momentum, weight_decay): Self::Config) -> Result<Self> {
        Self::new(Parameters::numbered(vars), lr, momentum, weight_decay)
    }

    fn step(&mut self, gradients: &GradStore) -> Result<()> {
        Self::step(self, gradients)
    }

    fn learning_rate(&self) -> f64 {
        self.lr
    }

    fn set_learning_rate(&mut self, lr: f64) {
        self.lr = lr;
    }
}

/// `buffer <- momentum * buffer + weight_decay * parameter + gradient`.
struct Follow {
    momentum: f64,
    weight_decay: f64,
}

impl InplaceOp3 for Follow {
    fn name(&self) -> &'static str {
        "sgd-momentum"
    }

    fn cpu_fwd(
        &self,
        buffer: &mut CpuStorage,
        layout: &Layout,
        parameter: &CpuStorage,
        parameter_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<()> {
        let sources = [(parameter, parameter_layout), (gradient, gradient_layout)];
        match buffer {
            CpuStorage::F32(x) => self.run(x, layout, sources),
            CpuStorage::F64(x) => self.run(x, layout, sources),
            _ => bail!("gradient descent knows f32 and f64"),
        }
    }
}

impl Follow {
    fn run<T: Real>(
        &self,
        buffer: &mut [T],
        layout: &Layout,
        [parameter, gradient]: [(&CpuStorage, &Layout); 2],
    ) -> Result<()> {
        let (momentum, decay) = (T::from_f64(self.momentum), T::from_f64(self.weight_decay));
        let (parameter, gradient) = (entries::<T>(parameter)?, entries::<T>(gradient)?);
        let tasks = range(buffer, layout)?.par_chunks_mut(TASK);
        tasks.zip(parameter.par_chunks(TASK)).zip(gradient.par_chunks(TASK)).for_each(
            |((buffer, parameter), gradient)| {
                Arch::new().dispatch(Followed { momentum, decay, buffer, parameter, gradient });
            },
        );
        Ok(())
    }
}

/// A task of [`Follow`].
struct Followed<'a, T> {
    momentum: T,
    decay: T,
    buffer: &'a mut [T],
    parameter: &'a [T],
    gradient: &'a [T],
}

impl<T: Real> NullaryFnOnce for Followed<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { momentum, decay, buffer, parameter, gradient } = self;
        for ((buffer, parameter), gradient) in buffer.iter_mut().zip(parameter).zip(gradient) {
            *buffer = momentum * *buffer + (*gradient + decay * *parameter);
        }
    }
}

/// `parameter <- parameter - lr * buffer`.
struct Move {
    lr: f64,
}

impl InplaceOp2 for Move {
    fn name(&self) -> &'static str {
        "sgd-step"
    }

    fn cpu_fwd(
        &self,
        parameter: &mut CpuStorage,
        layout: &Layout,
        buffer: &CpuStorage,
        buffer_layout: &Layout,
    ) -> Result<()> {
        match parameter {
            CpuStorage::F32(x) => self.run(x, layout, (buffer, buffer_layout)),
            CpuStorage::F64(x) => self.run(x, layout, (buffer, buffer_layout)),
            _ => bail!("gradient descent knows f32 and f64"),
        }
    }
}

impl Move {
    fn run<T: Real>(
        &self,
        parameter: &mut [T],
        layout: &Layout,
        buffer: (&CpuStorage, &Layout),
    ) -> Result<()> {
        let (lr, buffer) = (T::from_f64(self.lr), entries::<T>(buffer)?);
        let tasks = range(parameter, layout)?.par_chunks_mut(TASK).zip(buffer.par_chunks(TASK));
        tasks.for_each(|(parameter, buffer)| {
            Arch::new().dispatch(Moved { lr, parameter, buffer });
        });
        Ok(())
    }
}

/// A task of [`Move`].
struct Moved<'a, T> {
    lr: T,
    parameter: &'a mut [T],
    buffer: &'a [T],
}

impl<T: Real> NullaryFnOnce for Moved<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for (parameter, buffer) in self.parameter.iter_mut().zip(self.buffer) {
            *parameter -= self.lr * *buffer;
        }
    }
}

/// The entries of a contiguous tensor.
fn entries<'a, T: WithDType>((storage, layout): (&'a CpuStorage, &Layout)) -> Result<&'a [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<T>()?[start..end]),
        None => bail!("gradient descent needs contiguous tensors"),
    }
}

/// The entries of a contiguous tensor, to be changed.
fn range<'a, T>(storage: &'a mut [T], layout: &Layout) -> Result<&'a mut [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&mut storage[start..end]),
        None => bail!("gradient descent needs contiguous tensors"),
    }
}

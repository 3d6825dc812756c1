//! The workloads, built from the formulas of the peers' benchmark.

use aca_adjoint::{Ode, OdeSolution};
use aca_core::{Stats, VectorField};
use aca_dense::SaveAt;
use aca_models::fields::{ConvBlock, Mlp, TimeInput};
use aca_models::layers::{Activation, BatchNorm2d, Conv2d, Linear};
use aca_models::systems::{ClosedForm, System, ThreeBody};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};

use crate::args::BenchArgs;
use crate::oscillators;
use crate::report::Result;

/// A workload made ready to run.
pub struct Workload {
    pub name: &'static str,
    /// The parameters whose gradient is taken.
    pub vars: Vec<Var>,
    /// Method and tolerance.
    pub note: String,
    ode: Ode,
    y0: Tensor,
    span: (f64, f64),
    save_at: SaveAt,
    loss: fn(&OdeSolution) -> candle_core::Result<Tensor>,
}

/// A loss, its gradient and what they cost.
pub struct Gradient {
    pub loss: f64,
    pub grads: GradStore,
    pub stats: Stats,
    /// Evaluations forward and backward.
    pub nfe: usize,
    /// Forward evaluations of each sample that steps on its own.
    pub nfe_samples: Vec<usize>,
}

impl Workload {
    /// The mean square of 1000 positions of three bodies, at masses that are off by a few percent.
    pub fn three_body(args: &BenchArgs) -> Result<Self> {
        let device = args.device.open()?;
        let field = on(ThreeBody::field([1.05, 0.95, 1.0])?, &device)?;
        let vars = vec![field.theta().clone()];
        let (ode, note) = ode(args, ("dopri5", 1e-7), field, &vars)?;
        Ok(Self {
            name: "three_body",
            vars,
            note,
            ode,
            y0: Tensor::new(&ThreeBody::Y0, &device)?,
            span: (0.0, 1.0),
            save_at: SaveAt::Times((0..1000).map(|i| f64::from(i) / 999.0).collect()),
            loss: |sol| sol.ys.narrow(1, 0, 9)?.sqr()?.mean_all(),
        })
    }

    /// The mean square of 256 states of 64 numbers at the end, moved by a network.
    pub fn mlp(args: &BenchArgs) -> Result<Self> {
        let [states, dim, hidden] = [256, 64, 256];
        let device = args.device.open()?;
        let vars = vec![
            fill_on(&device, &[hidden, dim], 0.15, 0.1)?,
            fill_on(&device, &[hidden], 0.1, 0.2)?,
            fill_on(&device, &[dim, hidden], 0.08, 0.3)?,
            fill_on(&device, &[dim], 0.1, 0.4)?,
        ];
        let layer = |weight: &Var, bias: &Var, activation| Linear {
            weight: weight.as_tensor().clone(),
            bias: Some(bias.as_tensor().clone()),
            activation,
        };
        let layers = vec![
            layer(&vars[0], &vars[1], Activation::Tanh),
            layer(&vars[2], &vars[3], Activation::Identity),
        ];
        let field = Mlp::from_layers(layers, TimeInput::None)?;
        let (ode, note) = ode(args, ("dopri5", 1e-5), field, &vars)?;
        Ok(Self {
            name: "mlp",
            vars,
            note,
            ode,
            y0: fill_on(&device, &[states, dim], 1.0, 0.5)?.as_detached_tensor(),
            span: (0.0, 1.0),
            save_at: SaveAt::End,
            loss: mean_square_at_end,
        })
    }

    /// The mean square of 16 images at the end, moved by the residual branch of NODE18's first block.
    pub fn conv(args: &BenchArgs) -> Result<Self> {
        let (images, channels, pixels) = (16, 64, 32);
        let shape = [channels, channels, 3, 3];
        let device = args.device.open()?;
        let vars = vec![fill_on(&device, &shape, 0.05, 0.1)?, fill_on(&device, &shape, 0.05, 0.2)?];
        let conv = |weight: &Var| {
            let (weight, bias) = (weight.as_tensor().clone(), None);
            Conv2d { weight, bias, stride: 1, padding: [1, 1] }
        };
        let norm = || {
            let one = Tensor::ones(channels, DType::F32, &device)?;
            let zero = one.zeros_like()?;
            BatchNorm2d::from_tensors([one.clone(), zero.clone()], [zero, one])
        };
        let field = ConvBlock::from_layers([(conv(&vars[0]), norm()?), (conv(&vars[1]), norm()?)])?;
        let (ode, note) = ode(args, ("heun_euler", 1e-2), field, &vars)?;
        Ok(Self {
            name: "conv",
            vars,
            note,
            ode,
            y0: fill_on(&device, &[images, channels, pixels, pixels], 1.0, 0.5)?
                .as_detached_tensor(),
            span: (0.0, 1.0),
            save_at: SaveAt::End,
            loss: mean_square_at_end,
        })
    }

    /// The mean square of 256 oscillators at the end, their stiffness from 1 to a largest.
    pub fn van_der_pol(args: &BenchArgs) -> Result<Self> {
        let device = args.device.open()?;
        let field = on(oscillators::field(args.mu_max.unwrap_or(10.0))?, &device)?;
        let vars = vec![field.theta().clone()];
        let (ode, note) = ode(args, ("dopri5", 1e-6), field, &vars)?;
        Ok(Self {
            name: "vdp",
            vars,
            note,
            ode,
            y0: oscillators::starts()?.to_device(&device)?,
            span: (0.0, oscillators::END),
            save_at: SaveAt::End,
            loss: mean_square_at_end,
        })
    }

    /// Solves without a gradient.
    pub fn forward(&self) -> Result<()> {
        self.ode.forward(&self.y0, self.span, &self.save_at)?;
        Ok(self.y0.device().synchronize()?)
    }

    /// Solves and finds the gradient of the loss.
    pub fn gradient(&self) -> Result<Gradient> {
        let sol = self.ode.solve(&self.y0, self.span, &self.save_at)?;
        let loss = (self.loss)(&sol)?;
        let grads = loss.backward()?;
        let nfe = sol.stats.nfe + sol.nfe_backward();
        let loss = loss.to_dtype(DType::F64)?.to_scalar()?;
        let nfe_samples = sol.samples.iter().map(|end| end.stats.nfe).collect();
        Ok(Gradient { loss, grads, stats: sol.stats, nfe, nfe_samples })
    }
}

/// `scale sin(phase + 0.7 i)` for the `i`-th number, in `f32`.
pub fn fill(shape: &[usize], scale: f64, phase: f64) -> candle_core::Result<Var> {
    let count = shape.iter().product::<usize>();
    let numbers = (0..count).map(|i| (scale * (phase + 0.7 * i as f64).sin()) as f32);
    Var::from_tensor(&Tensor::from_iter(numbers, &Device::Cpu)?.reshape(shape)?)
}

/// [`fill`] on a device.
pub fn fill_on(
    device: &Device,
    shape: &[usize],
    scale: f64,
    phase: f64,
) -> candle_core::Result<Var> {
    Var::from_tensor(&fill(shape, scale, phase)?.to_device(device)?)
}

/// The same field with its parameters on a device.
fn on<S: System + Copy>(field: ClosedForm<S>, device: &Device) -> Result<ClosedForm<S>> {
    let theta = Var::from_tensor(&field.theta().to_device(device)?)?;
    Ok(ClosedForm::new(*field.system(), theta))
}

fn mean_square_at_end(sol: &OdeSolution) -> candle_core::Result<Tensor> {
    sol.y1.sqr()?.mean_all()
}

/// Joins a field to the solver and strategy of the command line; also returns their description.
fn ode(
    args: &BenchArgs,
    usual: (&str, f64),
    field: impl VectorField + 'static,
    vars: &[Var],
) -> Result<(Ode, String)> {
    let solver = super::solver(args, usual)?;
    let rtol = args.rtol.unwrap_or(usual.1);
    let clocks = if args.per_sample { ", a clock for every sample" } else { "" };
    let (strategy, method) = (args.gradient.name(), solver.method.name());
    let note = format!("{strategy} with {method} at rtol {rtol:e}{clocks}");
    let ode = Ode::new(solver, field, vars.to_vec())?;
    Ok((ode.gradient(super::gradient(args)), note))
}

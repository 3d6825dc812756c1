//! The workloads, built from the formulas of the peers' benchmark.

use aca_adjoint::{Ode, OdeSolution};
use aca_core::{Batching, Solver, Stats, Tolerance, VectorField};
use aca_dense::SaveAt;
use aca_models::systems::{ThreeBody, VanDerPol};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};

use crate::args::BenchArgs;
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
    /// Forward evaluations of each sample with a clock of its own.
    pub nfe_samples: Vec<usize>,
}

/// What a workload is solved by unless the command line says otherwise.
struct Usual {
    method: &'static str,
    tolerance: f64,
}

impl Workload {
    /// The mean square of 1000 positions of three bodies, at masses that are off by a few percent.
    pub fn three_body(args: &BenchArgs) -> Result<Self> {
        let field = ThreeBody::field([1.05, 0.95, 1.0])?;
        let vars = vec![field.theta().clone()];
        let (ode, note) = ode(args, Usual { method: "dopri5", tolerance: 1e-7 }, field, &vars)?;
        Ok(Self {
            name: "three_body",
            vars,
            note,
            ode,
            y0: Tensor::new(&ThreeBody::Y0, &Device::Cpu)?,
            span: (0.0, 1.0),
            save_at: SaveAt::Times((0..1000).map(|i| f64::from(i) / 999.0).collect()),
            loss: |sol| sol.ys.narrow(1, 0, 9)?.sqr()?.mean_all(),
        })
    }

    /// The mean square of 256 oscillators at the end, their stiffness from 1 to 10.
    pub fn van_der_pol(args: &BenchArgs) -> Result<Self> {
        const COUNT: usize = 256;
        let mu: Vec<f64> = (0..COUNT).map(|i| 1.0 + 9.0 * i as f64 / (COUNT - 1) as f64).collect();
        let starts = (0..COUNT).flat_map(|i| {
            let (sin, cos) = (i as f64).sin_cos();
            [1.5 + 0.5 * sin, 0.5 * cos]
        });
        let field = VanDerPol::field(&mu)?;
        let vars = vec![field.theta().clone()];
        let (ode, note) = ode(args, Usual { method: "dopri5", tolerance: 1e-6 }, field, &vars)?;
        Ok(Self {
            name: "vdp",
            vars,
            note,
            ode,
            y0: Tensor::from_iter(starts, &Device::Cpu)?.reshape((COUNT, 2))?,
            span: (0.0, 10.0),
            save_at: SaveAt::End,
            loss: mean_square_at_end,
        })
    }

    /// Solves without a gradient.
    pub fn forward(&self) -> Result<()> {
        match self.ode.solver().batching {
            Batching::Shared => {
                self.ode.forward(&self.y0, self.span, &self.save_at)?;
            }
            Batching::PerSample => {
                self.ode.forward_samples(&self.y0, self.span, self.save_at.clone())?;
            }
        }
        Ok(())
    }

    /// Solves and finds the gradient of the loss.
    pub fn gradient(&self) -> Result<Gradient> {
        let sol = self.ode.solve(&self.y0, self.span, &self.save_at)?;
        let loss = (self.loss)(&sol)?;
        let grads = loss.backward()?;
        let nfe = sol.stats.nfe + sol.nfe_backward();
        let loss = loss.to_dtype(DType::F64)?.to_scalar()?;
        let nfe_samples = sol.sample_stats().iter().map(|stats| stats.nfe).collect();
        Ok(Gradient { loss, grads, stats: sol.stats, nfe, nfe_samples })
    }
}

fn mean_square_at_end(sol: &OdeSolution) -> candle_core::Result<Tensor> {
    sol.y1()?.sqr()?.mean_all()
}

/// Joins a field to the solver and strategy of the command line; also returns their description.
fn ode(
    args: &BenchArgs,
    usual: Usual,
    field: impl VectorField + 'static,
    vars: &[Var],
) -> Result<(Ode, String)> {
    let tableau = crate::method::method(args.method.as_deref().unwrap_or(usual.method))?;
    let rtol = args.rtol.unwrap_or(usual.tolerance);
    let tolerance = Tolerance { rtol, atol: args.atol.unwrap_or(usual.tolerance) };
    let clocks = if args.per_sample { ", a clock for every sample" } else { "" };
    let note = format!("{} with {} at rtol {rtol:e}{clocks}", args.gradient.name(), tableau.name());
    let batching = if args.per_sample { Batching::PerSample } else { Batching::Shared };
    let solver = Solver { batching, ..Solver::adaptive(tableau, tolerance) };
    let ode = Ode::new(solver, field, vars.to_vec())?;
    Ok((ode.gradient(args.gradient.gradient()), note))
}

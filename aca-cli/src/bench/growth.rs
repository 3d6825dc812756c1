//! `aca bench --growth`: how the cost of a gradient grows with batch, steps and depth, and how far it
//! is from what the machine can do.

use std::hint::black_box;

use aca_adjoint::Ode;
use aca_core::Solver;
use aca_dense::SaveAt;
use aca_models::fields::{Mlp, MlpConfig, TimeInput};
use aca_models::layers::Activation;
use aca_tableau::DOPRI5;
use candle_core::{DType, Device};
use candle_nn::{VarBuilder, VarMap};
use serde::Serialize;

use super::timing::median;
use super::workload::fill;
use crate::args::BenchArgs;
use crate::counting;
use crate::report::{self, Result, Side};

/// Numbers in a state, and outputs of each hidden layer.
const DIM: usize = 64;
const HIDDEN: usize = 256;

/// One network on one batch over some steps of DOPRI5.
#[derive(Clone, Copy, Serialize)]
struct Case {
    batch: usize,
    steps: usize,
    /// Hidden layers.
    depth: usize,
}

/// What a case costs.
#[derive(Serialize)]
struct Growth {
    #[serde(flatten)]
    case: Case,
    ms_forward: f64,
    ms_gradient: f64,
    peak_bytes: isize,
    /// Operations of all matrix products, over the time of the gradient.
    gflops: f64,
}

/// What the machine reaches in the same run.
#[derive(Serialize)]
struct Limits {
    /// Of the product of two matrices of 2048 x 2048 `f32`.
    gflops: f64,
    /// Bytes read and written by a copy of 10 million `f64`.
    copy_gb_per_second: f64,
}

/// Times all cases and prints them.
pub fn run(args: &BenchArgs) -> Result<()> {
    let reps = args.reps as usize;
    let base = Case { batch: 256, steps: 16, depth: 1 };
    let batches = [1, 16, 256, 4096].map(|batch| Case { batch, ..base });
    let steps = [4, 64, 256, 1024].map(|steps| Case { steps, ..base });
    let depths = [2, 4, 8].map(|depth| Case { depth, ..base });
    let cases = batches.into_iter().chain(steps).chain(depths);
    let rows: Vec<Growth> = cases.map(|case| measure(case, reps)).collect::<Result<_>>()?;
    let limits = limits(reps)?;
    if args.json {
        return report::json(&(rows, limits));
    }
    let head = ["batch", "steps", "depth", "ms forward", "ms gradient", "peak MB", "GFLOP/s"];
    let row = |row: &Growth| {
        let Case { batch, steps, depth } = row.case;
        let counts = [batch, steps, depth].map(|count| count.to_string());
        let costs = [row.ms_forward, row.ms_gradient, row.peak_bytes as f64 / 1e6, row.gflops];
        counts.into_iter().chain(costs.map(|cost| format!("{cost:.2}"))).collect()
    };
    let rows: Vec<Vec<String>> =
        std::iter::once(head.map(String::from).into()).chain(rows.iter().map(row)).collect();
    report::line(&report::aligned(&rows, |_| Side::Right).join("\n"))?;
    let Limits { gflops, copy_gb_per_second } = limits;
    report::line(&format!("limits: {gflops:.0} GFLOP/s, {copy_gb_per_second:.1} GB/s"))
}

fn measure(case: Case, reps: usize) -> Result<Growth> {
    let Case { batch, steps, depth } = case;
    let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
    let (activation, time) = (Activation::Tanh, TimeInput::None);
    let config = MlpConfig { dim: DIM, hidden: vec![HIDDEN; depth], activation, time };
    let field = Mlp::new(&config, vb)?;
    let variables = field.variables();
    let ode = Ode::new(Solver::fixed_count(DOPRI5, steps), field, variables)?;
    let y0 = fill(&[batch, DIM], 1.0, 0.5)?.as_detached_tensor();
    let (span, save_at) = ((0.0, 1.0), SaveAt::End);
    let (ms_forward, _) = median(reps, || Ok(ode.forward(&y0, span, &save_at)?))?;
    let gradient = || {
        let sol = ode.solve(&y0, span, &save_at)?;
        black_box(sol.y1.sqr()?.mean_all()?.backward()?);
        Ok((sol.stats.nfe, sol.nfe_backward()))
    };
    let (ms_gradient, (forward, backward)) = median(reps, gradient)?;
    counting::start();
    let before = counting::alive();
    let (peak, again) = counting::peak(gradient);
    again?;
    // A replayed stage is evaluated and pulled back to state and weights: three times the products.
    let weights = 2 * DIM * HIDDEN + (depth - 1) * HIDDEN * HIDDEN;
    let operations = (2 * batch * weights * (forward + 3 * backward)) as f64;
    let gflops = operations / ms_gradient * 1e-6;
    Ok(Growth { case, ms_forward, ms_gradient, peak_bytes: peak - before, gflops })
}

fn limits(reps: usize) -> Result<Limits> {
    let side = 2048;
    let matrix = fill(&[side, side], 1.0, 0.1)?.as_detached_tensor();
    let (ms, _) = median(reps, || Ok(black_box(matrix.matmul(&matrix)?)))?;
    let gflops = 2.0 * (side as f64).powi(3) / ms * 1e-6;
    let source = vec![1f64; 10_000_000];
    let mut target = source.clone();
    let half = target.len() / 2;
    let copy = || {
        let ((left, right), (from, rest)) = (target.split_at_mut(half), source.split_at(half));
        std::thread::scope(|scope| {
            scope.spawn(|| left.copy_from_slice(from));
            right.copy_from_slice(rest);
        });
        black_box(&mut target);
        Ok(())
    };
    let (ms, ()) = median(reps, copy)?;
    let copy_gb_per_second = 2.0 * 8.0 * source.len() as f64 / ms * 1e-6;
    Ok(Limits { gflops, copy_gb_per_second })
}

//! `aca bench`: the workloads shared with other libraries, timed.

use std::time::Instant;

use aca_adjoint::Ode;
use aca_core::{Solver, Tolerance};
use aca_dense::SaveAt;
use aca_models::systems::ThreeBody;
use candle_core::{Device, Tensor, Var};
use serde::Serialize;

use crate::args::{BenchArgs, Workload};
use crate::report::{self, Result};

/// One timed workload, with the fields that the peers' benchmark prints.
#[derive(Serialize)]
struct Timing {
    workload: &'static str,
    peer: &'static str,
    /// Median time of a solve without gradient, ms.
    ms_forward: f64,
    /// Median time of a solve and its whole gradient, ms.
    ms_gradient: f64,
    /// Evaluations of the field in one solve and gradient.
    nfe: usize,
    loss: f64,
    grad_norm: f64,
    grad_head: Vec<f64>,
    note: String,
}

/// Runs the workload and prints its figures.
pub fn run(args: &BenchArgs) -> Result<()> {
    let timing = match args.workload {
        Workload::ThreeBody => three_body(args)?,
    };
    if args.json {
        return report::json(&timing);
    }
    report::line(&format!(
        "{}: forward {:.3} ms, forward and gradient {:.3} ms, {} evaluations\nloss {:.12}, gradient {:?}\n{}",
        timing.workload,
        timing.ms_forward,
        timing.ms_gradient,
        timing.nfe,
        timing.loss,
        timing.grad_head,
        timing.note
    ))
}

/// The gradient of the mean square of 1000 positions with respect to the masses, at masses that are
/// off by a few percent.
fn three_body(args: &BenchArgs) -> Result<Timing> {
    let field = ThreeBody::field([1.05, 0.95, 1.0])?;
    let masses = field.theta().clone();
    let tolerance = Tolerance { rtol: args.rtol, atol: args.atol };
    let tableau = crate::method::method(&args.method)?;
    let method = tableau.name().to_owned();
    let ode = Ode::new(Solver::adaptive(tableau, tolerance), field, vec![masses.clone()])?;
    let y0 = Tensor::new(&ThreeBody::Y0, &Device::Cpu)?;
    let times = SaveAt::Times((0..1000).map(|i| i as f64 / 999.0).collect());

    let forward = || Ok(ode.forward(&y0, (0.0, 1.0), &times)?.0);
    let gradient = || {
        let sol = ode.solve(&y0, (0.0, 1.0), &times)?;
        let loss = sol.ys.narrow(1, 0, 9)?.sqr()?.mean_all()?;
        let grads = loss.backward()?;
        let nfe = sol.stats.nfe + sol.nfe_backward();
        Ok((nfe, sol.stats, loss.to_scalar::<f64>()?, flat(&grads, &[&masses])?))
    };
    let (ms_forward, _) = median(args.reps as usize, forward)?;
    let (ms_gradient, (nfe, stats, loss, gradient)) = median(args.reps as usize, gradient)?;
    Ok(Timing {
        workload: "three_body",
        peer: "aca",
        ms_forward,
        ms_gradient,
        nfe,
        loss,
        grad_norm: gradient.iter().map(|g| g * g).sum::<f64>().sqrt(),
        grad_head: gradient.into_iter().take(4).collect(),
        note: format!(
            "{method} at rtol {:e}, {} accepted, {} rejected steps",
            args.rtol, stats.accepted, stats.rejected
        ),
    })
}

fn flat(grads: &candle_core::backprop::GradStore, vars: &[&Var]) -> Result<Vec<f64>> {
    let mut all = Vec::new();
    for var in vars {
        let gradient = grads.get(var).map_or_else(|| var.zeros_like(), |g| Ok(g.clone()))?;
        all.extend(gradient.flatten_all()?.to_dtype(candle_core::DType::F64)?.to_vec1::<f64>()?);
    }
    Ok(all)
}

/// Runs `work` once to warm up and `reps` times on the clock; returns the median in ms and the last
/// result.
fn median<T>(reps: usize, work: impl Fn() -> Result<T>) -> Result<(f64, T)> {
    let mut result = work()?;
    let mut times = Vec::with_capacity(reps);
    for _ in 0..reps {
        let start = Instant::now();
        result = work()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let middle = times.len() / 2;
    let median = if times.len() % 2 == 1 {
        times[middle]
    } else {
        (times[middle - 1] + times[middle]) / 2.0
    };
    Ok((median, result))
}

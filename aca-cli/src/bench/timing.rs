//! What a workload costs.

use std::fmt;
use std::time::{Duration, Instant};

use candle_core::backprop::GradStore;
use candle_core::{DType, Var};
use serde::Serialize;

use super::workload::Workload;
use crate::counting;
use crate::report::Result;

/// Time in which work warms up: caches, pages of memory, the processor's clock, sleeping threads.
const WARM_UP: Duration = Duration::from_millis(200);

/// One timed workload, with the fields that the peers' benchmark prints.
#[derive(Serialize)]
pub struct Timing {
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
    /// Most bytes alive at once during a solve and its gradient, beyond those before.
    peak_bytes: isize,
    /// Forward evaluations of each sample that steps on its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    nfe_samples: Vec<usize>,
    note: String,
}

impl fmt::Display for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { workload, ms_forward, ms_gradient, nfe, loss, grad_head, note, .. } = self;
        writeln!(
            f,
            "{workload}: forward {ms_forward:.3} ms, forward and gradient {ms_gradient:.3} ms"
        )?;
        writeln!(f, "{nfe} evaluations, {:.3} MB at most", self.peak_bytes as f64 / 1e6)?;
        if let Some((fewest, most)) =
            self.nfe_samples.iter().min().zip(self.nfe_samples.iter().max())
        {
            writeln!(f, "{fewest} to {most} forward evaluations per sample (--json lists them)")?;
        }
        writeln!(f, "loss {loss:.12}, gradient {grad_head:?}")?;
        f.write_str(note)
    }
}

/// Times a workload; its memory is counted in a run of its own, off the clock.
pub fn time(workload: &Workload, reps: usize) -> Result<Timing> {
    let (ms_forward, _) = median(reps, || workload.forward())?;
    let (ms_gradient, gradient) = median(reps, || workload.gradient())?;
    counting::start();
    let before = counting::alive();
    let (peak, again) = counting::peak(|| workload.gradient());
    again?;
    let entries = flat(&gradient.grads, &workload.vars)?;
    Ok(Timing {
        workload: workload.name,
        peer: "aca",
        ms_forward,
        ms_gradient,
        nfe: gradient.nfe,
        loss: gradient.loss,
        grad_norm: entries.iter().map(|g| g * g).sum::<f64>().sqrt(),
        grad_head: entries.into_iter().take(4).collect(),
        peak_bytes: peak - before,
        nfe_samples: gradient.nfe_samples,
        note: format!(
            "{}, {} accepted, {} rejected steps",
            workload.note, gradient.stats.accepted, gradient.stats.rejected
        ),
    })
}

fn flat(grads: &GradStore, vars: &[Var]) -> Result<Vec<f64>> {
    let mut all = Vec::new();
    for var in vars {
        let gradient = grads.get(var).map_or_else(|| var.zeros_like(), |g| Ok(g.clone()))?;
        all.extend(gradient.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?);
    }
    Ok(all)
}

/// Runs `work` until it is warm and `reps` times on the clock; returns the median in ms and the last
/// result.
pub fn median<T>(reps: usize, mut work: impl FnMut() -> Result<T>) -> Result<(f64, T)> {
    let begin = Instant::now();
    let mut result = work()?;
    while begin.elapsed() < WARM_UP {
        result = work()?;
    }
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

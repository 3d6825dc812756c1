//! The adjoint state along the trajectory.

use std::sync::Arc;

use aca_core::{Result, Steps, TensorStages, kernels};
use candle_core::Tensor;

use crate::Params;
use crate::outputs::RowOutput;
use crate::params::Accumulator;
use crate::replay::{self, Arriving, Known, Replay, ReplayStep};

/// How the loss depends on the solution at times inside the span: its derivatives by the state there, and by the time
/// at which that state is reached.
#[derive(Clone, Debug)]
pub struct AdjointState {
    /// `a(t) = dL/dy(t)` for each time, `[times, ..state]`: of the outputs at `t` and after it. Where the samples of a
    /// batch step on their own, the state is `[batch, ..]`.
    pub a: Tensor,
    /// `dL/dt = a(t) . f(t, y(t))` for each time; where samples step on their own, one after the other for each time.
    pub dl_dt: Vec<f64>,
}

/// Collects adjoint states while a backward pass goes by.
pub(crate) struct AdjointProbe<'a> {
    ts: &'a [f64],
    batch: usize,
    /// One a time and sample: a tensor of all rows, the row, and `dL/dt`.
    found: Vec<Option<(Tensor, usize, f64)>>,
}

impl<'a> AdjointProbe<'a> {
    pub(crate) fn new(ts: &'a [f64], batch: usize) -> Self {
        Self { ts, batch, found: vec![None; ts.len() * batch] }
    }

    /// Whether there is a time to look at.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.ts.is_empty()
    }

    /// Looks at the times of one step of every row, starts left out, given the cotangents of its ends and of its
    /// outputs.
    ///
    /// Inside a step the solution restarts from its interpolant: the rest of the step is replayed as
    /// a step of its own.
    pub(crate) fn visit(
        &mut self,
        step: &ReplayStep<'_>,
        arriving: &Arriving<'_>,
        samples: &Arc<[usize]>,
        params: &Params,
    ) -> Result<()> {
        for (m, &t) in self.ts.iter().enumerate() {
            for (row, &sample) in samples.iter().enumerate() {
                let (t0, t1) = step.steps.ends(row);
                let place = m * self.batch + sample;
                if t == t1 && t0 != t1 {
                    let y1 = stages(step, step.method.stages())?.end()?;
                    self.note((place, row), arriving.a.clone(), step, (t, &y1))?;
                } else if (t - t0) * (t1 - t) > 0.0 {
                    let (a, y) = inside(step, arriving, (row, t), params)?;
                    self.note((place, row), a, step, (t, &y))?;
                }
            }
        }
        Ok(())
    }

    /// Looks at the starts of spans, of the rows `first`, given the cotangents of the initial states.
    pub(crate) fn visit_starts(
        &mut self,
        step: &ReplayStep<'_>,
        a: &Tensor,
        samples: &Arc<[usize]>,
        first: &[bool],
    ) -> Result<()> {
        for (m, &t) in self.ts.iter().enumerate() {
            for (row, &sample) in samples.iter().enumerate().filter(|(row, _)| first[*row]) {
                if t == step.steps.ends(row).0 {
                    self.note((m * self.batch + sample, row), a.clone(), step, (t, step.y0))?;
                }
            }
        }
        Ok(())
    }

    /// The adjoint states found; zero after the last output.
    pub(crate) fn finish(self, y0: &Tensor) -> Result<AdjointState> {
        let (mut rows, mut dl_dt) = (Vec::new(), Vec::with_capacity(self.found.len()));
        let zero = (y0.zeros_like()?, 0, 0.0);
        for times in self.found.chunks(self.batch) {
            let found: Vec<_> = times.iter().map(|found| found.as_ref().unwrap_or(&zero)).collect();
            dl_dt.extend(found.iter().map(|found| found.2));
            rows.push(match found[..] {
                [(a, ..)] if a.shape() == y0.shape() => a.clone(),
                _ => {
                    let all = found.iter().map(|(a, row, _)| (a, *row));
                    kernels::gather_rows(&all.collect::<Vec<_>>())?
                }
            });
        }
        Ok(AdjointState { a: Tensor::stack(&rows, 0)?, dl_dt })
    }

    fn note(
        &mut self,
        (place, row): (usize, usize),
        a: Tensor,
        step: &ReplayStep<'_>,
        (t, y): (f64, &Tensor),
    ) -> Result<()> {
        let here = moved(step.steps, row, (t, t));
        let slope = step.field.eval_at(&step.method.times(&here, 0.5)?, y)?;
        let dl_dt = kernels::dots(step.steps.rows(), &a, &slope)?[row];
        self.found[place] = Some((a, row, dl_dt));
        Ok(())
    }
}

/// The steps of all rows with another one in row `row`; the others rest where they start.
fn moved(steps: &Steps, row: usize, (t0, t1): (f64, f64)) -> Steps {
    let Some(samples) = steps.samples() else { return Steps::whole(t0, t1) };
    let own = |i: usize, t: f64| if i == row { t } else { steps.ends(i).0 };
    let all = (0..steps.rows()).map(|i| (own(i, t0), own(i, t1)));
    let (t0, t1): (Vec<f64>, Vec<f64>) = all.unzip();
    Steps::of_samples(samples.clone(), t0, t1)
}

fn stages<'a>(step: &ReplayStep<'a>, count: usize) -> Result<TensorStages<'a>> {
    let mut stages = step.stages();
    stages.fill(count)?;
    Ok(stages)
}

/// The adjoint states at `t`, inside the step of `row`, and the states there; other rows' mean nothing.
fn inside(
    step: &ReplayStep<'_>,
    arriving: &Arriving<'_>,
    (row, t): (usize, f64),
    params: &Params,
) -> Result<(Tensor, Tensor)> {
    let (t0, t1) = step.steps.ends(row);
    let s = (t - t0) / (t1 - t0);
    let only = step.steps.resting_unless(|other| other == row);
    let step = &ReplayStep { steps: &only, ..*step };
    let k = stages(step, step.method.interpolant().stages())?.k;
    let weights = step.method.interpolant().weights(s);
    let terms: kernels::Terms<'_> = weights.into_iter().zip(&k).collect();
    let y = kernels::combine_steps(Some(step.y0), only.h(), &terms)?;
    let rest = moved(&only, row, (t, t1));
    let rest = ReplayStep { steps: &rest, y0: &y, k1: None, ..*step };
    let own = arriving.inside.iter().filter(|output| output.row == row && output.s >= s);
    let (here, later): (Vec<RowOutput>, Vec<RowOutput>) = own.partition(|output| output.s == s);
    let placed = |output: RowOutput| RowOutput { s: (output.s - s) / (1.0 - s), ..output };
    let later: Vec<RowOutput> = later.into_iter().map(placed).collect();
    let (mut unused, mut replay) = (Accumulator::new(params), replay::replay_on_tensors());
    let known = Known { y1: None, slope: None, window: 0, want_times: false };
    let arriving = Arriving { inside: &later, before: &[], ..*arriving };
    let a = replay.replay(&rest, &arriving, &known, &mut unused)?.start;
    let a = replay::add_whole((&only, &a), &[], (&here, arriving.g))?;
    Ok((a, y))
}

//! A solved batch whose samples stepped on their own.

use aca_core::{Error, Result, Solver, Stats, Status, StepSink, Stepper, TimeSpan, VectorField};
use candle_core::Tensor;

use crate::{DenseOutput, Placement, Ragged, SaveSamples, Saver, Solution, Spans};

/// A solved batch whose samples stepped on their own: what was asked for, detached from candle's
/// graph.
#[derive(Clone, Debug)]
pub struct SampleSolution {
    /// Times of each sample's outputs, in its span's direction.
    pub ts: Vec<Vec<f64>>,
    /// Outputs, `[times, ..state]` for each sample; NaN after a failure.
    pub ys: Ragged,
    /// States at the ends of the spans, `[batch, ..state]`.
    pub y1: Tensor,
    /// What each sample's solve cost.
    pub stats: Vec<Stats>,
    /// Evaluations of the field, of any number of rows.
    pub nfe: usize,
    all: Ragged,
    placements: Vec<Vec<Placement>>,
    statuses: Vec<Status>,
    dense: Vec<Option<DenseOutput>>,
}

impl SampleSolution {
    /// How each sample ended; always well unless the solver's `OnFailure` keeps failed ones.
    pub fn statuses(&self) -> &[Status] {
        &self.statuses
    }

    /// Where each sample's outputs lie among its accepted steps.
    pub fn placements(&self) -> &[Vec<Placement>] {
        &self.placements
    }

    /// The outputs, each sample's state at the end of its span the last.
    pub fn outputs_and_ends(&self) -> &Ragged {
        &self.all
    }

    /// The solution of one sample over its whole span.
    ///
    /// # Errors
    /// [`Error::NoDenseOutput`] unless the sample was asked for [`SaveAt::Dense`](crate::SaveAt::Dense).
    pub fn dense(&self, sample: usize) -> Result<&DenseOutput> {
        self.dense.get(sample).and_then(Option::as_ref).ok_or(Error::NoDenseOutput)
    }

    /// Solves every sample on its own and keeps what `save_at` asks for, while accepted steps
    /// also go to `sink`.
    ///
    /// # Errors
    /// As [`solve_samples`].
    pub fn record(
        solver: &Solver,
        field: &dyn VectorField,
        y0: &Tensor,
        spans: &[TimeSpan],
        save_at: &SaveSamples,
        sink: impl StepSink,
    ) -> Result<Self> {
        let y0 = solver.own(y0)?;
        let saver = Saver::of_samples(&save_at.of_batch(spans.len())?, spans, &y0)?;
        let mut sinks = (saver, sink);
        let ends: Vec<_> = spans.iter().map(|span| (span.t0, span.t1)).collect();
        let end = solver.solve_samples(field, &y0, &ends, &mut sinks)?;
        let method = Stepper::new(solver, y0.dtype())?;
        let (flat, saved) = sinks.0.finish_samples((&end.y1, &end.t1), &method)?;
        let all = Ragged::new(flat, saved.iter().map(|sample| sample.ts.len() + 1).collect())?;
        let (ys, y1) = all.split_last()?;
        let (mut ts, mut placements, mut dense) = (Vec::new(), Vec::new(), Vec::new());
        for sample in saved {
            ts.push(sample.ts);
            placements.push(sample.placements);
            dense.push(sample.dense);
        }
        let (stats, statuses, nfe) = (end.stats, end.statuses, end.nfe);
        Ok(Self { ts, ys, y1, stats, nfe, all, placements, statuses, dense })
    }

    /// Returns the same as a solution of the whole batch, `[times, batch, ..state]`.
    ///
    /// # Errors
    /// [`Error::PerSampleUnsupported`] when the samples' times differ, or they have dense outputs.
    pub fn into_shared(self) -> Result<Solution> {
        let ts = self.ts.first().cloned().unwrap_or_default();
        if self.ts.iter().any(|other| *other != ts) {
            let (what, remedy) = ("a list of output times", "call solve_samples");
            return Err(Error::PerSampleUnsupported { what, remedy });
        }
        if self.dense.iter().any(Option::is_some) {
            let (what, remedy) = ("a dense output of the whole batch", "call solve_samples");
            return Err(Error::PerSampleUnsupported { what, remedy });
        }
        let flat = self.ys.flat();
        let shape = [&[self.ts.len(), ts.len()], &flat.dims()[1..]].concat();
        let ys = flat.reshape(shape)?.transpose(0, 1)?.contiguous()?;
        let stats = Stats { nfe: self.nfe, ..total(&self.stats) };
        let shared = Solution::new(ts, ys, self.y1, stats, Vec::new());
        Ok(shared.of_samples(self.stats, self.statuses))
    }
}

/// The steps of all samples together.
fn total(stats: &[Stats]) -> Stats {
    let mut total = Stats::default();
    for stats in stats.iter().filter(|stats| stats.accepted > 0) {
        let first = total.accepted == 0;
        let smallest = if first { stats.h_smallest } else { total.h_smallest };
        total.h_smallest = smallest.min(stats.h_smallest);
        total.h_largest = total.h_largest.max(stats.h_largest);
        total.accepted += stats.accepted;
        total.stability_limited += stats.stability_limited;
    }
    Stats { rejected: stats.iter().map(|stats| stats.rejected).sum(), ..total }
}

/// Solves every sample of a batch on its own and keeps what `save_at` asks for.
///
/// # Shapes
/// `y0`: `[batch, ..state]`, `f32` or `f64`; outputs: `[times, ..state]` for each sample.
///
/// # Gradient
/// None: the result is detached. `aca-adjoint` solves with gradients.
///
/// # Errors
/// Those of [`Solver::solve_samples`] and of the requested times.
///
/// # Example
/// ```
/// use aca_core::{Solver, Time, Tolerance};
/// use aca_dense::{SaveAt, solve_samples};
/// use candle_core::{Device, Tensor};
///
/// # fn main() -> aca_core::Result<()> {
/// let solver = Solver::adaptive(aca_tableau::TSIT5, Tolerance { rtol: 1e-8, atol: 1e-8 });
/// let decay = |_t: &Time, y: &Tensor| y.neg();
/// let y0 = Tensor::new(&[[1.0f64], [2.0]], &Device::Cpu)?;
/// let times = vec![SaveAt::Times(vec![0.5]), SaveAt::Times(vec![1.0, 3.0])];
/// let sol = solve_samples(&solver, &decay, &y0, vec![(0.0, 1.0), (0.0, 4.0)], times)?;
/// let y = sol.ys.sample(1)?.to_vec2::<f64>()?;
/// assert!((y[1][0] - 2.0 * (-3f64).exp()).abs() < 1e-7);
/// # Ok(())
/// # }
/// ```
pub fn solve_samples(
    solver: &Solver,
    field: &dyn VectorField,
    y0: &Tensor,
    spans: impl Into<Spans>,
    save_at: impl Into<SaveSamples>,
) -> Result<SampleSolution> {
    let &batch = y0.dims().first().ok_or(Error::NoBatch { shape: Vec::new() })?;
    let spans = spans.into().of_batch(batch)?;
    SampleSolution::record(solver, field, y0, &spans, &save_at.into(), ())
}

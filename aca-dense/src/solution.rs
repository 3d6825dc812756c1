//! A solved ODE.

use aca_core::{Error, Result, SampleEnd, SolveEnd, Solver, Spans, Stats, StepSink, VectorField};
use candle_core::Tensor;

use crate::{DenseError, DenseOutput, Layout, Placement, Ragged, SaveAt, Saver};

/// A solved ODE: what a [`SaveAt`] asked for, detached from candle's graph.
///
/// # Shapes
/// | the state | outputs `ys` | end `y1` |
/// |---|---|---|
/// | steps as a whole | `[times, ..state]` | `[..state]` |
/// | samples that step on their own, all with the same times | `[times, batch, ..state]` | `[batch, ..state]` |
/// | samples whose spans, requests or kept steps differ | `[outputs, ..state]`, one sample's after the other's | `[batch, ..state]` |
#[derive(Clone, Debug)]
pub struct Solution {
    /// Times of the outputs, one for each index of the first dimension of `ys`.
    pub ts: Vec<f64>,
    /// Outputs; no rows when no times were asked for. NaN at times that a solve did not come to.
    pub ys: Tensor,
    /// State at the end.
    pub y1: Tensor,
    /// What the solve cost.
    pub stats: Stats,
    /// How each sample ended, and what it cost; a state that steps as a whole is one sample.
    pub samples: Vec<SampleEnd>,
    placements: Vec<Placement>,
    layout: Layout,
    dense: Vec<Option<DenseOutput>>,
}

impl Solution {
    /// Joins times and outputs to where they lie among the steps, one sample's after the other's, and to how the solve
    /// ended; without dense output.
    pub fn new(
        (ts, ys): (Vec<f64>, Tensor),
        (placements, layout): (Vec<Placement>, Layout),
        end: SolveEnd,
    ) -> Self {
        let SolveEnd { y1, stats, samples } = end;
        Self { ts, ys, y1, stats, samples, placements, layout, dense: Vec::new() }
    }

    pub(crate) fn with_dense(self, dense: Vec<Option<DenseOutput>>) -> Self {
        Self { dense, ..self }
    }

    /// Returns the same solution outside candle's graph.
    pub fn detach(self) -> Self {
        let (ys, y1) = (self.ys.detach(), self.y1.detach());
        let dense = self.dense.into_iter().map(|dense| dense.map(DenseOutput::detach)).collect();
        Self { ys, y1, dense, ..self }
    }

    /// Where the outputs lie among the accepted steps, one sample's after the other's.
    pub fn placements(&self) -> &[Placement] {
        &self.placements
    }

    /// How the outputs lie in `ys`.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Where each sample's end lies among its accepted steps.
    pub fn end_placements(&self) -> impl Iterator<Item = Placement> + '_ {
        self.samples.iter().map(|end| match end.stats.accepted {
            0 => Placement { step: 0, s: 0.0 },
            n => Placement { step: n - 1, s: end.s },
        })
    }

    /// Whether each sample's last output is its end, as `ys` at the last of the times.
    pub fn ends_are_outputs(&self) -> bool {
        let lasts = match &self.layout {
            Layout::Ragged(_) => return false,
            layout => self.placements.chunks(layout.count(0).max(1)).map(<[Placement]>::last),
        };
        !self.ts.is_empty()
            && lasts.zip(self.end_placements()).all(|(last, end)| last == Some(&end))
    }

    /// Times of one sample's outputs.
    ///
    /// # Errors
    /// [`Error::SampleCount`] beyond the batch.
    pub fn sample_ts(&self, sample: usize) -> Result<&[f64]> {
        self.layout.check_sample(sample)?;
        Ok(match &self.layout {
            Layout::Ragged(counts) => &self.ts[counts[..sample].iter().sum()..][..counts[sample]],
            _ => &self.ts,
        })
    }

    /// Outputs of one sample, `[its times, ..state]`.
    ///
    /// # Errors
    /// [`Error::SampleCount`] beyond the batch.
    pub fn sample(&self, sample: usize) -> Result<Tensor> {
        self.layout.sample(&self.ys, sample)
    }

    /// The outputs of all samples as a list for each, which can be padded.
    pub fn each(&self) -> Result<Ragged> {
        self.layout.each(&self.ys)
    }

    /// The solution over the whole span, of a state that steps as a whole.
    ///
    /// # Errors
    /// [`DenseError::NoDenseOutput`] unless the solve was asked for [`SaveAt::Dense`];
    /// [`Error::PerSampleUnsupported`] where each sample has its own.
    pub fn dense(&self) -> Result<&DenseOutput> {
        match self.layout {
            Layout::Whole(_) => self.sample_dense(0),
            _ => {
                let (what, remedy) = ("Solution::dense", "call sample_dense for each sample");
                Err(Error::PerSampleUnsupported { what, remedy })
            }
        }
    }

    /// The solution of one sample over its whole span.
    ///
    /// # Errors
    /// [`DenseError::NoDenseOutput`] unless the sample was asked for [`SaveAt::Dense`]; [`Error::SampleCount`].
    pub fn sample_dense(&self, sample: usize) -> Result<&DenseOutput> {
        self.layout.check_sample(sample)?;
        let dense = self.dense.get(sample).and_then(Option::as_ref);
        Ok(dense.ok_or(DenseError::NoDenseOutput)?)
    }

    /// Returns `y(t)` for each of `ts`, in any order, of a solve that kept its dense output.
    ///
    /// # Shapes
    /// `[times, ..state]`, or `[times, batch, ..state]` where samples stepped on their own.
    ///
    /// # Errors
    /// [`DenseError::NoDenseOutput`] unless the solve was asked for [`SaveAt::Dense`]; those of
    /// [`DenseOutput::at_times`].
    pub fn at_times(&self, ts: &[f64]) -> Result<Tensor> {
        if let Layout::Whole(_) = self.layout {
            return self.sample_dense(0)?.at_times(ts);
        }
        let samples = 0..self.samples.len();
        let each = samples.map(|sample| self.sample_dense(sample)?.at_times(ts));
        Ok(Tensor::stack(&each.collect::<Result<Vec<_>>>()?, 1)?)
    }

    /// Solves `dy/dt = f(t, y)` and keeps what `save_at` asks for, while every accepted step also
    /// goes to `sink`.
    ///
    /// # Errors
    /// As [`solve`].
    pub fn record(
        solver: &Solver,
        field: &dyn VectorField,
        y0: &Tensor,
        span: impl Into<Spans>,
        save_at: &SaveAt,
        sink: impl StepSink,
    ) -> Result<Self> {
        let (spans, y0) = (span.into(), solver.own(y0)?);
        let mut sinks = (Saver::new(solver, save_at, &spans, &y0)?, sink);
        let end = solver.solve(field, &y0, spans, &mut sinks)?;
        sinks.0.finish(end)
    }
}

/// Solves `dy/dt = f(t, y)` from `y0` over `span` and keeps what `save_at` asks for.
///
/// With [`Batching::PerSample`](aca_core::Batching::PerSample) each row of `y0` is a sample that steps on its own. Span
/// and outputs may be shared or given for each sample.
///
/// # Shapes
/// `y0`: `[..state]`, `f32` or `f64`; [`Solution::ys`]: `[times, ..state]`, or as [`Solution`] tells for samples.
///
/// # Gradient
/// None: the result is detached. `aca-adjoint` solves with gradients.
///
/// # Errors
/// Those of [`Solver::solve`] and of [`TimeSpan::check_times`](aca_core::TimeSpan::check_times).
///
/// # Example
/// ```
/// use aca_core::{Batching, Solver, Time, Tolerance};
/// use aca_dense::{SaveAt, solve};
/// use candle_core::{Device, Tensor};
///
/// # fn main() -> aca_core::Result<()> {
/// let solver = Solver::adaptive(aca_tableau::TSIT5, Tolerance { rtol: 1e-8, atol: 1e-8 });
/// let decay = |_t: &Time, y: &Tensor| y.neg();
/// let y0 = Tensor::new(&[[1.0f64], [2.0]], &Device::Cpu)?;
/// let sol = solve(&solver, &decay, &y0, (0.0, 1.0), &SaveAt::Times(vec![0.25, 0.5, 1.0]))?;
/// assert_eq!(sol.ys.dims(), [3, 2, 1]);
///
/// let solver = Solver { batching: Batching::PerSample, ..solver };
/// let times = SaveAt::PerSample(vec![SaveAt::Times(vec![0.5]), SaveAt::Times(vec![1.0, 3.0])]);
/// let sol = solve(&solver, &decay, &y0, [(0.0, 1.0), (0.0, 4.0)], &times)?;
/// let y = sol.sample(1)?.to_vec2::<f64>()?;
/// assert!((y[1][0] - 2.0 * (-3f64).exp()).abs() < 1e-7);
/// # Ok(())
/// # }
/// ```
pub fn solve(
    solver: &Solver,
    field: &dyn VectorField,
    y0: &Tensor,
    span: impl Into<Spans>,
    save_at: &SaveAt,
) -> Result<Solution> {
    Solution::record(solver, field, y0, span, save_at, ())
}

//! A solved batch whose samples step on their own, as part of candle's graph.

use aca_core::{Error, Result, Stats, Status};
use aca_dense::{DenseOutput, Ragged, SampleSolution, SaveAt, SaveSamples, Spans};
use candle_core::{DType, Tensor};

use crate::attach::attach;
use crate::backward::Tape;
use crate::{GradientReport, Ode, OdeSolution};

/// A solved batch whose samples stepped on their own and whose outputs candle can differentiate.
pub struct OdeSampleSolution {
    /// Times of each sample's outputs, in its span's direction.
    pub ts: Vec<Vec<f64>>,
    /// Outputs, `[times, ..state]` for each sample; NaN after a failure.
    pub ys: Ragged,
    /// What each sample's forward solve cost.
    pub stats: Vec<Stats>,
    /// Evaluations of the field by the forward solve, of any number of rows.
    pub nfe: usize,
    y1: Tensor,
    plain: SampleSolution,
    tape: Tape,
}

impl OdeSampleSolution {
    /// Returns the states at the ends of the spans, `[batch, ..state]`.
    pub fn y1(&self) -> Result<Tensor> {
        Ok(self.y1.clone())
    }

    /// How each sample ended; always well unless the solver's `OnFailure` keeps failed ones.
    pub fn statuses(&self) -> &[Status] {
        self.plain.statuses()
    }

    /// The solution of one sample over its whole span, outside candle's graph.
    ///
    /// # Errors
    /// [`Error::NoDenseOutput`] unless the sample was asked for `SaveAt::Dense`.
    pub fn dense(&self, sample: usize) -> Result<&DenseOutput> {
        self.plain.dense(sample)
    }

    /// As [`OdeSolution::report`].
    pub fn report(&self) -> Option<GradientReport> {
        self.tape.report()
    }

    /// Evaluations of the field by all backward passes through this solution so far.
    pub fn nfe_backward(&self) -> usize {
        self.tape.nfe()
    }
}

impl Ode {
    /// Solves every sample of a batch on its own, over spans and with outputs of its own; the
    /// outputs are part of candle's graph.
    ///
    /// # Shapes
    /// `y0`: `[batch, ..state]`, `f32` or `f64`; outputs: `[times, ..state]` for each sample.
    ///
    /// # Errors
    /// Those of [`Solver::solve_samples`](aca_core::Solver::solve_samples) and of the requested times;
    /// [`Error::UnlistedVariable`]; [`Error::PerSampleUnsupported`] unless the strategy is `Aca` or `Naive`.
    ///
    /// # Example
    /// ```
    /// use aca_adjoint::Ode;
    /// use aca_core::{Solver, Time, Tolerance};
    /// use aca_dense::SaveAt;
    /// use candle_core::{Device, Tensor, Var};
    ///
    /// # fn main() -> aca_core::Result<()> {
    /// let y0 = Var::new(&[[1.0f64], [1.0]], &Device::Cpu)?;
    /// let decay = |_t: &Time, y: &Tensor| y.neg();
    /// let solver = Solver::adaptive(aca_tableau::DOPRI5, Tolerance { rtol: 1e-9, atol: 1e-9 });
    /// let ode = Ode::new(solver, decay, vec![])?;
    /// let sol = ode.solve_samples(&y0, vec![(0.0, 1.0), (0.0, 2.0)], SaveAt::End)?;
    /// let grads = sol.y1()?.sum_all()?.backward()?;
    /// let gradient = grads.get(&y0).map(|g| g.to_vec2::<f64>()).transpose()?.unwrap_or_default();
    /// assert!((gradient[1][0] - (-2f64).exp()).abs() < 1e-8); // each sample by its own span
    /// # Ok(())
    /// # }
    /// ```
    pub fn solve_samples(
        &self,
        y0: &Tensor,
        spans: impl Into<Spans>,
        save_at: impl Into<SaveSamples>,
    ) -> Result<OdeSampleSolution> {
        let constant = Tensor::zeros(1, DType::F64, y0.device())?;
        self.attached_samples(y0, (&spans.into(), &save_at.into()), &constant)
    }

    /// Solves every sample from the first of its times to the last, with outputs at all of them; the
    /// outputs are differentiable in `times` as well.
    ///
    /// # Shapes
    /// `times`: one list a sample, `[sum(counts)]` in all; each has one time or more. Outputs:
    /// `[times, ..state]` for each sample, the first of them its row of `y0`.
    ///
    /// # Errors
    /// As [`Ode::solve_samples`]; [`Error::TimesShape`] for lists of anything but numbers;
    /// [`Error::Unsupported`] when candle tracks `times` and the strategy is `Naive`.
    pub fn solve_sample_times(&self, y0: &Tensor, times: &Ragged) -> Result<OdeSampleSolution> {
        if times.flat().rank() != 1 {
            return Err(Error::TimesShape { shape: times.flat().dims().to_vec() });
        }
        if times.flat().track_op() {
            self.strategy().check_times_of(&self.solver().method)?;
        }
        let (mut spans, mut save_at) = (Vec::new(), Vec::new());
        for sample in 0..times.counts().len() {
            let ts = times.sample(sample)?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
            let ends = ts.first().copied().zip(ts.last().copied());
            spans.push(ends.ok_or(Error::NoTimes)?);
            save_at.push(SaveAt::Times(ts));
        }
        self.attached_samples(y0, (&spans.into(), &save_at.into()), times.flat())
    }

    /// Solves without touching candle's graph and returns the tape for an explicit pullback, whose
    /// cotangents are those of [`SampleSolution::outputs_and_ends`], `[outputs, ..state]`.
    ///
    /// # Errors
    /// As [`Ode::solve_samples`].
    pub fn forward_samples(
        &self,
        y0: &Tensor,
        spans: impl Into<Spans>,
        save_at: impl Into<SaveSamples>,
    ) -> Result<(SampleSolution, Tape)> {
        self.unattached_samples(y0, &spans.into(), &save_at.into())
    }

    fn unattached_samples(
        &self,
        y0: &Tensor,
        spans: &Spans,
        save_at: &SaveSamples,
    ) -> Result<(SampleSolution, Tape)> {
        let &batch = y0.dims().first().ok_or(Error::NoBatch { shape: Vec::new() })?;
        let spans = spans.of_batch(batch)?;
        let first = spans.first().map(|span| (span.t0, span.t1)).unwrap_or_default();
        self.check_covered(y0, first.0)?;
        self.at(y0, first, &SaveAt::End)?.solve_samples(self.strategy(), &spans, save_at)
    }

    fn attached_samples(
        &self,
        y0: &Tensor,
        (spans, save_at): (&Spans, &SaveSamples),
        times: &Tensor,
    ) -> Result<OdeSampleSolution> {
        let (plain, tape) = self.unattached_samples(y0, spans, save_at)?;
        let all = plain.outputs_and_ends();
        let flat = attach(all.flat(), y0, self.params(), times, tape.clone())?;
        let (ys, y1) = Ragged::new(flat, all.counts().to_vec())?.split_last()?;
        let (ts, stats, nfe) = (plain.ts.clone(), plain.stats.clone(), plain.nfe);
        Ok(OdeSampleSolution { ts, ys, stats, nfe, y1, plain, tape })
    }

    /// [`Ode::solve`] where the solver gives every sample steps of its own.
    pub(crate) fn solve_alike(
        &self,
        y0: &Tensor,
        (spans, save_at): (&Spans, &SaveSamples),
        times: &Tensor,
    ) -> Result<OdeSolution> {
        let sol = self.attached_samples(y0, (spans, save_at), times)?;
        let shared = sol.plain.into_shared()?;
        let (batch, count) = (sol.y1.dims()[0], shared.ts.len());
        let shape = [&[batch, count], &sol.y1.dims()[1..]].concat();
        let ys = sol.ys.flat().reshape(shape)?.transpose(0, 1)?.contiguous()?;
        Ok(OdeSolution::of_samples(shared, ys, sol.y1, sol.tape))
    }
}

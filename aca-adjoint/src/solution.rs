//! A solved ODE as part of candle's graph.

use aca_core::{Result, SampleEnd, Stats};
use aca_dense::{DenseOutput, Layout, Placement, Ragged, Solution};
use candle_core::{DType, Tensor};

use crate::attach::attach;
use crate::backward::Tape;
use crate::{GradientReport, LossError, Params};

/// A solved ODE whose outputs candle can differentiate: what [`Solution`] holds, with `ys` and `y1` in candle's graph.
pub struct OdeSolution {
    /// Times of the outputs, one for each index of the first dimension of `ys`.
    pub ts: Vec<f64>,
    /// Outputs, `[times, ..state]` or as [`Solution`] tells for samples; no rows when no times were asked for.
    pub ys: Tensor,
    /// State at the end.
    pub y1: Tensor,
    /// What the forward solve cost.
    pub stats: Stats,
    /// How each sample ended, and what it cost; a state that steps as a whole is one sample.
    pub samples: Vec<SampleEnd>,
    /// The solution outside candle's graph, unless the solve is in it.
    plain: Solution,
    /// How outputs join candle's graph; `None` where they are part of it anyway.
    join: Option<Join>,
}

/// What an output of a solve depends on, and how.
struct Join {
    y0: Tensor,
    params: Params,
    tape: Tape,
}

impl OdeSolution {
    /// Joins a solution and its attached outputs and end to what other outputs need to be attached.
    pub(crate) fn new(
        plain: Solution,
        (ys, y1): (Tensor, Tensor),
        (y0, params): (Tensor, Params),
        tape: Tape,
    ) -> Self {
        Self { ys, y1, join: Some(Join { y0, params, tape }), ..Self::in_graph(plain) }
    }

    /// Takes over a solution whose tensors are part of candle's graph.
    pub(crate) fn in_graph(plain: Solution) -> Self {
        let Solution { ts, ys, y1, stats, samples, .. } = plain.clone();
        Self { ts, ys, y1, stats, samples, plain, join: None }
    }

    /// Times of one sample's outputs.
    ///
    /// # Errors
    /// [`Error::SampleCount`](aca_core::Error::SampleCount) beyond the batch.
    pub fn sample_ts(&self, sample: usize) -> Result<&[f64]> {
        self.plain.sample_ts(sample)
    }

    /// Outputs of one sample, `[its times, ..state]`, differentiable.
    ///
    /// # Errors
    /// [`Error::SampleCount`](aca_core::Error::SampleCount) beyond the batch.
    pub fn sample(&self, sample: usize) -> Result<Tensor> {
        self.plain.layout().sample(&self.ys, sample)
    }

    /// The outputs of all samples as a list for each, which can be padded; differentiable.
    pub fn each(&self) -> Result<Ragged> {
        self.plain.layout().each(&self.ys)
    }

    /// Returns `y(t)` for each of `ts`, which need not be known when solving; differentiable.
    ///
    /// # Shapes
    /// `[times, ..state]`, or `[times, batch, ..state]` where samples stepped on their own; the times run in the span's
    /// direction.
    ///
    /// # Errors
    /// [`DenseError::NoDenseOutput`](aca_dense::DenseError::NoDenseOutput) unless the solve was asked for
    /// `SaveAt::Dense`; those of the times.
    ///
    /// # Cost
    /// The backward of each call replays the steps again: ask for all times in one call.
    pub fn at_times(&self, ts: &[f64]) -> Result<Tensor> {
        let (plain, batch) = (&self.plain, self.samples.len());
        let mut placements: Vec<Placement> = Vec::new();
        for sample in 0..batch {
            let dense = plain.sample_dense(sample)?;
            dense.span().check_times(ts)?;
            placements.extend(dense.place_all(ts)?);
        }
        let ys = plain.at_times(ts)?;
        let Some(Join { y0, params, tape }) = &self.join else { return Ok(ys) };
        let times = ts.len();
        let layout = match plain.layout() {
            Layout::Whole(_) => Layout::Whole(times),
            _ => Layout::Alike { times, batch },
        };
        let constant = Tensor::zeros(1, DType::F64, y0.device())?;
        attach(&ys, y0, params, &constant, tape.clone().of_outputs(&layout, &placements))
    }

    /// The solution over the whole span, of a state that steps as a whole; outside candle's graph unless the solve is in
    /// it.
    ///
    /// # Errors
    /// As [`Solution::dense`].
    pub fn dense(&self) -> Result<&DenseOutput> {
        self.plain.dense()
    }

    /// The solution of one sample over its whole span, as [`OdeSolution::dense`].
    ///
    /// # Errors
    /// As [`Solution::sample_dense`].
    pub fn sample_dense(&self, sample: usize) -> Result<&DenseOutput> {
        self.plain.sample_dense(sample)
    }

    /// What the last backward pass through this solution found out about it: the error of the loss, the growth of
    /// cotangents, parameters that nothing depends on. `None` before the first backward, and with strategies that
    /// replay no steps.
    pub fn report(&self) -> Option<GradientReport> {
        self.tape().and_then(Tape::report)
    }

    /// How much the errors of the steps change the loss that was differentiated last: see
    /// [`GradientReport::loss_error`].
    ///
    /// # Example
    /// ```
    /// use aca_adjoint::Ode;
    /// use aca_core::{Solver, Time, Tolerance};
    /// use aca_dense::SaveAt;
    /// use candle_core::{Device, Tensor, Var};
    ///
    /// # fn main() -> aca_core::Result<()> {
    /// let y0 = Var::new(&[1.0f64], &Device::Cpu)?;
    /// let growth = |_t: &Time, y: &Tensor| Ok(y.clone());
    /// let solver = Solver::adaptive(aca_tableau::DOPRI5, Tolerance { rtol: 1e-5, atol: 1e-5 });
    /// let sol = Ode::new(solver, growth, vec![])?.solve(&y0, (0.0, 2.0), &SaveAt::End)?;
    /// let loss = sol.y1.sqr()?.sum_all()?;
    /// loss.backward()?;
    /// let error = sol.loss_error().unwrap_or_default();
    /// let truth = (loss.to_scalar::<f64>()? - 4f64.exp()).abs();
    /// assert!(truth < error.bound && error.bound < 1e-2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn loss_error(&self) -> Option<LossError> {
        Some(self.report()?.loss_error)
    }

    /// Evaluations of the field by all backward passes through this solution so far.
    pub fn nfe_backward(&self) -> usize {
        self.tape().map_or(0, Tape::nfe)
    }

    fn tape(&self) -> Option<&Tape> {
        self.join.as_ref().map(|join| &join.tape)
    }
}

//! A solved ODE as part of candle's graph.

use aca_core::{Result, Stats, Status, TimeSpan};
use aca_dense::{DenseOutput, Solution};
use candle_core::{DType, Tensor};

use crate::attach::attach;
use crate::backward::Tape;
use crate::{GradientReport, LossError, Params};

/// A solved ODE whose outputs candle can differentiate.
pub struct OdeSolution {
    /// Times of the outputs, in the span's direction.
    pub ts: Vec<f64>,
    /// Outputs, `[times, ..state]`; no rows when no times were asked for.
    pub ys: Tensor,
    /// What the forward solve cost.
    pub stats: Stats,
    y1: Tensor,
    span: TimeSpan,
    dense: Option<DenseOutput>,
    /// How outputs join candle's graph; `None` where they are part of it anyway.
    join: Option<Join>,
    samples: Option<Samples>,
}

/// What is known of samples that step on their own.
struct Samples {
    plain: Solution,
    tape: Tape,
}

/// What an output of a solve depends on, and how.
struct Join {
    y0: Tensor,
    params: Params,
    tape: Tape,
}

impl OdeSolution {
    /// Joins all attached outputs, the end of the span last, to a solution.
    pub(crate) fn new(
        sol: Solution,
        outputs: Tensor,
        span: TimeSpan,
        (y0, params): (Tensor, Params),
        tape: Tape,
    ) -> Result<Self> {
        let rows = outputs.dims()[0];
        let ys = match sol.ts.len() {
            all if all == rows => outputs.clone(),
            some => outputs.narrow(0, 0, some)?,
        };
        let dense = sol.dense().ok().cloned();
        let (y1, join) = (outputs.get(rows - 1)?, Some(Join { y0, params, tape }));
        Ok(Self { ts: sol.ts, ys, stats: sol.stats, y1, span, dense, join, samples: None })
    }

    /// Takes over a solution whose tensors are part of candle's graph.
    pub(crate) fn in_graph(sol: Solution, span: TimeSpan) -> Self {
        let dense = sol.dense().ok().cloned();
        Self {
            ts: sol.ts,
            ys: sol.ys,
            stats: sol.stats,
            y1: sol.y1,
            span,
            dense,
            join: None,
            samples: None,
        }
    }

    /// Joins the outputs of samples that step on their own to what is known of them.
    pub(crate) fn of_samples(plain: Solution, ys: Tensor, y1: Tensor, tape: Tape) -> Self {
        let (ts, stats, span) = (plain.ts.clone(), plain.stats, TimeSpan { t0: 0.0, t1: 0.0 });
        Self {
            ts,
            ys,
            stats,
            y1,
            span,
            dense: None,
            join: None,
            samples: Some(Samples { plain, tape }),
        }
    }

    /// What each sample's forward solve cost, where samples stepped on their own; else nothing.
    pub fn sample_stats(&self) -> &[Stats] {
        self.samples.as_ref().map_or(&[], |samples| samples.plain.sample_stats())
    }

    /// How each sample ended, where samples stepped on their own; else nothing.
    pub fn statuses(&self) -> &[Status] {
        self.samples.as_ref().map_or(&[], |samples| samples.plain.statuses())
    }

    /// Returns the state at the end of the span.
    pub fn y1(&self) -> Result<Tensor> {
        Ok(self.y1.clone())
    }

    /// Returns `y(t)` for each of `ts`, which need not be known when solving; differentiable.
    ///
    /// # Shapes
    /// `[times, ..state]`; the times run in the span's direction.
    ///
    /// # Errors
    /// [`Error::NoDenseOutput`](aca_core::Error::NoDenseOutput) unless the solve was asked for
    /// `SaveAt::Dense`; those of the times.
    ///
    /// # Cost
    /// Each call is an output of its own: its backward replays the steps again.
    pub fn at_times(&self, ts: &[f64]) -> Result<Tensor> {
        let dense = self.dense()?;
        self.span.check_times(ts)?;
        let Some(Join { y0, params, tape }) = &self.join else { return dense.at_times(ts) };
        let tape = Tape { placements: dense.place_all(ts)?, ..tape.clone() };
        let constant = Tensor::zeros(1, DType::F64, y0.device())?;
        attach(&dense.at_times(ts)?, y0, params, &constant, tape)
    }

    /// The solution over the whole span, outside candle's graph unless the solve is in it.
    ///
    /// # Errors
    /// [`Error::NoDenseOutput`](aca_core::Error::NoDenseOutput) unless the solve was asked for
    /// `SaveAt::Dense`.
    pub fn dense(&self) -> Result<&DenseOutput> {
        self.dense.as_ref().ok_or(aca_core::Error::NoDenseOutput)
    }

    /// What the last backward pass through this solution found out about it: the error of the loss, how cotangents grew,
    /// parameters that nothing depends on. Nothing before the first one, and with strategies that replay no steps.
    pub fn report(&self) -> Option<GradientReport> {
        self.tape().and_then(Tape::report)
    }

    /// What the errors of the steps do to the loss that was differentiated last: see [`GradientReport::loss_error`].
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
    /// let loss = sol.y1()?.sqr()?.sum_all()?;
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
        let tape = self.join.as_ref().map(|join| &join.tape);
        tape.or(self.samples.as_ref().map(|samples| &samples.tape))
    }
}

//! A solved ODE as part of candle's graph.

use aca_core::{Result, Stats, TimeSpan};
use aca_dense::{DenseOutput, Solution};
use candle_core::{DType, Tensor};

use crate::Params;
use crate::attach::attach;
use crate::backward::Tape;

/// A solved ODE whose outputs candle can differentiate.
pub struct OdeSolution {
    /// Times of the outputs, in the span's direction.
    pub ts: Vec<f64>,
    /// Outputs, `[times, ..state]`; no rows when no times were asked for.
    pub ys: Tensor,
    /// What the forward solve cost.
    pub stats: Stats,
    /// All attached outputs: `ys`, and the end of the span as the last row.
    outputs: Tensor,
    span: TimeSpan,
    dense: Option<DenseOutput>,
    inputs: (Tensor, Params),
    tape: Tape,
}

impl OdeSolution {
    pub(crate) fn new(
        sol: Solution,
        outputs: Tensor,
        span: TimeSpan,
        inputs: (Tensor, Params),
        tape: Tape,
    ) -> Result<Self> {
        let ys = match sol.ts.len() {
            rows if rows == outputs.dims()[0] => outputs.clone(),
            rows => outputs.narrow(0, 0, rows)?,
        };
        let dense = sol.dense().ok().cloned();
        Ok(Self { ts: sol.ts, ys, stats: sol.stats, outputs, span, dense, inputs, tape })
    }

    /// Returns the state at the end of the span.
    pub fn y1(&self) -> Result<Tensor> {
        Ok(self.outputs.get(self.outputs.dims()[0] - 1)?)
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
        let placements = ts.iter().map(|&t| dense.place(t)).collect::<Result<Vec<_>>>()?;
        let (y0, params) = &self.inputs;
        let tape = Tape { placements, ..self.tape.clone() };
        let constant = Tensor::zeros(1, DType::F64, y0.device())?;
        attach(&dense.at_times(ts)?, y0, params, &constant, tape)
    }

    /// The solution over the whole span, detached.
    ///
    /// # Errors
    /// [`Error::NoDenseOutput`](aca_core::Error::NoDenseOutput) unless the solve was asked for
    /// `SaveAt::Dense`.
    pub fn dense(&self) -> Result<&DenseOutput> {
        self.dense.as_ref().ok_or(aca_core::Error::NoDenseOutput)
    }

    /// Evaluations of the field by all backward passes through this solution so far.
    pub fn nfe_backward(&self) -> usize {
        self.tape.nfe()
    }
}

//! What a pullback returns.

use aca_core::Result;
use candle_core::Tensor;
use candle_core::backprop::GradStore;

use crate::{GradientReport, Params};

/// Gradients of a loss with respect to all inputs of a solve.
#[derive(Clone, Debug)]
pub struct Gradients {
    /// With respect to the initial state, of its shape.
    pub y0: Tensor,
    /// With respect to the parameters, in the order of [`Params::vars`].
    pub theta: Vec<Tensor>,
    /// With respect to the times, if they were asked for.
    pub times: Option<TimeGradients>,
    /// The same for each sample, where samples stepped on their own.
    pub sample_times: Vec<TimeGradients>,
    /// Evaluations of the field that the pullback needed.
    pub nfe: usize,
    /// What the pullback found out about the solve, where it replayed steps: with `Aca` and `AcaBudget`.
    pub report: Option<GradientReport>,
}

/// Gradients with respect to times: exact for the discrete solution, the other times of its steps held fixed.
#[derive(Clone, Debug, PartialEq)]
pub struct TimeGradients {
    /// With respect to the start of the span.
    pub t0: f64,
    /// With respect to the end of the span; outputs at the end move with it.
    pub t1: f64,
    /// With respect to each requested time; 0 for one at an end of the span, which moves with it.
    pub ts: Vec<f64>,
}

impl TimeGradients {
    pub(crate) fn zeros(outputs: usize) -> Self {
        Self { t0: 0.0, t1: 0.0, ts: vec![0.0; outputs] }
    }

    /// Joins the gradients of the ends to those of the outputs' times, of which they are the first
    /// and the last.
    pub(crate) fn into_tensor(mut self, like: &Tensor) -> candle_core::Result<Tensor> {
        if let Some(first) = self.ts.first_mut() {
            *first += self.t0;
        }
        if let Some(last) = self.ts.last_mut() {
            *last += self.t1;
        }
        Tensor::new(self.ts, like.device())?.to_dtype(like.dtype())
    }
}

impl Gradients {
    /// Gradients without those of times, found with so many evaluations of the field.
    pub fn new(y0: Tensor, theta: Vec<Tensor>, nfe: usize) -> Self {
        Self { y0, theta, times: None, sample_times: Vec::new(), nfe, report: None }
    }

    /// Those with respect to times, laid out as `times`: the solve's own, or one sample's after the
    /// other's.
    pub(crate) fn times_like(&mut self, times: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let all = self.times.take().into_iter().chain(std::mem::take(&mut self.sample_times));
        let all = all.map(|moved| moved.into_tensor(times));
        match all.collect::<candle_core::Result<Vec<_>>>()? {
            none if none.is_empty() => Ok(None),
            all => Tensor::cat(&all, 0)?.reshape(times.shape()).map(Some),
        }
    }

    /// Adds the parameters' gradients to those that candle found for the rest of a loss.
    pub fn merge_into(&self, params: &Params, grads: &mut GradStore) -> Result<()> {
        for (var, gradient) in params.vars().iter().zip(&self.theta) {
            let sum = match grads.remove(var) {
                Some(other) => (other + gradient)?,
                None => gradient.clone(),
            };
            grads.insert(var, sum);
        }
        Ok(())
    }
}

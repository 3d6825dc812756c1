//! Where accepted steps go.

use candle_core::Tensor;

use crate::rules::{Ends, Rules};
use crate::{Error, Method, Result, SliceStep, kernels};

/// One accepted step, as the solve hands it to a [`StepSink`].
pub struct Step<'a> {
    /// Position among the accepted steps.
    pub index: usize,
    /// Where the step starts.
    pub t0: f64,
    /// Where it ends: the next step's start, exactly.
    pub t1: f64,
    /// State at `t0`.
    pub y0: &'a Tensor,
    /// State at `t1`.
    pub y1: &'a Tensor,
    last: bool,
    slopes: Slopes<'a>,
    rules: &'a Rules<'a>,
}

/// The slopes of a step's stages.
pub(crate) enum Slopes<'a> {
    Tensors(&'a mut Vec<Tensor>),
    Slices(&'a mut dyn SliceStages),
}

impl Slopes<'_> {
    /// Number of stages evaluated so far.
    fn known(&self) -> usize {
        match self {
            Self::Tensors(k) => k.len(),
            Self::Slices(stages) => stages.known(),
        }
    }

    /// Refuses weights that are not one for each stage of each row.
    pub(crate) fn check_weights(&self, rows: usize, weights: &[f64]) -> Result<()> {
        let (got, expected) = (weights.len() / rows.max(1), self.known());
        match weights.len() == rows * expected {
            true => Ok(()),
            false => Err(Error::StageCount { what: "weights", got, expected }),
        }
    }

    pub(crate) fn tensors(&self) -> Result<Vec<Tensor>> {
        match self {
            Self::Tensors(k) => Ok(k.to_vec()),
            Self::Slices(stages) => stages.tensors(),
        }
    }
}

/// The stages of a step on slices, whatever their type.
pub(crate) trait SliceStages {
    /// Evaluates those that only the interpolant needs.
    fn complete(&mut self, rules: &Rules<'_>, step: SliceStep<'_>);

    /// Number of those evaluated so far.
    fn known(&self) -> usize;

    /// Those evaluated so far.
    fn tensors(&self) -> Result<Vec<Tensor>>;

    /// That of a stage.
    fn tensor_of(&self, stage: usize) -> Result<Tensor>;

    /// `y0 + sum(w_mi k_i)` for every row `m` of weights.
    fn combine_rows(&self, weights: &[f64]) -> Result<Tensor>;

    /// `y0[r_m] + sum(w_mi k_i[r_m])` for every picked row `r_m`.
    fn combine_picked(&self, rows: &[usize], weights: &[f64]) -> Result<Tensor>;
}

impl<'a> Step<'a> {
    pub(crate) fn new(
        Ends { index, t0, t1, last }: Ends,
        [y0, y1]: [&'a Tensor; 2],
        slopes: Slopes<'a>,
        rules: &'a Rules<'a>,
    ) -> Self {
        Self { index, t0, t1, y0, y1, last, slopes, rules }
    }

    /// Signed size of the step.
    pub fn h(&self) -> f64 {
        self.t1 - self.t0
    }

    /// Whether the step ends the span.
    pub fn is_last(&self) -> bool {
        self.last
    }

    /// The slope at `t1`, where the tableau's own last stage has it.
    pub fn fsal_slope(&self) -> Result<Option<Tensor>> {
        let Some(stage) = self.rules.method.fsal_stage() else { return Ok(None) };
        match &self.slopes {
            Slopes::Tensors(k) => Ok(k.get(stage).cloned()),
            Slopes::Slices(stages) => stages.tensor_of(stage).map(Some),
        }
    }

    /// The method that made the step.
    pub fn method(&self) -> &Method {
        &self.rules.method
    }

    /// The slopes of the stages evaluated so far: the tableau's own, and the interpolant's after
    /// [`Step::complete`].
    pub fn stages(&self) -> Result<Vec<Tensor>> {
        self.slopes.tensors()
    }

    /// Returns `y0 + sum(w_mi k_i)` for every row `m` of `weights` over the stages evaluated so far,
    /// without making tensors of them.
    ///
    /// # Shapes
    /// `weights`: row-major `[rows, stages]`; result: `[rows, ..state]`.
    ///
    /// # Errors
    /// [`Error::StageCount`] for weights of more stages, or of fewer.
    pub fn combine_rows(&self, rows: usize, weights: &[f64]) -> Result<Tensor> {
        self.slopes.check_weights(rows, weights)?;
        match &self.slopes {
            Slopes::Tensors(k) => {
                kernels::combine_rows(self.y0, weights, &k.iter().collect::<Vec<_>>())
            }
            Slopes::Slices(stages) => stages.combine_rows(weights),
        }
    }

    /// Evaluates the stages that only the interpolant needs, once; the solve reuses the slope at
    /// `t1` for the next step. Running statistics of the field stay as they are.
    pub fn complete(&mut self) -> Result<()> {
        let (Rules { method, field }, t0, t1) = (self.rules, self.t0, self.t1);
        match &mut self.slopes {
            Slopes::Tensors(k) => {
                let statistics = field.snapshot()?;
                method.extend_stages(field, (t0, t1), self.y0, k)?;
                field.restore(&statistics)
            }
            Slopes::Slices(stages) => {
                stages.complete(self.rules, SliceStep::Shared { t0, t1 });
                Ok(())
            }
        }
    }
}

/// Receives the accepted steps of a solve, in order; rejected steps reach nobody.
///
/// The tape of a gradient, the saver of requested times and dense output are sinks; so are `()`,
/// which drops every step, and a pair of sinks.
pub trait StepSink {
    /// Takes one accepted step.
    ///
    /// # Errors
    /// Whatever the sink meets; the solve stops with it.
    fn accept(&mut self, step: &mut Step<'_>) -> Result<()>;

    /// Whether the sink holds on to every state of a [traced](crate::Solver::trace) solve and drops the newest
    /// first, so that no drop recurses through more than one step; the default is no.
    ///
    /// Traced solves into other sinks end with [`Error::GraphTooDeep`] before their graph can overflow the stack.
    fn drops_newest_first(&self) -> bool {
        false
    }
}

impl StepSink for () {
    fn accept(&mut self, _step: &mut Step<'_>) -> Result<()> {
        Ok(())
    }
}

impl<A: StepSink, B: StepSink> StepSink for (A, B) {
    fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
        self.0.accept(step)?;
        self.1.accept(step)
    }

    fn drops_newest_first(&self) -> bool {
        self.0.drops_newest_first() || self.1.drops_newest_first()
    }
}

impl<S: StepSink + ?Sized> StepSink for &mut S {
    fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
        (**self).accept(step)
    }

    fn drops_newest_first(&self) -> bool {
        (**self).drops_newest_first()
    }
}

impl<S: StepSink> StepSink for Option<S> {
    fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
        match self {
            Some(sink) => sink.accept(step),
            None => Ok(()),
        }
    }

    fn drops_newest_first(&self) -> bool {
        self.as_ref().is_some_and(S::drops_newest_first)
    }
}

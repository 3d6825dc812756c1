//! The Adaptive Checkpoint Adjoint.

use std::sync::Arc;

use aca_core::{Error, Evaluator, Method, OnSlices, Result, TimeSpan, VectorField, kernels};
use aca_dense::Placement;
use candle_core::Tensor;

use crate::adjoint_state::Watch;
use crate::backward::Backward;
use crate::budget::Budget;
use crate::finding::{Known, Replayed, norm};
use crate::params::Accumulator;
use crate::replay::{Outputs, Pulled, Replay, StepTimes};
use crate::report::{Audit, Untrusted};
use crate::rows::Rows;
use crate::slice_replay::{self, SliceReplay};
use crate::tape::{Checkpoint, Checkpoints};
use crate::{AdjointState, Gradients, Params, TimeGradients};

/// Replays the accepted steps one at a time, newest first: exact for the discrete solution with its
/// steps held fixed.
///
/// # Cost
/// Memory: the kept states, and the graphs of one step.
///
/// # Source
/// Zhuang et al., "Adaptive Checkpoint Adjoint Method for Gradient Estimation in Neural ODE",
/// ICML 2020, algorithm 2; the outputs' part of the formula is ours.
pub(crate) struct Aca {
    pub(crate) field: Arc<dyn VectorField>,
    pub(crate) params: Params,
    pub(crate) method: Method,
    pub(crate) y0: Tensor,
    /// State at the end of the span, and the slope there where the last step has it.
    pub(crate) end: (Tensor, Option<Tensor>),
    pub(crate) memory: Memory,
    /// Accepted steps at the stability limit.
    pub(crate) stability_limited: usize,
    /// Whether the steps were under error control.
    pub(crate) adaptive: bool,
    pub(crate) untrusted: Untrusted,
}

/// Which states of a solve are kept.
pub(crate) enum Memory {
    /// All of them.
    All(Checkpoints),
    /// Some; the others are computed again.
    Some(Budget),
}

/// The kept states during one backward pass, which may move those of a budget.
enum States<'a> {
    All(&'a [Checkpoint]),
    Some(Budget),
}

impl Memory {
    fn states(&self) -> States<'_> {
        match self {
            Self::All(checkpoints) => States::All(&checkpoints.0),
            Self::Some(budget) => States::Some(budget.clone()),
        }
    }

    /// The span of all steps; `None` without any.
    fn span(&self) -> Option<TimeSpan> {
        let ends = match self {
            Self::All(Checkpoints(steps)) => {
                steps.first().map(|s| s.t0).zip(steps.last().map(|s| s.t1))
            }
            Self::Some(budget) => budget.ends(),
        };
        ends.map(|(t0, t1)| TimeSpan { t0, t1 })
    }

    /// Number of accepted steps.
    fn len(&self) -> usize {
        match self {
            Self::All(checkpoints) => checkpoints.0.len(),
            Self::Some(budget) => budget.steps(),
        }
    }
}

impl States<'_> {
    /// The state after a step, if it is kept as the start of the next.
    fn after(&self, index: usize) -> Option<Tensor> {
        match self {
            Self::All(checkpoints) => checkpoints.get(index + 1).map(|next| next.y0.clone()),
            Self::Some(_) => None,
        }
    }

    fn get(&mut self, index: usize, method: &Method, field: &Evaluator<'_>) -> Result<Checkpoint> {
        match self {
            Self::All(checkpoints) => Ok(checkpoints[index].clone()),
            Self::Some(budget) => budget.restore(index, method, field),
        }
    }
}

impl Backward for Aca {
    fn pullback(
        &self,
        placements: &[Placement],
        cotangents: &Tensor,
        want_times: bool,
    ) -> Result<Gradients> {
        Ok(self.sweep(placements, cotangents, want_times, &[])?.0)
    }

    fn adjoint_state(
        &self,
        placements: &[Placement],
        cotangents: &Tensor,
        ts: &[f64],
    ) -> Result<AdjointState> {
        let span = self.memory.span().ok_or(Error::NoSteps)?;
        if ts.is_empty() {
            return Err(Error::NoTimes);
        }
        for (index, &t) in ts.iter().enumerate() {
            if !t.is_finite() {
                return Err(Error::TimeNotFinite { index, t });
            }
            span.check_inside(t)?;
        }
        self.sweep(placements, cotangents, false, ts)?.1.finish(&self.y0)
    }
}

impl Aca {
    /// Runs one backward pass that also collects the adjoint states at the times `watched`.
    fn sweep<'a>(
        &self,
        placements: &[Placement],
        cotangents: &Tensor,
        want_times: bool,
        watched: &'a [f64],
    ) -> Result<(Gradients, Watch<'a>)> {
        let field = Evaluator::new(self.field.as_ref(), &self.y0)?;
        let statistics = field.snapshot()?;
        let slices = OnSlices::of(self.field.as_ref(), &self.y0)
            .map(|field| slice_replay::replay(field, self.y0.elem_count(), &self.method));
        let gradients = Sweep {
            tape: self,
            field: &field,
            states: self.memory.states(),
            rows: Rows::new(placements, cotangents),
            theta: Accumulator::new(&self.params),
            slices,
            a: None,
            times: want_times.then(|| TimeGradients::zeros(placements.len())),
            watch: Watch::new(watched),
            audit: Audit::new(1, field.epsilon()),
            later: None,
        }
        .run();
        field.restore(&statistics)?;
        gradients
    }
}

/// One backward pass.
struct Sweep<'a, 'w> {
    tape: &'a Aca,
    field: &'a Evaluator<'a>,
    states: States<'a>,
    rows: Rows<'a>,
    theta: Accumulator<'a>,
    /// For fields that offer slices.
    slices: Option<Box<dyn SliceReplay + 'a>>,
    /// Cotangent of the state between the step that is done and the next; `None` while it is zero.
    a: Option<Tensor>,
    times: Option<TimeGradients>,
    watch: Watch<'w>,
    audit: Audit,
    /// The step that was replayed last, which comes after the next one to replay.
    later: Option<Later>,
}

/// What the step after another tells of that one's end.
struct Later {
    index: usize,
    /// State where it starts.
    y0: Tensor,
    /// Slope there, unless the field jumps between the steps.
    slope: Option<Tensor>,
}

impl<'w> Sweep<'_, 'w> {
    fn run(mut self) -> Result<(Gradients, Watch<'w>)> {
        for index in (0..self.tape.memory.len()).rev() {
            self.step(index)?;
        }
        if self.tape.memory.len() == 0 {
            self.a = self.rows.sum()?;
        }
        if let Some(slices) = &mut self.slices {
            slices.finish(&mut self.theta)?;
        }
        let y0 = self.a.map_or_else(|| self.tape.y0.zeros_like(), Ok)?;
        let steps = (self.tape.memory.len(), self.tape.stability_limited);
        let mut report = self.audit.finish(steps, (self.tape.adaptive, self.tape.untrusted))?;
        report.unreached = self.theta.unreached();
        let found = Gradients::new(y0, self.theta.finish()?, self.field.nfe());
        Ok((Gradients { times: self.times, report: Some(report), ..found }, self.watch))
    }

    /// Pulls back through one step; those after the last output are left out.
    fn step(&mut self, index: usize) -> Result<()> {
        let rows = self.rows.take(index);
        if self.a.is_none() && rows.end.is_none() && rows.inside.is_empty() {
            self.a = self.rows.add(None, rows.start)?;
            return self.visit_start(index);
        }
        let step = self.states.get(index, &self.tape.method, self.field)?;
        let a = self.rows.add(self.a.take(), rows.end)?;
        let a = a.map_or_else(|| step.y0.zeros_like(), Ok)?;
        let outputs = self.rows.outputs(rows.inside.clone())?;
        let Checkpoint { t0, t1, ref y0 } = step;
        let replay = Replay { method: &self.tape.method, field: self.field, t0, t1, y0 };
        let (first, last) = (index == 0, index + 1 == self.tape.memory.len());
        self.move_end_output(&replay, rows.end.filter(|_| !last))?;
        let want_times = self.times.is_some() && (first || last || outputs.is_some());
        self.watch.visit(&replay, &a, outputs.as_ref(), &self.tape.params)?;
        self.weigh_end(rows.end, index)?;
        let (start, moved) = self.pull(index, &replay, (&a, outputs.as_ref()), want_times)?;
        if let (Some(times), Some(StepTimes { h, t0, outputs })) = (&mut self.times, moved) {
            times.t1 = if last { h } else { times.t1 };
            times.t0 = if first { t0 - h } else { times.t0 };
            times.ts[rows.inside].copy_from_slice(&outputs);
        }
        self.a = Some(self.rows.add_to(start, rows.start)?);
        self.visit_start(index)
    }

    /// Maps the cotangents of a step's end and outputs to that of its start, and looks at what the step tells.
    fn pull(
        &mut self,
        index: usize,
        step: &Replay<'_>,
        (a, outputs): (&Tensor, Option<&Outputs>),
        want_times: bool,
    ) -> Result<(Tensor, Option<StepTimes>)> {
        let later = self.later.take().filter(|later| later.index == index + 1);
        let last = index + 1 == self.tape.memory.len();
        let end = Some(&self.tape.end).filter(|_| last);
        let after = self.states.after(index);
        let y1 = later.as_ref().map(|later| &later.y0).or(after.as_ref());
        let y1 = y1.or(end.map(|end| &end.0));
        let slope = later.as_ref().and_then(|later| later.slope.as_ref());
        let slope = slope.or(end.and_then(|end| end.1.as_ref()));
        let known = Known { y1, slope, window: index };
        let (start, times, found, k1) = match self.slices.as_mut().filter(|_| !want_times) {
            Some(slices) => {
                let (start, found) = slices.pull(step, a, outputs, &known)?;
                (start, None, found, None)
            }
            None => {
                let Pulled { start, k, times } =
                    step.pull(a, outputs, &mut self.theta, want_times)?;
                let k1 = k.first().cloned();
                let found = step.find(Replayed { k, a, start: &start }, outputs, &known)?;
                (start, times, found, k1)
            }
        };
        self.audit.add(0, (index, step.t0, step.t1), &found)?;
        let slope = k1.filter(|_| !step.method.is_jump(step.t0));
        self.later = Some(Later { index, y0: step.y0.clone(), slope });
        Ok((start, times))
    }

    /// Counts what an output at the end of a step weighs in the loss.
    fn weigh_end(&mut self, end: Option<usize>, index: usize) -> Result<()> {
        let Some(m) = end else { return Ok(()) };
        let later = self.later.as_ref().filter(|later| later.index == index + 1);
        let y1 = later.map_or(&self.tape.end.0, |later| &later.y0);
        self.audit.add_output(0, norm(&self.rows.row(m)?)?, norm(y1)?);
        Ok(())
    }

    /// Lets the watch look at the start of the span once the first step is done.
    fn visit_start(&mut self, index: usize) -> Result<()> {
        let Some(a) = self.a.as_ref().filter(|_| index == 0) else { return Ok(()) };
        let Checkpoint { t0, t1, ref y0 } = self.states.get(0, &self.tape.method, self.field)?;
        let replay = Replay { method: &self.tape.method, field: self.field, t0, t1, y0 };
        self.watch.visit_start(&replay, a)
    }

    /// Moves the time of an output at the end of a step: the solution has the later step's slope
    /// there. The end of the span is left out, since it moves with the span.
    fn move_end_output(&mut self, step: &Replay<'_>, end: Option<usize>) -> Result<()> {
        if let (Some(times), Some(m)) = (&mut self.times, end) {
            let y1 = step.method.step(step.field, (step.t0, step.t1), step.y0, None)?.1;
            times.ts[m] = kernels::dot(&self.rows.row(m)?, &self.field.eval(step.t1, &y1)?)?;
        }
        Ok(())
    }
}

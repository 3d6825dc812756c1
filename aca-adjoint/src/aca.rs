//! The Adaptive Checkpoint Adjoint.

use std::ops::Range;
use std::sync::Arc;

use aca_core::{Evaluator, Method, Result, VectorField, kernels};
use aca_dense::Placement;
use candle_core::Tensor;

use crate::backward::Backward;
use crate::params::Accumulator;
use crate::replay::{Outputs, Replay, StepTimes};
use crate::tape::Checkpoint;
use crate::{Gradients, Params, TimeGradients};

/// Replays the accepted steps one at a time, newest first: exact for the discrete solution with its
/// steps held fixed.
///
/// # Cost
/// Memory: a state for every accepted step, and the graphs of one step.
///
/// # Source
/// Zhuang et al., "Adaptive Checkpoint Adjoint Method for Gradient Estimation in Neural ODE",
/// ICML 2020, algorithm 2; the outputs' part of the formula is ours.
pub(crate) struct Aca {
    pub(crate) field: Arc<dyn VectorField>,
    pub(crate) params: Params,
    pub(crate) method: Method,
    pub(crate) y0: Tensor,
    pub(crate) checkpoints: Vec<Checkpoint>,
}

impl Backward for Aca {
    fn pullback(
        &self,
        placements: &[Placement],
        cotangents: &Tensor,
        want_times: bool,
    ) -> Result<Gradients> {
        let field = Evaluator::new(self.field.as_ref(), &self.y0)?;
        let statistics = field.snapshot()?;
        let sweep = Sweep::new(self, &field, placements, cotangents, want_times).run();
        field.restore(&statistics)?;
        sweep
    }
}

/// One backward pass over the tape.
struct Sweep<'a> {
    tape: &'a Aca,
    field: &'a Evaluator<'a>,
    placements: &'a [Placement],
    cotangents: &'a Tensor,
    theta: Accumulator<'a>,
    /// Cotangent of the state at the end of the step that is next; `None` as long as it is zero.
    a: Option<Tensor>,
    times: Option<TimeGradients>,
}

impl<'a> Sweep<'a> {
    fn new(
        tape: &'a Aca,
        field: &'a Evaluator<'a>,
        placements: &'a [Placement],
        cotangents: &'a Tensor,
        want_times: bool,
    ) -> Self {
        let times =
            want_times.then(|| TimeGradients { t0: 0.0, t1: 0.0, ts: vec![0.0; placements.len()] });
        Self {
            tape,
            field,
            placements,
            cotangents,
            theta: Accumulator::new(&tape.params),
            a: None,
            times,
        }
    }

    fn run(mut self) -> Result<Gradients> {
        let mut rest = self.placements.len();
        for index in (0..self.tape.checkpoints.len()).rev() {
            let first = self.placements[..rest].partition_point(|placement| placement.step < index);
            self.step(index, first..rest)?;
            rest = first;
        }
        if self.tape.checkpoints.is_empty() {
            (0..rest).try_for_each(|m| self.arrive(m))?;
        }
        let y0 = self.a.map_or_else(|| self.tape.y0.zeros_like(), Ok)?;
        let theta = self.theta.finish()?;
        Ok(Gradients { y0, theta, times: self.times, nfe: self.field.nfe() })
    }

    /// Pulls back through one step, whose outputs are the rows `rows`: none, one or both of its ends
    /// may be among them.
    fn step(&mut self, index: usize, mut rows: Range<usize>) -> Result<()> {
        let fraction = |m: usize| self.placements[m].s;
        let at_end = (!rows.is_empty() && fraction(rows.end - 1) == 1.0).then(|| rows.end - 1);
        rows.end = at_end.unwrap_or(rows.end);
        let at_start = (!rows.is_empty() && fraction(rows.start) == 0.0).then_some(rows.start);
        rows.start += usize::from(at_start.is_some());
        if let Some(m) = at_end {
            self.move_end_output(index, m)?;
            self.arrive(m)?;
        }
        if self.a.is_some() || !rows.is_empty() {
            self.pull(index, rows)?;
        }
        at_start.map_or(Ok(()), |m| self.arrive(m))
    }

    fn pull(&mut self, index: usize, rows: Range<usize>) -> Result<()> {
        let steps = &self.tape.checkpoints;
        let Checkpoint { t0, t1, ref y0 } = steps[index];
        let replay = Replay { method: &self.tape.method, field: self.field, t0, t1, y0 };
        let a = self.a.take().map_or_else(|| y0.zeros_like(), Ok)?;
        let (first, last) = (index == 0, index + 1 == steps.len());
        let want_times = self.times.is_some() && (first || last || !rows.is_empty());
        let outputs = self.outputs(rows.clone())?;
        let (start, moved) = replay.pull(&a, outputs.as_ref(), &mut self.theta, want_times)?;
        self.a = Some(start);
        if let (Some(times), Some(StepTimes { h, t0, outputs })) = (&mut self.times, moved) {
            if last {
                times.t1 = h;
            }
            if first {
                times.t0 = t0 - h;
            }
            times.ts[rows].copy_from_slice(&outputs);
        }
        Ok(())
    }

    fn outputs(&self, rows: Range<usize>) -> Result<Option<Outputs>> {
        if rows.is_empty() {
            return Ok(None);
        }
        let s = self.placements[rows.clone()].iter().map(|placement| placement.s).collect();
        Ok(Some(Outputs { s, cotangents: self.cotangents.narrow(0, rows.start, rows.len())? }))
    }

    /// Moves the time of output `m` at the end of a step: the solution has the next step's slope
    /// there. The end of the span is left out, since it moves with the span.
    fn move_end_output(&mut self, index: usize, m: usize) -> Result<()> {
        let next = self.tape.checkpoints.get(index + 1);
        if let (Some(times), Some(next)) = (&mut self.times, next) {
            let t = self.tape.method.stage_time(next.t0, next.t1, 0);
            let slope = self.field.eval(t, &next.y0)?;
            times.ts[m] = kernels::dot(&self.cotangents.get(m)?, &slope)?;
        }
        Ok(())
    }

    /// Adds the cotangent of output `m`, which is a state between two steps.
    fn arrive(&mut self, m: usize) -> Result<()> {
        let g = self.cotangents.get(m)?;
        self.a = Some(match self.a.take() {
            Some(a) => kernels::combine(Some(&a), &[(1.0, &g)])?,
            None => g,
        });
        Ok(())
    }
}

//! Candle's own graph through every accepted step.

use std::sync::Arc;

use aca_core::kernels::{self, Terms};
use aca_core::{
    Evaluator, Graph, Result, Step, StepSink, Stepper, Steps, TensorStages, VectorField,
    large_stack,
};
use candle_core::{Tensor, Var};

use crate::Backward;
use crate::outputs::{RowOutput, StepOutputs};
use crate::params::Accumulator;
use crate::{Gradients, Outputs, Params};

/// Accepted steps as part of candle's graph: one of the whole state, or one of every sample that has one left.
pub(crate) struct TracedTurn {
    pub(crate) steps: Steps,
    pub(crate) samples: Arc<[usize]>,
    /// The step that each row takes, if it does not rest.
    pub(crate) wanted: Vec<Option<usize>>,
    pub(crate) y0: Tensor,
    pub(crate) y1: Tensor,
    pub(crate) k: Vec<Tensor>,
}

/// All traced steps of a solve, oldest first.
#[derive(Default)]
pub(crate) struct TracedTurns(pub(crate) Vec<TracedTurn>);

impl Drop for TracedTurns {
    /// Drops the newest first: its graph hangs on older states that the list still holds, so no
    /// drop recurses through more than one step.
    fn drop(&mut self) {
        while self.0.pop().is_some() {}
    }
}

/// The sink that keeps every accepted step of a whole state with its graph.
pub(crate) struct TracedSteps {
    pub(crate) turns: TracedTurns,
    nodes_per_step: usize,
}

impl TracedSteps {
    /// Prepares for steps of so many nodes each.
    pub(crate) fn new(nodes_per_step: usize) -> Self {
        Self { turns: TracedTurns::default(), nodes_per_step }
    }
}

impl StepSink for TracedSteps {
    fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
        large_stack::check_walk(step.index + 1, self.nodes_per_step)?;
        self.turns.0.push(TracedTurn {
            steps: Steps::whole(step.t0, step.t1),
            samples: [0].into(),
            wanted: vec![Some(step.index)],
            y0: step.y0.clone(),
            y1: step.y1.clone(),
            k: step.stages()?,
        });
        Ok(())
    }

    fn drops_newest_first(&self) -> bool {
        true
    }
}

/// The sink that asks before every step whether the graph may grow.
pub(crate) struct Guard<F>(pub(crate) F);

impl<F: FnMut() -> Result<()>> StepSink for Guard<F> {
    fn accept(&mut self, _step: &mut Step<'_>) -> Result<()> {
        (self.0)()
    }
}

/// A traced solve; its backward is candle's.
///
/// # Cost
/// Memory: all graphs of all steps. No evaluation of the field in backward, but for outputs inside steps whose
/// interpolant needs slopes beyond the step's own.
pub(crate) struct Naive {
    pub(crate) field: Arc<dyn VectorField>,
    pub(crate) params: Params,
    pub(crate) method: Stepper,
    pub(crate) y0: Var,
    pub(crate) turns: TracedTurns,
    /// Number of steps of each sample.
    pub(crate) steps: Vec<usize>,
    /// Which samples have no gradient, because they failed.
    pub(crate) failed: Vec<bool>,
    pub(crate) nodes_per_step: usize,
}

impl Naive {
    /// All outputs, as part of the graph; zero for those that no gradient flows through.
    fn outputs(&self, outputs: &Outputs, field: &Evaluator<'_>) -> Result<Tensor> {
        let whole = self.turns.0.first().is_none_or(|turn| turn.steps.is_whole());
        let row = |x: &Tensor, row: usize| if whole { Ok(x.clone()) } else { x.get(row) };
        let mut found = vec![None; outputs.len()];
        let still = (0..self.steps.len()).filter(|&i| self.steps[i] == 0 && !self.failed[i]);
        for sample in still {
            for index in outputs.of_sample(sample) {
                found[index] = Some(row(&self.y0, sample)?);
            }
        }
        for turn in &self.turns.0 {
            let mut own = StepOutputs::default();
            for (row, (&sample, step)) in turn.samples.iter().zip(&turn.wanted).enumerate() {
                if let Some(step) = *step {
                    outputs.add_step(&mut own, row, sample, step);
                }
            }
            for (ends, y) in [(&own.starts, &turn.y0), (&own.ends, &turn.y1)] {
                for output in ends {
                    found[output.index] = Some(row(y, output.row)?);
                }
            }
            if !own.inside.is_empty() {
                let k = self.slopes(turn, &own.inside, field)?;
                for output in &own.inside {
                    let k = k.iter().map(|k| row(k, output.row));
                    let k = k.collect::<candle_core::Result<Vec<_>>>()?;
                    let h = turn.steps.h()[output.row];
                    let weights = self.method.interpolant().weights(output.s).into_iter();
                    let terms: Terms<'_> = weights.map(|w| h * w).zip(&k).collect();
                    let y0 = row(&turn.y0, output.row)?;
                    found[output.index] = Some(kernels::combine(Some(&y0), &terms)?);
                }
            }
        }
        let zero = row(&self.y0.as_tensor().detach(), 0)?.zeros_like()?;
        let all: Vec<&Tensor> = found.iter().map(|y| y.as_ref().unwrap_or(&zero)).collect();
        Ok(Tensor::stack(&all, 0)?)
    }

    /// The slopes that the interpolant of a turn needs where outputs lie inside its steps.
    fn slopes(
        &self,
        turn: &TracedTurn,
        inside: &[RowOutput],
        field: &Evaluator<'_>,
    ) -> Result<Vec<Tensor>> {
        let needed = self.method.interpolant().stages();
        if turn.k.len() >= needed {
            return Ok(turn.k[..needed].to_vec());
        }
        let looked_into =
            turn.steps.resting_unless(|row| inside.iter().any(|output| output.row == row));
        let start = (&looked_into, &turn.y0);
        let mut stages = TensorStages::new(&self.method, field, start, turn.k.clone());
        stages.fill(needed)?;
        Ok(stages.k)
    }
}

impl Backward for Naive {
    fn pullback(
        &self,
        outputs: &Outputs,
        cotangents: &Tensor,
        _want_times: bool,
    ) -> Result<Gradients> {
        if outputs.is_empty() {
            let theta = Accumulator::new(&self.params).finish()?;
            return Ok(Gradients::new(self.y0.zeros_like()?, theta, 0));
        }
        let plain = Evaluator::new(self.field.as_ref(), &self.y0)?;
        let statistics = plain.snapshot()?;
        let field = Evaluator::new(self.field.as_ref(), &self.y0)?.tracing(true);
        let traced = self.outputs(outputs, &field);
        plain.restore(&statistics)?;
        let nodes = (self.turns.0.len() + 1) * self.nodes_per_step + 64 * outputs.len();
        let found = differentiate(&traced?, cotangents, &self.y0, &self.params, nodes)?;
        Ok(Gradients { nfe: field.nfe(), ..found })
    }
}

/// Pulls cotangents of traced outputs back through a graph of about `nodes` nodes.
pub(crate) fn differentiate(
    outputs: &Tensor,
    cotangents: &Tensor,
    y0: &Var,
    params: &Params,
    nodes: usize,
) -> Result<Gradients> {
    // The gradients may hang on graphs of their own, so their store must end on the deep stack too.
    let (y0, theta) = large_stack::walk(outputs.device(), nodes, || {
        let mut grads = outputs.mul(cotangents)?.sum_all()?.backward()?;
        let graph = Graph::new(outputs.clone(), y0);
        let y0 = grads.remove(y0).map_or_else(|| y0.zeros_like(), |g| Ok(g.detach()))?;
        let mut theta = Accumulator::new(params);
        theta.add(&grads, Some(&graph))?;
        Ok((y0, theta.finish()?))
    })?;
    Ok(Gradients::new(y0, theta, 0))
}

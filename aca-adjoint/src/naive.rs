//! Candle's own graph through every accepted step.

use aca_core::{Graph, Result, Step, StepSink, Stepper, large_stack};
use aca_dense::{Placement, interpolate};
use candle_core::{Tensor, Var};

use crate::Backward;
use crate::params::Accumulator;
use crate::{Gradients, Params};

/// An accepted step as part of candle's graph.
struct TracedStep {
    t0: f64,
    t1: f64,
    y0: Tensor,
    y1: Tensor,
    k: Vec<Tensor>,
}

/// The sink that keeps every accepted step with its graph.
pub(crate) struct TracedSteps {
    steps: Vec<TracedStep>,
    nodes_per_step: usize,
}

impl TracedSteps {
    /// Prepares for steps of so many nodes each.
    pub(crate) fn new(nodes_per_step: usize) -> Self {
        Self { steps: Vec::new(), nodes_per_step }
    }
}

impl StepSink for TracedSteps {
    fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
        large_stack::check_walk(self.steps.len() + 1, self.nodes_per_step)?;
        let (y0, y1, k) = (step.y0.clone(), step.y1.clone(), step.stages()?);
        self.steps.push(TracedStep { t0: step.t0, t1: step.t1, y0, y1, k });
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

impl Drop for TracedSteps {
    /// Drops the newest step first: its graph hangs on older states that the list still holds, so no
    /// drop recurses through more than one step.
    fn drop(&mut self) {
        while self.steps.pop().is_some() {}
    }
}

/// A traced solve; its backward is candle's.
///
/// # Cost
/// Memory: all graphs of all steps. No evaluation of the field in backward.
pub(crate) struct Naive {
    pub(crate) params: Params,
    pub(crate) method: Stepper,
    pub(crate) y0: Var,
    pub(crate) steps: TracedSteps,
}

impl Naive {
    fn output(&self, placement: &Placement) -> Result<Tensor> {
        let Some(step) = self.steps.steps.get(placement.step) else {
            return Ok(self.y0.as_tensor().clone());
        };
        match placement.s {
            0.0 => Ok(step.y0.clone()),
            1.0 => Ok(step.y1.clone()),
            s => {
                let h = step.t1 - step.t0;
                Ok(interpolate(&self.method, &step.y0, h, &step.k, &[s])?.squeeze(0)?)
            }
        }
    }
}

impl Backward for Naive {
    fn pullback(
        &self,
        placements: &[Placement],
        cotangents: &Tensor,
        _want_times: bool,
    ) -> Result<Gradients> {
        let rows = placements.iter().map(|placement| self.output(placement));
        let outputs = Tensor::stack(&rows.collect::<Result<Vec<_>>>()?, 0)?;
        let nodes = (self.steps.steps.len() + 1) * self.steps.nodes_per_step;
        differentiate(&outputs, cotangents, &self.y0, &self.params, nodes)
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

//! One solve that is about to run.

use std::cell::RefCell;
use std::sync::Arc;

use aca_core::{
    Evaluator, Result, Solver, Spans, StableSteps, Step, StepSink, Stepper, Time, VectorField,
    large_stack,
};
use aca_dense::{SaveAt, Solution};
use candle_core::{Tensor, Var};

use crate::naive::Guard;
use crate::{Params, Untrusted};

/// One solve that is about to run, as a [`Strategy`](crate::Strategy) gets it.
#[derive(Clone, Copy)]
pub struct Solve<'a> {
    pub(crate) solver: &'a Solver,
    pub(crate) field: &'a Arc<dyn VectorField>,
    pub(crate) params: &'a Params,
    pub(crate) y0: &'a Tensor,
    pub(crate) spans: &'a Spans,
    pub(crate) save_at: &'a SaveAt,
    pub(crate) untrusted: Untrusted,
    pub(crate) watch: Option<&'a Watch<'a>>,
}

/// A sink that sees every solve first: what finds events.
pub(crate) type Watch<'a> = RefCell<dyn StepSink + 'a>;

/// Steps on their way to a watch.
struct Watching<'a>(&'a Watch<'a>);

impl StepSink for Watching<'_> {
    fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
        self.0.borrow_mut().accept(step)
    }

    fn looks_inside(&self, sample: usize, t1: f64) -> bool {
        self.0.borrow().looks_inside(sample, t1)
    }
}

impl<'a> Solve<'a> {
    /// How it is solved.
    pub fn solver(&self) -> &'a Solver {
        self.solver
    }

    /// The field.
    pub fn field(&self) -> &'a Arc<dyn VectorField> {
        self.field
    }

    /// The parameters whose gradient is wanted.
    pub fn params(&self) -> &'a Params {
        self.params
    }

    /// The initial state.
    pub fn y0(&self) -> &'a Tensor {
        self.y0
    }

    /// Solves, keeping the outputs that were asked for, with accepted steps pushed into `sink`; the result is outside
    /// candle's graph, and steps stay inside the stability interval where the solver says so for gradients.
    ///
    /// # Errors
    /// Those of [`Solver::solve`] and of the requested times.
    pub fn run(&self, sink: &mut dyn StepSink) -> Result<Solution> {
        self.record(&self.held(false), self.y0, sink)
    }
}

impl Solve<'_> {
    /// Solves as part of candle's own graph, so that gradients can be differentiated again.
    pub(crate) fn in_graph(&self) -> Result<Solution> {
        let nodes = self.nodes_per_step()?;
        let mut steps = 0;
        let mut guard = Guard(|| {
            steps += 1;
            large_stack::check_graph(steps, nodes, 0)
        });
        let solver = self.held(true);
        self.record(&solver, self.y0, &mut guard)
    }

    /// The solver without a trace: what is replayed or solved anew needs no graph.
    pub(crate) fn plain(&self) -> Solver {
        Solver { trace: false, ..self.solver.clone() }
    }

    /// The solver whose steps a gradient holds fixed, so that nothing but the stability limit bounds their growth.
    pub(crate) fn held(&self, trace: bool) -> Solver {
        let stable_steps = match self.solver.stable_steps {
            StableSteps::ForGradients => StableSteps::Always,
            chosen => chosen,
        };
        Solver { trace, stable_steps, ..self.solver.clone() }
    }

    pub(crate) fn record(
        &self,
        solver: &Solver,
        y0: &Tensor,
        sink: &mut dyn StepSink,
    ) -> Result<Solution> {
        let (field, spans) = (self.field.as_ref(), self.spans.clone());
        match self.watch {
            None => Solution::record(solver, field, y0, spans, self.save_at, sink),
            Some(watch) => {
                let sinks = (Watching(watch), sink);
                Solution::record(solver, field, y0, spans, self.save_at, sinks)
            }
        }
    }

    /// Nodes that one step adds to candle's graph, at most: every stage its field and a weighted sum
    /// of all stages before it.
    pub(crate) fn nodes_per_step(&self) -> Result<usize> {
        let y = Var::from_tensor(&self.y0.detach())?;
        let field = Evaluator::new(self.field.as_ref(), &y)?;
        let statistics = field.snapshot()?;
        let traced = self.field.trace(&Time::new(self.spans.t0()), &y);
        field.restore(&statistics)?;
        let stages = Stepper::new(self.solver, self.y0.dtype())?.interpolant().stages();
        Ok(stages * (traced?.sorted_nodes().len() + 2 * stages))
    }
}

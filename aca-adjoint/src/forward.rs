//! Solve solves: each strategy keeps what its backward pass needs.

use std::sync::Arc;

use aca_core::{
    Batching, Error, Evaluator, Method, Result, Solver, StableSteps, StepSink, Stepper, Stepping,
    Time, TimeSpan, VectorField, large_stack,
};
use aca_dense::{SaveAt, Solution};
use candle_core::{Tensor, Var};

use crate::aca::{Aca, Samples};
use crate::backsolve::Reverse;
use crate::checkpoints::{Checkpoints, EndSlope, Grid};
use crate::mali::{LeapfrogTape, Mali};
use crate::naive::{Guard, Naive, TracedSteps};
use crate::report::Untrusted;
use crate::strategy::Recorded;
use crate::{Backsolve, Backward, Gradient, Params, through_step_size};

/// One solve of a whole state that is about to run, as a [`Strategy`](crate::Strategy) gets it.
#[derive(Clone, Copy)]
pub struct Solve<'a> {
    pub(crate) solver: &'a Solver,
    pub(crate) field: &'a Arc<dyn VectorField>,
    pub(crate) params: &'a Params,
    pub(crate) y0: &'a Tensor,
    pub(crate) span: TimeSpan,
    pub(crate) save_at: &'a SaveAt,
    pub(crate) untrusted: Untrusted,
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
    /// Solves with what `gradient` needs to keep.
    pub(crate) fn solve(&self, gradient: &Gradient) -> Result<Recorded> {
        let leapfrog = matches!(self.solver.method, Method::Leapfrog);
        if leapfrog && !matches!(gradient, Gradient::Mali | Gradient::Naive) {
            return Err(Error::LeapfrogGradient);
        }
        match gradient {
            Gradient::Aca | Gradient::AcaBudget { .. } => {
                let mut kept = (self.checkpoints(gradient)?, EndSlope::default());
                let sol = self.record(&self.held(false), self.y0, &mut kept)?;
                let (end, limited) = ((sol.y1.clone(), kept.1.0), sol.stats.stability_limited);
                Ok((sol, self.aca(end, kept.0, None, limited)?))
            }
            Gradient::Naive => self.naive(),
            Gradient::NaiveThroughStepSize => {
                let (sol, traced) = through_step_size::solve(self, self.nodes_per_step()?)?;
                Ok((sol, Arc::new(traced)))
            }
            Gradient::Backsolve(settings) => self.backsolve(settings),
            Gradient::Custom(strategy) => strategy.record(self),
            Gradient::Mali if leapfrog => self.mali(),
            Gradient::Mali => {
                let mut kept = self.checkpoints(gradient)?;
                let sol = self.record(&self.plain(), self.y0, &mut kept)?;
                let end = (sol.y1.clone(), None);
                Ok((sol, self.aca(end, kept, None, 0)?))
            }
        }
    }

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
    fn plain(&self) -> Solver {
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

    fn record(&self, solver: &Solver, y0: &Tensor, sink: &mut dyn StepSink) -> Result<Solution> {
        let span = (self.span.t0, self.span.t1);
        Solution::record(solver, self.field.as_ref(), y0, span, self.save_at, sink)
    }

    /// The backward half of a solve that ended in these states, with so many steps at the stability limit.
    pub(crate) fn aca(
        &self,
        end: (Tensor, Option<Tensor>),
        checkpoints: Checkpoints,
        samples: Option<Samples>,
        stability_limited: usize,
    ) -> Result<Arc<dyn Backward>> {
        Ok(Arc::new(Aca {
            field: self.field.clone(),
            params: self.params.clone(),
            method: Stepper::new(self.solver, self.y0.dtype())?,
            y0: self.y0.detach(),
            end,
            checkpoints,
            samples,
            stability_limited,
            adaptive: matches!(self.solver.stepping, Stepping::Adaptive(_)),
            untrusted: self.untrusted,
        }))
    }

    fn naive(&self) -> Result<Recorded> {
        let solver = self.held(true);
        let (params, y0) = (self.params.clone(), Var::from_tensor(&self.y0.detach())?);
        let mut steps = TracedSteps::new(self.nodes_per_step()?);
        let sol = self.record(&solver, &y0, &mut steps)?.detach();
        Ok((
            sol,
            Arc::new(Naive { params, method: Stepper::new(&solver, self.y0.dtype())?, y0, steps }),
        ))
    }

    fn backsolve(&self, settings: &Backsolve) -> Result<Recorded> {
        let way_back = settings.solver.as_deref().unwrap_or(self.solver);
        if let Method::Symplectic(_) = way_back.method {
            // What is solved backward joins the state, its cotangent and those of parameters: no positions and momenta.
            let what = "a splitting on the way back (give Backsolve::solver a tableau)";
            return Err(Error::Unsupported { strategy: "Backsolve", what });
        }
        if let Some(solver) = &settings.solver {
            // Now, not after an epoch's forward passes.
            solver.validate()?;
            if solver.batching == Batching::PerSample {
                let what = "steps of the samples' own on the way back";
                return Err(Error::Unsupported { strategy: "Backsolve", what });
            }
        }
        let mut grid = Grid::default();
        let sol = self.record(&self.plain(), self.y0, &mut grid)?;
        let reverse = Reverse {
            field: self.field.clone(),
            params: self.params.clone(),
            solver: Solver { trace: false, progress: None, ..way_back.clone() },
            seminorm: settings.seminorm,
            y0: self.y0.detach(),
            y1: sol.y1.clone(),
            known: settings.restart.then(|| sol.clone()),
            grid: grid.0,
        };
        Ok((sol, Arc::new(reverse)))
    }

    fn mali(&self) -> Result<Recorded> {
        let solver = self.plain();
        let mut trail = LeapfrogTape::default();
        let sol = self.record(&solver, self.y0, &mut trail)?;
        let (field, params) = (self.field.clone(), self.params.clone());
        let (method, y0) = (Stepper::new(&solver, self.y0.dtype())?, self.y0.detach());
        Ok((sol, Arc::new(Mali { field, params, method, y0, trail })))
    }

    /// Where checkpoints go of a strategy that replays steps.
    ///
    /// # Errors
    /// [`Error::NotReversible`] where there is no way back without them.
    pub(crate) fn checkpoints(&self, gradient: &Gradient) -> Result<Checkpoints> {
        match gradient {
            &Gradient::AcaBudget { checkpoints } => Checkpoints::within(checkpoints),
            Gradient::Mali if self.solver.method.is_reversible() => Ok(Checkpoints::of_times()),
            Gradient::Mali => {
                Err(Error::NotReversible { method: self.solver.method.name().to_owned() })
            }
            _ => Ok(Checkpoints::default()),
        }
    }

    /// Nodes that one step adds to candle's graph, at most: every stage its field and a weighted sum
    /// of all stages before it.
    pub(crate) fn nodes_per_step(&self) -> Result<usize> {
        let y = Var::from_tensor(&self.y0.detach())?;
        let field = Evaluator::new(self.field.as_ref(), &y)?;
        let statistics = field.snapshot()?;
        let traced = self.field.trace(&Time::new(self.span.t0), &y);
        field.restore(&statistics)?;
        let stages = Stepper::new(self.solver, self.y0.dtype())?.interpolant().stages();
        Ok(stages * (traced?.sorted_nodes().len() + 2 * stages))
    }
}

//! Solve solves: each strategy keeps what its backward pass needs.

use std::sync::Arc;

use aca_core::{
    Batching, Error, Evaluator, Method, Result, Solver, Spans, StableSteps, StepSink, Stepper,
    Stepping, Time, VectorField, large_stack,
};
use aca_dense::{SaveAt, Solution};
use candle_core::{Tensor, Var};

use crate::aca::Aca;
use crate::backsolve::Reverse;
use crate::checkpoints::{Checkpoints, EndSlope, Grid};
use crate::mali::{LeapfrogTape, Mali};
use crate::naive::{Guard, Naive, TracedSteps, TracedTurns};
use crate::report::Untrusted;
use crate::strategy::Recorded;
use crate::traced_replay::TracedReplay;
use crate::{Backsolve, Gradient, GradientError, Params, through_step_size};

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
    ///
    /// # Errors
    /// [`GradientError::LeapfrogGradient`], [`Error::PerSampleUnsupported`]; those of the solve and of the strategy.
    pub(crate) fn solve(&self, gradient: &Gradient) -> Result<Recorded> {
        let leapfrog = matches!(self.solver.method, Method::Leapfrog);
        let per_sample = self.solver.batching == Batching::PerSample;
        match gradient {
            Gradient::NaiveThroughStepSize | Gradient::Backsolve(_) | Gradient::Custom(_)
                if per_sample =>
            {
                let (what, remedy) = ("this gradient strategy", "use Aca, AcaBudget or Naive");
                Err(Error::PerSampleUnsupported { what, remedy })
            }
            _ if leapfrog && per_sample => {
                let (what, remedy) = ("the leapfrog", "use another method, or share the steps");
                Err(Error::PerSampleUnsupported { what, remedy })
            }
            Gradient::Mali if leapfrog => self.mali(),
            Gradient::Naive if per_sample => self.naive_samples(),
            Gradient::Naive => self.naive(),
            _ if leapfrog => Err(GradientError::LeapfrogGradient.into()),
            Gradient::Aca | Gradient::AcaBudget { .. } | Gradient::Mali => self.aca(gradient),
            Gradient::NaiveThroughStepSize => {
                let (sol, traced) = through_step_size::solve(self, self.nodes_per_step()?)?;
                Ok((sol, Arc::new(traced)))
            }
            Gradient::Backsolve(settings) => self.backsolve(settings),
            Gradient::Custom(strategy) => strategy.record(self),
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
        Solution::record(solver, self.field.as_ref(), y0, self.spans.clone(), self.save_at, sink)
    }

    /// Solves with checkpoints, from which steps are replayed.
    fn aca(&self, gradient: &Gradient) -> Result<Recorded> {
        let mut kept = (self.checkpoints(gradient)?, EndSlope::default());
        let sol = self.record(&self.held(false), self.y0, &mut kept)?;
        let (checkpoints, EndSlope(slope)) = kept;
        let undone = checkpoints.are_times();
        let backward = Aca {
            field: self.field.clone(),
            params: self.params.clone(),
            method: Stepper::new(self.solver, self.y0.dtype())?,
            y0: self.y0.detach(),
            end: (sol.y1.clone(), slope.filter(|_| !undone)),
            checkpoints,
            failed: match self.solver.batching {
                Batching::Shared => None,
                Batching::PerSample => Some(failed(&sol)),
            },
            stability_limited: sol.stats.stability_limited,
            adaptive: matches!(self.solver.stepping, Stepping::Adaptive(_)),
            untrusted: self.untrusted,
        };
        Ok((sol, Arc::new(backward)))
    }

    fn naive(&self) -> Result<Recorded> {
        let y0 = Var::from_tensor(&self.y0.detach())?;
        let mut traced = TracedSteps::new(self.nodes_per_step()?);
        let sol = self.record(&self.held(true), &y0, &mut traced)?.detach();
        let backward = self.traced(y0, traced.turns, &sol)?;
        Ok((sol, Arc::new(backward)))
    }

    fn naive_samples(&self) -> Result<Recorded> {
        let mut checkpoints = Checkpoints::default();
        let sol = self.record(&self.held(false), self.y0, &mut checkpoints)?;
        let y0 = Var::from_tensor(&self.y0.detach())?;
        let mut backward = self.traced(y0.clone(), TracedTurns::default(), &sol)?;
        let plain = Evaluator::new(self.field.as_ref(), &y0)?;
        let statistics = plain.snapshot()?;
        let replay = TracedReplay {
            method: &backward.method,
            field: Evaluator::new(self.field.as_ref(), &y0)?.tracing(true),
            checkpoints: &checkpoints,
            steps: &backward.steps,
            nodes_per_step: backward.nodes_per_step,
        };
        let turns = replay.trace(&y0);
        plain.restore(&statistics)?;
        backward.turns = turns?;
        Ok((sol, Arc::new(backward)))
    }

    fn traced(&self, y0: Var, turns: TracedTurns, sol: &Solution) -> Result<Naive> {
        let failed = failed(sol);
        let steps = sol.samples.iter().zip(&failed);
        Ok(Naive {
            field: self.field.clone(),
            params: self.params.clone(),
            method: Stepper::new(self.solver, self.y0.dtype())?,
            y0,
            turns,
            steps: steps
                .map(|(end, &failed)| if failed { 0 } else { end.stats.accepted })
                .collect(),
            failed,
            nodes_per_step: self.nodes_per_step()?,
        })
    }

    fn backsolve(&self, settings: &Backsolve) -> Result<Recorded> {
        let way_back = settings.solver.as_deref().unwrap_or(self.solver);
        if let Method::Symplectic(_) = way_back.method {
            // What is solved backward joins the state, its cotangent and those of parameters: no positions and momenta.
            let what = "a splitting on the way back (give Backsolve::solver a tableau)";
            return Err(GradientError::Unsupported { strategy: "Backsolve", what }.into());
        }
        if let Some(solver) = &settings.solver {
            // Now, not after an epoch's forward passes.
            solver.validate()?;
            if solver.batching == Batching::PerSample {
                let what = "steps of the samples' own on the way back";
                return Err(GradientError::Unsupported { strategy: "Backsolve", what }.into());
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
    /// [`GradientError::NotReversible`] where there is no way back without them.
    pub(crate) fn checkpoints(&self, gradient: &Gradient) -> Result<Checkpoints> {
        match gradient {
            &Gradient::AcaBudget { checkpoints } => Checkpoints::within(checkpoints),
            Gradient::Mali if self.solver.method.is_reversible() => Ok(Checkpoints::of_times()),
            Gradient::Mali => {
                Err(GradientError::NotReversible { method: self.solver.method.name().to_owned() }
                    .into())
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
        let traced = self.field.trace(&Time::new(self.spans.t0()), &y);
        field.restore(&statistics)?;
        let stages = Stepper::new(self.solver, self.y0.dtype())?.interpolant().stages();
        Ok(stages * (traced?.sorted_nodes().len() + 2 * stages))
    }
}

/// Which samples failed.
fn failed(sol: &Solution) -> Vec<bool> {
    sol.samples.iter().map(|end| !end.status.is_finished()).collect()
}

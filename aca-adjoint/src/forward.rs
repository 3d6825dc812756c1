//! Forward passes: each strategy keeps what its backward pass needs.

use std::sync::Arc;

use aca_core::{Batching, Error, Evaluator, Method, Result, Solver, Stepper, Stepping};
use aca_dense::Solution;
use candle_core::Var;

use crate::aca::Aca;
use crate::backsolve::Reverse;
use crate::checkpoints::{Checkpoints, EndSlope, Grid};
use crate::mali::{LeapfrogTape, Mali};
use crate::naive::{Naive, TracedSteps, TracedTurns};
use crate::strategy::Recorded;
use crate::traced_replay::TracedReplay;
use crate::{Backsolve, Gradient, GradientError, Solve, through_step_size};

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
            Gradient::Naive | Gradient::NaiveThroughStepSize
                if self.solver.method.is_implicit() =>
            {
                Err(Error::TracedImplicit { method: self.solver.method.name().to_owned() })
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

    /// Solves with checkpoints, from which steps are replayed.
    fn aca(&self, gradient: &Gradient) -> Result<Recorded> {
        let mut kept = (self.checkpoints(gradient)?, EndSlope::default());
        let sol = self.record(&self.held(false), self.y0, &mut kept)?;
        let (checkpoints, EndSlope(slope)) = kept;
        let undone = checkpoints.are_times();
        let backward = Aca {
            field: self.field.clone(),
            params: self.params.clone(),
            // Most solves by a pair of methods never leave the first.
            methods: match sol.stats.implicit {
                0 => vec![Stepper::new(self.solver, self.y0.dtype())?],
                _ => Stepper::all(self.solver, self.y0.dtype())?,
            },
            y0: self.y0.detach(),
            end: (sol.y1.clone(), slope.filter(|_| !undone)),
            ends_with_steps: sol.samples.iter().all(|end| end.s == 1.0),
            checkpoints,
            failed: match self.solver.batching {
                Batching::Shared => None,
                Batching::PerSample => Some(failed(&sol)),
            },
            stability_limited: sol.stats.stability_limited,
            bounds_growth: matches!(self.solver.stepping, Stepping::Adaptive(_))
                && !self.solver.method.is_implicit(),
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
        if way_back.method.is_implicit() {
            // It would need the derivative of the field's derivative.
            let what =
                "an implicit method on the way back (give Backsolve::solver an explicit one)";
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
}

/// Which samples failed.
fn failed(sol: &Solution) -> Vec<bool> {
    sol.samples.iter().map(|end| !end.status.is_finished()).collect()
}

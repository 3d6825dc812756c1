//! Beyond the original's recipe: L-BFGS with ACA's gradient, until it converges.

use std::cell::RefCell;

use aca_core::Tolerance;
use argmin::core::{CostFunction, Executor, Gradient, State};
use argmin::solver::linesearch::MoreThuenteLineSearch;
use argmin::solver::quasinewton::LBFGS;

use super::fit::{Evaluation, Objective, Problem};
use crate::report::{Error, Result};

/// Bound on the iterations of one stage; a handful is usual for three masses.
const MAX_ITERATIONS: u64 = 100;

/// Bases of the weights of the stages: the first look at the early orbits only, where the loss has
/// one valley whatever the masses; each next one leads further into the chaotic rest.
const DECAYS: [f64; 4] = [1e-8, 1e-4, 1e-2, 1.0];

/// Minimises from `start`, in stages from the early observations to all of them.
///
/// `report` is called after every evaluation. A solve that fails ends the polish with the best
/// masses so far: the line search may try masses whose bodies collide.
pub fn polish(
    problem: &mut Problem,
    start: Evaluation,
    tolerance: Tolerance,
    report: &mut dyn FnMut(&Evaluation) -> Result<()>,
) -> Result<Evaluation> {
    let mut masses = start.masses;
    let mut best = start;
    for decay in DECAYS {
        let objective = Objective { tolerance, decay };
        let Ok(first) = problem.evaluate(masses, objective) else { break };
        best = first;
        let search = Search { problem, report, objective, best, last: None, unreported: None };
        let stage = Stage(RefCell::new(search));
        let solver = LBFGS::new(MoreThuenteLineSearch::new(), 5)
            .with_tolerance_grad(1e-14)
            .and_then(|solver| solver.with_tolerance_cost(0.0))
            .map_err(Error::polish)?;
        let run = Executor::new(&stage, solver)
            .configure(|state| state.param(masses.to_vec()).max_iters(MAX_ITERATIONS))
            .run();
        // Rounding ends the line search once the valley is flat; what was found before counts.
        drop(run.map(|result| result.state().get_iter()));
        let search = stage.0.into_inner();
        if let Some(error) = search.unreported {
            return Err(error);
        }
        best = search.best;
        masses = best.masses;
    }
    Ok(if best.sum_sq <= start.sum_sq { best } else { start })
}

/// The loss of one stage as argmin sees it.
struct Stage<'a>(RefCell<Search<'a>>);

struct Search<'a> {
    problem: &'a mut Problem,
    report: &'a mut dyn FnMut(&Evaluation) -> Result<()>,
    objective: Objective,
    best: Evaluation,
    /// argmin asks for value and gradient separately.
    last: Option<Evaluation>,
    /// Why an evaluation could not be reported, which is no failure of the search.
    unreported: Option<Error>,
}

impl Stage<'_> {
    fn evaluate(&self, masses: &[f64]) -> Result<Evaluation> {
        let masses = [masses[0], masses[1], masses[2]];
        let search = &mut *self.0.borrow_mut();
        if let Some(last) = search.last.filter(|last| last.masses == masses) {
            return Ok(last);
        }
        let evaluation = search.problem.evaluate(masses, search.objective)?;
        search.last = Some(evaluation);
        if evaluation.loss < search.best.loss {
            search.best = evaluation;
        }
        if let Err(error) = (search.report)(&evaluation) {
            search.unreported = Some(error);
            return Err(Error::Polish("an evaluation could not be reported".to_owned()));
        }
        Ok(evaluation)
    }
}

impl CostFunction for &Stage<'_> {
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, masses: &Vec<f64>) -> std::result::Result<f64, argmin::core::Error> {
        Ok(self.evaluate(masses)?.loss)
    }
}

impl Gradient for &Stage<'_> {
    type Param = Vec<f64>;
    type Gradient = Vec<f64>;

    fn gradient(&self, masses: &Vec<f64>) -> std::result::Result<Vec<f64>, argmin::core::Error> {
        Ok(self.evaluate(masses)?.gradient.to_vec())
    }
}

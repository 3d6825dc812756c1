//! Switching between an explicit and an implicit method.

use aca_tableau::Tableau;
use candle_core::DType;

use super::Run;
use crate::{Method, Result, Solver, Stepper};

/// Steps in a row that are not at the stability limit after which those before them no longer count.
const FORGIVEN: usize = 6;

/// The part of the explicit method's stability interval inside which a step needs no implicit method.
const RESOLVED: f64 = 0.5;

/// What a run needs to switch methods.
pub(super) struct Switch {
    /// The method that does not step at present, prepared once it is needed: most solves never are stiff.
    other: Other,
    /// Accepted steps that ask for it.
    asking: usize,
    /// Accepted steps in a row that do not.
    content: usize,
}

enum Other {
    Ready(Box<Stepper>),
    /// The implicit one, for states of a type.
    Later(DType),
}

impl Switch {
    /// What the solver's method needs, if it is a pair.
    pub(super) fn new(solver: &Solver, dtype: DType) -> Result<Option<Self>> {
        let Method::Auto(pair) = &solver.method else { return Ok(None) };
        let other = match solver.jump_ts.is_empty() {
            true => Other::Later(dtype),
            // Beside jumps it may be refused, which should not come late.
            false => Other::Ready(Box::new(implicit(&pair.implicit, solver, dtype)?)),
        };
        Ok(Some(Self { other, asking: 0, content: 0 }))
    }

    /// Number of slopes that a step has at the most.
    pub(super) fn most_stages(solver: &Solver) -> usize {
        let Method::Auto(pair) = &solver.method else { return 0 };
        pair.implicit.stages().max(pair.implicit.interpolant().stages())
    }
}

fn implicit(tableau: &Tableau, solver: &Solver, dtype: DType) -> Result<Stepper> {
    Stepper::of(tableau.into(), solver, dtype)
}

impl Run<'_> {
    /// Takes in how far the accepted step reached, as an explicit method shows it, and the norm of the Jacobian, as an
    /// implicit one does; goes on with the other method where enough steps ask for it.
    pub(super) fn consider_switching(
        &mut self,
        reach: Option<f64>,
        norm: Option<f64>,
    ) -> Result<()> {
        let (Some(switch), Method::Auto(pair)) = (&mut self.switch, &self.solver.method) else {
            return Ok(());
        };
        let Some(h) = self.clocks.accepted.first().map(|step| step.h().abs()) else {
            return Ok(());
        };
        let (asks, enough, forgiven) = match self.rules.method.is_implicit() {
            true => {
                let reach = norm.map_or(f64::INFINITY, |norm| h * norm);
                let limit = match &switch.other {
                    Other::Ready(explicit) => explicit.stability(),
                    Other::Later(_) => 0.0,
                };
                (reach < RESOLVED * limit, pair.resolved, 1)
            }
            false => {
                let limited =
                    reach.is_some_and(|reach| self.clocks.is_at_limit(reach, &self.rules.method));
                (limited, pair.limited, FORGIVEN)
            }
        };
        match asks {
            true => (switch.asking, switch.content) = (switch.asking + 1, 0),
            false => switch.content += 1,
        }
        if switch.content >= forgiven {
            switch.asking = 0;
        }
        if switch.asking >= enough.max(1) {
            (switch.asking, switch.content) = (0, 0);
            let mut other = match std::mem::replace(&mut switch.other, Other::Later(DType::F64)) {
                Other::Ready(other) => other,
                Other::Later(dtype) => Box::new(implicit(&pair.implicit, self.solver, dtype)?),
            };
            std::mem::swap(&mut self.rules.method, &mut *other);
            switch.other = Other::Ready(other);
            self.rules.scheme = 1 - self.rules.scheme;
            self.space.begin_anew();
        }
        Ok(())
    }
}

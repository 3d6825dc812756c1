//! Switching between an explicit and an implicit method.

use aca_tableau::Tableau;
use candle_core::DType;

use super::Run;
use crate::{Method, Result, Solver, Stepper};

/// Steps in a row that are not at the stability limit after which those before them no longer count.
const FORGIVEN: usize = 6;

/// The part of the explicit method's stability interval inside which a step needs no implicit method.
const RESOLVED: f64 = 0.5;

/// The part of the explicit method's stability interval from which on its steps may be short because the problem is stiff:
/// at tight tolerances fast modes that have died out still show in its error estimate.
const NEAR: f64 = 0.4;

/// Such steps after which the implicit method is tried, and by how much this number grows where it does not pay.
const PATIENCE: usize = 200;
const GROWTH: usize = 4;

/// Steps of a trial, and how many times as long as the explicit ones the last must be: an implicit step costs about as much
/// more.
const TRIAL: usize = 10;
const LONGER: f64 = 4.0;

/// What a run needs to switch methods.
pub(super) struct Switch {
    /// The method that does not step at present, prepared once it is needed: most solves never are stiff.
    other: Other,
    /// Accepted steps that ask for it.
    asking: usize,
    /// Accepted steps in a row that do not.
    content: usize,
    /// Explicit steps near the stability limit, and after how many the implicit method is tried.
    near: usize,
    patience: usize,
    /// The size of explicit steps before a trial, and how many implicit ones it has had.
    trial: Option<(f64, usize)>,
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
        let (asking, content, near, patience, trial) = (0, 0, 0, PATIENCE, None);
        Ok(Some(Self { other, asking, content, near, patience, trial }))
    }

    /// Number of slopes that a step has at the most.
    pub(super) fn most_stages(solver: &Solver) -> usize {
        let Method::Auto(pair) = &solver.method else { return 0 };
        pair.implicit.stages().max(pair.implicit.interpolant().stages())
    }
}

impl Switch {
    /// Takes in an explicit step; returns whether the implicit method is to be tried.
    fn begins_trial(&mut self, h: f64, near: bool) -> bool {
        self.near = if near { self.near + 1 } else { self.near.saturating_sub(FORGIVEN) };
        let begins = self.near >= self.patience;
        self.trial = begins.then_some((h, 0));
        begins
    }

    /// Takes in an implicit step; returns whether it was a trial that does not pay.
    fn ends_trial(&mut self, h: f64) -> bool {
        let Some((before, steps)) = &mut self.trial else { return false };
        *steps += 1;
        let (over, pays) = (*steps >= TRIAL, h >= LONGER * *before);
        if over {
            self.trial = None;
        }
        if over && !pays {
            self.patience *= GROWTH;
        }
        over && !pays
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
        let tries = match self.rules.method.is_implicit() {
            true => switch.ends_trial(h),
            false => {
                let near = NEAR * self.rules.method.stability();
                switch.begins_trial(h, reach.is_some_and(|reach| reach >= near))
            }
        };
        if tries || switch.asking >= enough.max(1) {
            (switch.asking, switch.content, switch.near) = (0, 0, 0);
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

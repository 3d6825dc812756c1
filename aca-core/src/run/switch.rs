//! Switching between an explicit and an implicit method.

use super::Run;
use crate::{Method, Stepper};

/// Steps in a row that are not at the stability limit after which those before them no longer count.
const FORGIVEN: usize = 6;

/// The part of the explicit method's stability interval inside which a step needs no implicit method.
const RESOLVED: f64 = 0.5;

/// What a run needs to switch methods.
pub(super) struct Switch {
    /// The method that does not step at present.
    other: Stepper,
    /// Accepted steps that ask for it.
    asking: usize,
    /// Accepted steps in a row that do not.
    content: usize,
}

impl Switch {
    pub(super) fn to(other: Stepper) -> Self {
        Self { other, asking: 0, content: 0 }
    }
}

impl Run<'_> {
    /// Takes in how far the accepted step reached, as an explicit method shows it, and the norm of the Jacobian, as an
    /// implicit one does; goes on with the other method where enough steps ask for it.
    pub(super) fn consider_switching(&mut self, reach: Option<f64>, norm: Option<f64>) {
        let (Some(switch), Method::Auto(pair)) = (&mut self.switch, &self.solver.method) else {
            return;
        };
        let Some(h) = self.clocks.accepted.first().map(|step| step.h().abs()) else { return };
        let (asks, enough, forgiven) = match self.rules.method.is_implicit() {
            true => {
                let reach = norm.map_or(f64::INFINITY, |norm| h * norm);
                (reach < RESOLVED * switch.other.stability(), pair.resolved, 1)
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
            std::mem::swap(&mut self.rules.method, &mut switch.other);
            self.rules.scheme = 1 - self.rules.scheme;
            self.space.begin_anew();
        }
    }
}

//! Which slope of a step starts the next.

use super::Stepper;
use crate::Method;

impl Stepper {
    /// The slope that is the next step's first, where the method itself has it and the field is evaluated at the end.
    pub fn fsal_stage(&self) -> Option<usize> {
        // An implicit stage finds its slope by an iteration, which is not the field's to the last bit.
        let tableau = self.method.tableau().filter(|_| self.diagonal.is_empty())?;
        tableau.is_fsal().then(|| tableau.stages() - 1)
    }

    /// Whether a step begins with the slope of an implicit stage, the last of the step before. It solves its equation up to
    /// the tolerance of Newton's iteration, and the field evaluated anew would multiply the remainder by the stiffness; so a
    /// replay needs that slope beside the state.
    pub fn begins_with_solved_slope(&self) -> bool {
        let own = self.carried(self.stages());
        own.is_some_and(|end| self.diagonal.get(end).is_some_and(|gamma| *gamma != 0.0))
    }

    /// Whether the slope that ends a step to `t1` starts the next: of a whole state unless the field may jump there. Rows that
    /// step on their own meet jumps at different turns, where all begin anew.
    pub fn hands_on_slope(&self, whole: bool, t1: f64) -> bool {
        if whole { !self.is_jump(t1) } else { !self.has_jumps() }
    }

    /// The slope that starts the next step, among the first `known`.
    #[inline]
    pub fn carried(&self, known: usize) -> Option<usize> {
        let end = match &self.method {
            Method::RungeKutta(_) if self.starts_with_slope() => self.interpolant.end_stage(),
            Method::RungeKutta(_) => return None,
            Method::Leapfrog | Method::Symplectic(_) => self.stages() - 1,
            Method::Custom(_) | Method::Auto(_) => return None,
        };
        Some(end).filter(|end| *end < known)
    }

    /// Whether the first slope of a step is the field's own at its start.
    #[inline]
    pub fn starts_with_slope(&self) -> bool {
        match self.method {
            Method::RungeKutta(_) => self.diagonal.first().is_none_or(|gamma| *gamma == 0.0),
            Method::Leapfrog => true,
            _ => false,
        }
    }

    /// Whether [`Stepper::carried`] is among the method's own slopes.
    #[inline]
    pub(crate) fn carries_own(&self) -> bool {
        self.carried(self.stages()).is_some()
    }

    /// Whether the slope at the end of a step starts the next whatever lies between: the leapfrog's belongs to its
    /// state.
    #[inline]
    pub(crate) fn carries_always(&self) -> bool {
        matches!(self.method, Method::Leapfrog)
    }

    /// Whether the first slope of a step is known before the step is tried: not where it is implicit, as all slopes of a
    /// scheme of the user's may be.
    #[inline]
    pub(crate) fn knows_first(&self) -> bool {
        match self.method {
            Method::Custom(_) => false,
            Method::RungeKutta(_) => self.starts_with_slope(),
            _ => true,
        }
    }
}

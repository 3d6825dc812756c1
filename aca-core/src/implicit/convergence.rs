//! When an iteration has come near enough.

use super::Newton;
use crate::{Result, Solver, Stepping, Tolerances, kernels};

/// When an iteration has come near enough.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewtonRule {
    newton: Newton,
    rtol: f64,
    /// `None` where steps are fixed.
    atol: Option<f64>,
    epsilon: f64,
    /// The smallest number that keeps all its digits.
    smallest: f64,
}

impl NewtonRule {
    /// The rule of a solver for states whose numbers are rounded by `epsilon`; with fixed steps, which follow no
    /// tolerance, stages are solved to some thousand roundings.
    pub(crate) fn new(solver: &Solver, epsilon: f64) -> Result<Self> {
        let (rtol, atol) = match &solver.stepping {
            Stepping::Adaptive(Tolerances::Uniform(tolerance)) => {
                (tolerance.rtol, Some(tolerance.atol))
            }
            Stepping::Adaptive(Tolerances::Each { rtol, atol }) => {
                (kernels::extremes(rtol)?[0], Some(kernels::extremes(atol)?[0]))
            }
            _ => (256.0 * epsilon / solver.newton.fraction, None),
        };
        let single = epsilon > 1e-10;
        let smallest = if single { f64::from(f32::MIN_POSITIVE) } else { f64::MIN_POSITIVE };
        Ok(Self { newton: solver.newton, rtol, atol, epsilon, smallest })
    }

    /// The error that a step may have in a number: of its magnitude, or with fixed steps of the larger one at both ends of
    /// what the stage adds.
    fn tolerated(&self, magnitude: f64, size: f64) -> f64 {
        match self.atol {
            Some(atol) => atol + self.rtol * magnitude,
            None => self.rtol * size,
        }
    }

    /// Iterations after which a stage is given up.
    pub(super) fn max_iterations(&self) -> usize {
        self.newton.max_iterations
    }

    /// Writes the error that each number of the states `y` may have: the unit of what is measured without matrices; and how
    /// large a difference shows a derivative best, in these units.
    pub(super) fn units(&self, (y, base): (&[f64], &[f64]), out: &mut [f64]) -> f64 {
        let largest = y.iter().fold(0.0f64, |most, y| most.max(y.abs()));
        for (out, (y, base)) in out.iter_mut().zip(y.iter().zip(base)) {
            let size = y.abs().max(base.abs());
            *out = self.tolerated(size, size).max(self.epsilon * largest + self.smallest);
        }
        (self.epsilon.sqrt() / self.rtol.max(f64::MIN_POSITIVE)).max(1.0)
    }

    /// Measures the changes of a block's states `y`, which are `base` and what the stage adds; `noise` is what rounding of
    /// states leaves in each of them.
    pub(super) fn measure(
        &self,
        change: impl Iterator<Item = f64>,
        (y, base): (&[f64], &[f64]),
        noise: impl Iterator<Item = f64>,
    ) -> Moved {
        let (mut allowed, mut rounding) = (0.0, 0.0f64);
        for ((change, (y, base)), noise) in change.zip(y.iter().zip(base)).zip(noise) {
            let size = y.abs().max(base.abs());
            let own = self.tolerated(y.abs(), size);
            // No error can be smaller than rounding, and none smaller than the smallest number.
            let floor = 4.0 * self.epsilon * size + self.smallest;
            allowed += (change / (self.newton.fraction * own).max(floor)).powi(2);
            rounding = rounding.max(change.abs() / (floor + 4.0 * self.epsilon * noise));
        }
        Moved { allowed: (allowed / y.len() as f64).sqrt(), rounding }
    }
}

/// How far an iteration moved a block's states: the root mean square in units of the error that a stage may keep, and the
/// largest in units of rounding.
pub(super) struct Moved {
    allowed: f64,
    rounding: f64,
}

/// Where the iteration of a block stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// The worst rate of convergence with the present Jacobian, and the latest.
    pub(super) worst: f64,
    pub(super) latest: f64,
    /// How far the last iteration moved it.
    pub(super) moved: f64,
    pub(super) is_active: bool,
    pub(super) is_solved: bool,
}

impl Progress {
    pub(super) const NEW: Self = Self {
        worst: 0.0,
        latest: f64::INFINITY,
        moved: f64::NAN,
        is_active: false,
        is_solved: false,
    };

    /// Takes in how far an iteration moved the block.
    pub(super) fn judge(&mut self, iteration: usize, moved: &Moved) {
        let rate = match iteration {
            // Before two changes tell the rate, what it was at worst with this Jacobian.
            0 if self.worst > 0.0 => self.worst.max(0.01),
            0 => 0.9,
            _ => moved.allowed / self.moved,
        };
        self.moved = moved.allowed;
        if iteration > 0 && rate.is_finite() {
            (self.worst, self.latest) = (self.worst.max(rate), rate);
        }
        let left = rate / (1.0 - rate) * moved.allowed;
        // Where rounding rules, changes no longer fall.
        let at_rounding = iteration > 0 && rate > 0.3 && moved.rounding < 4.0;
        self.is_solved = (0.0..=1.0).contains(&left) || at_rounding;
        // Steps too far at the beginning are forgiven.
        let diverges = !moved.allowed.is_finite() || (iteration > 3 && rate >= 2.0);
        self.is_active = !self.is_solved && !diverges;
    }
}

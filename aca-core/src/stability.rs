//! How close a step was to its stability limit.

use crate::Result;
use crate::kernels::{self, Scale};

/// In which solves adaptive steps stay inside the stability interval of their method.
///
/// A solve under error control may still run at the stability limit: wherever errors grow, a rejection or a shorter
/// step follows. A replay repeats the steps as they were, so nothing stops that growth, and the gradient contains the
/// product of the steps' growth factors. Holding the next step to 0.95 times the interval over the spectral radius of
/// the last one prevents that. It costs a few per cent more steps for stiff problems, and none where accuracy limits
/// the step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StableSteps {
    /// Where a gradient is wanted: in the solves of an `Ode` of aca-adjoint whose replay holds steps fixed.
    #[default]
    ForGradients,
    /// In every adaptive solve.
    Always,
    /// Nowhere.
    Never,
}

/// The part of the stability interval beyond which a step counts as at the limit.
pub(crate) const AT_LIMIT: f64 = 0.9;

/// The part of the stability interval that a held step may reach.
pub(crate) const HELD: f64 = 0.95;

/// What it takes to estimate how far steps reach.
#[derive(Clone, Copy)]
pub(crate) struct Probe {
    /// Size of a difference of states, in units of the tolerance, below which it is rounding.
    noise: f64,
}

/// Estimates of `h rho`, the step size times the spectral radius of the field's Jacobian.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach {
    /// Of the state as one system.
    pub(crate) whole: f64,
    /// The largest of its rows, as if each were a system.
    pub(crate) rows: f64,
}

impl Probe {
    /// Prepares for states within the tolerances of `scale`, whose numbers are rounded by `epsilon`.
    pub(crate) fn new(scale: &Scale, epsilon: f64) -> Result<Self> {
        let finest = match scale {
            Scale::Uniform { rtol, .. } => *rtol,
            Scale::Each { rtol, .. } => kernels::extremes(rtol)?[0],
        };
        Ok(Self { noise: 100.0 * epsilon / finest })
    }

    /// Reads `h rho` of a row of so many numbers off the squares of both differences, which are divided by the step
    /// size `h`; 0 where rounding hides it.
    fn reach(&self, h: f64, length: f64, [slopes, states]: [f64; 2]) -> f64 {
        self.squared_reach(h, length, [slopes, states]).sqrt()
    }

    fn squared_reach(&self, h: f64, length: f64, [slopes, states]: [f64; 2]) -> f64 {
        match h * h * states > self.noise * self.noise * length {
            true => slopes / states,
            false if slopes.is_finite() && states.is_finite() => 0.0,
            false => f64::NAN,
        }
    }

    /// Reads `h rho` of every row, whose steps have sizes of their own.
    pub(crate) fn reaches(&self, h: &[f64], length: usize, squares: &[[f64; 2]]) -> Vec<f64> {
        h.iter().zip(squares).map(|(h, squares)| self.reach(*h, length as f64, *squares)).collect()
    }

    /// Joins the rows, of so many numbers each, of a state that steps as a whole.
    pub(crate) fn join(&self, h: f64, length: usize, squares: &[[f64; 2]]) -> Reach {
        let (length, rows) = (length as f64, squares.len() as f64);
        let sum = |i: usize| squares.iter().map(|squares| squares[i]).sum::<f64>();
        let whole = self.reach(h, rows * length, [sum(0), sum(1)]);
        if squares.len() == 1 {
            return Reach { whole, rows: whole };
        }
        let noise = self.noise * self.noise * length / (h * h);
        // The largest quotient by products, since a division a row would be most of the work.
        let mut largest = [0.0, 1.0];
        let mut finite = true;
        for &[slopes, states] in squares {
            finite &= (slopes + states).is_finite();
            if states > noise && slopes * largest[1] > largest[0] * states {
                largest = [slopes, states];
            }
        }
        let rows = if finite { (largest[0] / largest[1]).sqrt() } else { f64::NAN };
        Reach { whole, rows }
    }
}

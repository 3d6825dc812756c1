//! One function along one step.

use aca_core::Result;

use super::root::{Root, close_in};

/// Goes along the points of one step at which a function is known, from one change of its sign to the next.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    /// The sign on this side of the next point: -1, 1, or 0 where the next point tells.
    pub(crate) sign: f64,
    /// The last point behind, and the function there.
    low: (f64, f64),
    /// Whether the last point behind is the start of the step and lies on the surface.
    leaves: bool,
    /// The next point.
    at: usize,
}

/// Part of the way to a zero that is looked back from it.
const CLOSE: f64 = 1e-9;

/// Sign of a number, 0 for zero.
pub(crate) fn sign(x: f64) -> f64 {
    if x == 0.0 { 0.0 } else { x.signum() }
}

impl Cursor {
    /// Starts where the function has this value; `leaving` is its sign just after, where that value counts as zero.
    pub(crate) fn new(value: f64, leaving: Option<f64>) -> Self {
        let own = leaving.unwrap_or_else(|| sign(value));
        Self { sign: own, low: (0.0, value), leaves: leaving.is_some(), at: 0 }
    }

    /// The next crossing, among `points` in their order, each with the function there.
    pub(crate) fn next(
        &mut self,
        points: &[(f64, f64)],
        mut g: impl FnMut(f64) -> Result<f64>,
        tolerance: f64,
    ) -> Result<Option<Root>> {
        while let Some(&(s, value)) = points.get(self.at) {
            let (before, now) = (self.sign, sign(value));
            self.at += 1;
            let found = match (before, now) {
                (0.0, _) => None,
                (before, now) if before == now => None,
                (before, 0.0) => Some(Root { s, residual: 0.0, rising: before < 0.0 }),
                _ if self.leaves => Some(self.reach(&mut g, (s, value), tolerance)?),
                _ => Some(close_in(&mut g, (self.low, (s, value)), tolerance)?),
            };
            let found = found.map(|root| self.first(&mut g, root, tolerance)).transpose()?;
            (self.sign, self.low, self.leaves) = (now, (s, value), false);
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Where a function that may stay zero comes to zero, given a place at which it is: what leaves its sign for a while does
    /// so at the start of that while.
    fn first(
        &self,
        mut g: impl FnMut(f64) -> Result<f64>,
        root: Root,
        tolerance: f64,
    ) -> Result<Root> {
        let before = if root.rising { -1.0 } else { 1.0 };
        // Nearer by, a function of rounded numbers may be zero that crosses.
        let near = root.s - (CLOSE * (root.s - self.low.0)).max(16.0 * tolerance);
        if root.residual != 0.0 || near <= self.low.0 || sign(g(near)?) == before {
            return Ok(root);
        }
        let (mut low, mut high) = (self.low.0, near);
        while high - low > tolerance {
            let middle = 0.5 * (low + high);
            match sign(g(middle)?) == before {
                true => low = middle,
                false => high = middle,
            }
        }
        Ok(Root { s: high, residual: g(high)?.abs(), ..root })
    }

    /// The crossing before `high` of a function that is zero at the start of the step, where it leaves to this side: looks
    /// ever closer to the start for a place on this side. An excursion too short to be seen ends as it begins.
    fn reach(
        &self,
        mut g: impl FnMut(f64) -> Result<f64>,
        mut high: (f64, f64),
        tolerance: f64,
    ) -> Result<Root> {
        while high.0 > tolerance {
            let s = 0.5 * high.0;
            let value = g(s)?;
            if sign(value) == self.sign {
                return close_in(g, ((s, value), high), tolerance);
            }
            high = (s, value);
        }
        Ok(Root { s: high.0, residual: high.1.abs(), rising: self.sign < 0.0 })
    }
}

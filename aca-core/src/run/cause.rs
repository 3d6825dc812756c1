//! What is not finite in a step.

use crate::space::{Register, Space};
use crate::{Error, Result};

/// Finds what is not finite in a step.
pub(super) struct Cause<'a> {
    pub(super) space: &'a dyn Space,
    pub(super) whole: bool,
    /// Whether slopes matter, or the end alone.
    pub(super) slopes: bool,
    /// Whether nobody has looked at the first slope yet.
    pub(super) unlooked: bool,
}

impl Cause<'_> {
    /// What is not finite in the step of a row from `t` to `t1`; where it had not begun, its size counts as 0.
    pub(super) fn of(&self, row: usize, (t, t1): (f64, f64)) -> Result<Option<Error>> {
        let row = (!self.whole).then_some(row);
        let slopes = (0..self.space.known()).filter(|_| self.slopes);
        let slopes = slopes.map(|i| ("field", Register::Slope(i), i == 0 && self.unlooked));
        for (what, register, early) in slopes.chain([("state", Register::End, false)]) {
            if let Some(index) = self.space.first_non_finite(register, row)? {
                let h = if early { 0.0 } else { t1 - t };
                return Ok(Some(Error::NonFinite { what, t, h, index }));
            }
        }
        Ok(None)
    }
}

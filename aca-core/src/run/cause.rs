//! What is not finite in a step.

use crate::Result;
use crate::space::{Register, Space};

/// Finds what is not finite in a step.
pub(super) struct Cause<'a> {
    pub(super) space: &'a dyn Space,
    pub(super) whole: bool,
    /// Whether slopes matter, or the end alone.
    pub(super) slopes: bool,
    /// Whether nobody has looked at the first slope yet.
    pub(super) unlooked: bool,
}

/// What is not finite: its name, the entry, and whether the step had not begun.
pub(crate) type NotFinite = (&'static str, usize, bool);

impl Cause<'_> {
    pub(super) fn of(&self, row: usize) -> Result<Option<NotFinite>> {
        let row = (!self.whole).then_some(row);
        let slopes = (0..self.space.known()).filter(|_| self.slopes);
        let slopes = slopes.map(|i| ("field", Register::Slope(i), i == 0 && self.unlooked));
        for (what, register, early) in slopes.chain([("state", Register::End, false)]) {
            if let Some(index) = self.space.first_non_finite(register, row)? {
                return Ok(Some((what, index, early)));
            }
        }
        Ok(None)
    }
}

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

/// What is wrong with a step.
pub(crate) enum NotFinite {
    /// Something is not finite: its name, the entry, and whether the step had not begun.
    Entry(&'static str, usize, bool),
    /// A scheme found no slopes.
    Scheme(Error),
}

impl Cause<'_> {
    pub(super) fn of(&self, row: usize) -> Result<Option<NotFinite>> {
        let row = (!self.whole).then_some(row);
        let slopes = (0..self.space.known()).filter(|_| self.slopes);
        let slopes = slopes.map(|i| ("field", Register::Slope(i), i == 0 && self.unlooked));
        for (what, register, early) in slopes.chain([("state", Register::End, false)]) {
            if let Some(index) = self.space.first_non_finite(register, row)? {
                return Ok(Some(NotFinite::Entry(what, index, early)));
            }
        }
        Ok(None)
    }
}

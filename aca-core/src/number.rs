//! Numbers as people read them.

use std::fmt;

/// A number that prints with its significant digits alone, whatever its size: `0.371`, `1e-10`, `1e300`.
///
/// Rust prints 1e300 with 301 digits and 1e-10 as `0.0000000001`. This takes a power of ten where that saves more than
/// three characters.
///
/// # Example
/// ```
/// use aca_core::Number;
///
/// assert_eq!(format!("{} {} {}", Number(0.25), Number(1e-10), Number(-1e300)), "0.25 1e-10 -1e300");
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number(pub f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (plain, power) = (self.0.to_string(), format!("{:e}", self.0));
        f.write_str(if plain.len() > power.len() + 3 { &power } else { &plain })
    }
}

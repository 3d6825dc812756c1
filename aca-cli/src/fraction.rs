//! Coefficients as the literature prints them.

use aca_core::Number;

/// Writes `value` as the fraction that it rounds, if a small one exists, else as a decimal number
/// that reads back exactly.
pub fn text(value: f64) -> String {
    match fraction(value) {
        Some((numerator, 1.0)) => numerator.to_string(),
        Some((numerator, denominator)) => format!("{numerator}/{denominator}"),
        None => Number(value).to_string(),
    }
}

/// The simplest fraction that rounds to `value`, unless it is so long that chance would explain it.
///
/// Between 1/2 and 1 lie 2^52 numbers, and about 0.2 N fractions whose numerator and denominator
/// have a product below N: at N = 2^44 one number in a thousand is taken for a fraction by mistake.
fn fraction(value: f64) -> Option<(f64, f64)> {
    const LONGEST: f64 = (1u64 << 44) as f64;
    let (mut last, mut this) = ((0.0, 1.0), (1.0, 0.0));
    let mut rest = value.abs();
    loop {
        let whole = rest.floor();
        (last, this) = (this, (whole * this.0 + last.0, whole * this.1 + last.1));
        let (numerator, denominator) = this;
        if !(numerator * denominator < LONGEST && denominator < LONGEST) {
            return None;
        }
        if numerator / denominator == value.abs() {
            return Some((numerator.copysign(value), denominator));
        }
        rest = (rest - whole).recip();
    }
}

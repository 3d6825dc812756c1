//! Coefficients as the literature prints them.

use aca_core::Number;

/// Reads a fraction such as "-5/72", or a plain number.
///
/// # Errors
/// What is wrong with the text, in words.
pub fn parse(text: &str) -> Result<f64, &'static str> {
    let (numerator, denominator) = text.split_once('/').unwrap_or((text, "1"));
    let number = |part: &str| part.trim().parse().ok().filter(|x: &f64| x.is_finite());
    match (number(numerator), number(denominator)) {
        (_, Some(0.0)) => Err("a denominator must not be 0"),
        (Some(numerator), Some(denominator)) => Ok(numerator / denominator),
        _ => Err("give a number or a fraction such as \"1/3\""),
    }
}

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

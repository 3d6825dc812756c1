//! Roots in brackets.

use aca_core::Result;

/// A crossing of zero in a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Root {
    /// Fraction of the step.
    pub(crate) s: f64,
    /// The larger magnitude of the function at the ends of the last bracket, what zero means here; 0 where it is exactly that.
    pub(crate) residual: f64,
    /// Whether the function rises.
    pub(crate) rising: bool,
}

/// Closes in on the sign change of `g` between two points, to a width of `tolerance`: by inverse quadratic
/// interpolation where that can be trusted, else by halving.
///
/// # Source
/// Chandrupatla, "A new hybrid quadratic/bisection algorithm for finding the zero of a nonlinear function without using
/// derivatives", Advances in Engineering Software 28 (1997).
pub(crate) fn close_in(
    mut g: impl FnMut(f64) -> Result<f64>,
    (low, high): ((f64, f64), (f64, f64)),
    tolerance: f64,
) -> Result<Root> {
    let rising = low.1 < high.1;
    let ((mut a, mut fa), (mut b, mut fb)) = (high, low);
    let mut t = 0.5;
    loop {
        let next = a + t * (b - a);
        let value = g(next)?;
        let (c, fc);
        if (value > 0.0) == (fa > 0.0) {
            (c, fc) = (a, fa);
        } else {
            (c, fc) = (b, fb);
            (b, fb) = (a, fa);
        }
        (a, fa) = (next, value);
        let (s, least) = if fa.abs() < fb.abs() { (a, fa) } else { (b, fb) };
        let narrow = tolerance / (b - a).abs();
        if least == 0.0 || narrow > 0.5 {
            // Beside an exact zero the bracket may still be wide.
            let residual = if least == 0.0 { 0.0 } else { fa.abs().max(fb.abs()) };
            return Ok(Root { s, residual, rising });
        }
        let (chi, phi) = ((a - b) / (c - b), (fa - fb) / (fc - fb));
        t = match phi * phi < chi && (1.0 - phi) * (1.0 - phi) < 1.0 - chi {
            true => {
                fa / (fb - fa) * fc / (fb - fc)
                    + (c - a) / (b - a) * fa / (fc - fa) * fb / (fc - fb)
            }
            false => 0.5,
        };
        t = t.clamp(narrow, 1.0 - narrow);
    }
}

#[cfg(test)]
mod tests {
    use super::close_in;

    #[test]
    #[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    fn roots_are_found_to_the_tolerance_in_few_evaluations() {
        let root = |g: fn(f64) -> f64| {
            let mut count = 0;
            let watched = |s: f64| {
                count += 1;
                Ok(g(s))
            };
            let found = close_in(watched, ((0.0, g(0.0)), (1.0, g(1.0))), 1e-15).unwrap();
            (found.s, count)
        };
        type Smooth = (fn(f64) -> f64, f64);
        let smooth: [Smooth; 4] = [
            (|s| s * s - 0.25, 0.5),
            (|s| 0.3 - s, 0.3),
            (|s| s.exp() - 2.0, 2f64.ln()),
            (|s| (s - 0.7).powi(3), 0.7),
        ];
        for (g, expected) in smooth {
            let (s, count) = root(g);
            assert!((s - expected).abs() < 1e-5 && g(s).abs() < 1e-15, "{s} for {expected}");
            assert!(count < 60, "{count} evaluations for {expected}");
        }
        // A jump is closed in on by halving.
        let (s, count) = root(|s| if s < 0.123 { -1.0 } else { 1.0 });
        assert!((s - 0.123).abs() < 3e-15 && count < 60, "{s} after {count}");
    }
}

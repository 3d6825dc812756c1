//! Elementary functions without branches, which the compiler turns into vectors under `pulp`'s
//! dispatch.
//!
//! Every function is a polynomial between an exact reduction and an exact scaling, with at most one
//! division. None calls the system's mathematical library, and none has a fused multiply-add, so the
//! same bits come out on every processor. Fusing was measured: it takes a quarter off the time of
//! `tanh` and a third off that of `gelu`, but is a call of the library where the processor has no such
//! instruction.
//!
//! Comparisons are written such that NaN falls through to the result.

use crate::Real;

mod double;
mod single;

/// `c0 + c1 x + c2 x^2 + ..`, written out: a loop over coefficients is not always unrolled, and then
/// keeps the loop around it from becoming vectors.
macro_rules! polynomial {
    ($x:expr; $c:expr) => { $c };
    ($x:expr; $c:expr, $($rest:expr),+) => { polynomial!($x; $($rest),+) * $x + $c };
}
use polynomial;

/// What an element type brings to the functions below: polynomials, thresholds and bits.
///
/// The polynomials interpolate at Chebyshev nodes (degrees for `f32`, `f64`; script for mpmath with
/// 50 digits):
///
/// ```python
/// def fit(f, a, b, degree):
///     m, h, n = (a + b) / 2, (b - a) / 2, degree + 1
///     x = [m + h * cos(pi * (2 * i + 1) / (2 * n)) for i in range(n)]
///     powers = matrix([[xi ** j for j in range(n)] for xi in x])
///     return lu_solve(powers, matrix([f(xi) for xi in x]))
///
/// half = log(2) / 2 * 1.0001
/// expm1_series = fit(lambda r: (expm1(r) - r) / r ** 2, -half, half, 5)           # 10
/// atanh_series = fit(lambda w: (atanh(sqrt(w)) / sqrt(w) - 1) / w, 0, 1 / 9, 4)   # 9
/// mills = lambda a, k: exp(a * a / 2) * ncdf(-a) * (a + k) / k
/// mills_series = fit(lambda t: mills(k * (1 + t) / (1 - t), k), -1, 1, 11)        # 24; k = 4, 5
/// ```
pub(crate) trait Elementary: Real {
    /// `log2(e)`.
    const LOG2_E: Self;
    /// The head of `ln(2)`: with so few bits that its products below are exact.
    const LN2_HEAD: Self;
    /// `ln(2)` less its head.
    const LN2_TAIL: Self;
    /// Rounds a smaller number to an integer when it is added: `1.5 * 2^(bits of the mantissa)`.
    const ROUND: Self;
    /// `exp(-x)` is zero from here on.
    const VANISHED: Self;
    /// From here on `tanh(x / 2)` is 1 and `expm1(-x)` is -1.
    const SATURATED: Self;
    /// The normal distribution has no mass beyond.
    const FAR: Self;
    /// The `k` of [`mills_series`](Self::mills_series).
    const BEND: Self;

    /// `(exp(r) - 1 - r) / r^2` for `|r| <= ln(2) / 2`.
    fn expm1_series(r: Self) -> Self;

    /// `(atanh(s) / s - 1) / s^2` of `s^2` in `0..=1/9`.
    fn atanh_series(square: Self) -> Self;

    /// `exp(a^2 / 2) P(X < -a) (a + k) / k` of a standard normal X, for `t = (a - k) / (a + k)`.
    fn mills_series(t: Self) -> Self;

    /// The magnitude.
    fn magnitude(self) -> Self;

    /// The magnitude of `self` with the sign of `sign`.
    fn with_sign(self, sign: Self) -> Self;

    /// The upper half of the mantissa's bits, whose square is exact.
    fn head(self) -> Self;

    /// `2^(n + shift)` for `self = ROUND + n`.
    fn power_of_two(self, shift: u8) -> Self;
}

/// The scale that keeps powers of two from leaving the normal numbers.
const SHIFT: u8 = 64;

#[inline(always)]
fn number<T: Elementary>(x: f64) -> T {
    T::from_f64(x)
}

#[inline(always)]
fn at_most<T: Elementary>(x: T, bound: T) -> T {
    if x > bound { bound } else { x }
}

#[inline(always)]
fn at_least<T: Elementary>(x: T, bound: T) -> T {
    if x < bound { bound } else { x }
}

/// Returns `ROUND + n` and `r` of `x = n ln(2) + r`.
#[inline(always)]
fn reduce<T: Elementary>(x: T) -> (T, T) {
    let rounded = x * T::LOG2_E + T::ROUND;
    let n = rounded - T::ROUND;
    (rounded, (x - n * T::LN2_HEAD) - n * T::LN2_TAIL)
}

/// `exp(x + tail)` for `x` from `-VANISHED` to 0 and a small `tail`, with gradual underflow.
#[inline(always)]
fn exp_of_negative<T: Elementary>(x: T, tail: T) -> T {
    let (rounded, r) = reduce(x);
    let r = r + tail;
    let mantissa = T::one() + (r + r * r * T::expm1_series(r));
    mantissa * rounded.power_of_two(SHIFT) * number(1.0 / (1u128 << SHIFT) as f64)
}

/// `exp(-|x|)`.
#[inline(always)]
fn exp_of_minus_magnitude<T: Elementary>(x: T) -> T {
    exp_of_negative(-at_most(x.magnitude(), T::VANISHED), T::zero())
}

/// `exp(x) - 1` for `|x|` up to `SATURATED`.
#[inline(always)]
fn expm1_of_small<T: Elementary>(x: T) -> T {
    let (rounded, r) = reduce(x);
    let power = rounded.power_of_two(0);
    (r + r * r * T::expm1_series(r)) * power + (power - T::one())
}

/// `exp(x) - 1` for `x <= 0`.
#[inline(always)]
pub(super) fn expm1_of_negative<T: Elementary>(x: T) -> T {
    expm1_of_small(at_least(x, -T::SATURATED))
}

/// The exponential linear unit `x`, or `exp(x) - 1` below zero.
#[inline(always)]
pub(super) fn elu<T: Elementary>(x: T) -> T {
    if x >= T::zero() { x } else { expm1_of_negative(x) }
}

/// The larger of `x` and zero; NaN stays.
#[inline(always)]
pub(super) fn relu<T: Elementary>(x: T) -> T {
    if x <= T::zero() { T::zero() } else { x }
}

/// The hyperbolic tangent.
#[inline(always)]
pub(super) fn tanh<T: Elementary>(x: T) -> T {
    let a = x.magnitude();
    let e = expm1_of_small(at_most(a + a, T::SATURATED));
    (e / (e + number(2.0))).with_sign(x)
}

/// `1 / (1 + exp(-x))`.
#[inline(always)]
pub(super) fn sigmoid<T: Elementary>(x: T) -> T {
    let e = exp_of_minus_magnitude(x);
    (if x >= T::zero() { T::one() } else { e }) / (T::one() + e)
}

/// `log(1 + exp(x))`, by `log(1 + e) = 2 atanh(e / (2 + e))`.
#[inline(always)]
pub(super) fn softplus<T: Elementary>(x: T) -> T {
    let e = exp_of_minus_magnitude(x);
    let s = e / (number::<T>(2.0) + e);
    let square = s * s;
    let log = s + s * square * T::atanh_series(square);
    (if x > T::zero() { x } else { T::zero() }) + (log + log)
}

/// `exp(-x^2 / 2)` and Mills' ratio, the standard normal probability beyond `|x|` as a part of it.
///
/// The ratio is smooth in `(|x| - k) / (|x| + k)` (Shepherd and Laframboise 1981), so both tails keep
/// their relative precision, which `1 + erf` loses below zero. The fraction is computed as `2 v - 1`:
/// then the rounding of `|x| + k` does no harm at small `x`. The square is split into an exact head
/// and a tail, else its rounding would spoil `exp`.
#[inline(always)]
fn normal<T: Elementary>(x: T) -> (T, T) {
    let half = number::<T>(0.5);
    let a = at_most(x.magnitude(), T::FAR);
    let head = a.head();
    let e = exp_of_negative(-half * head * head, -half * (a - head) * (a + head));
    let inverse = T::one() / (a + T::BEND);
    let v = a * inverse;
    (e, T::BEND * inverse * T::mills_series(v + v - T::one()))
}

/// `x` times the normal probability below `x`; its limit 0 at minus infinity.
#[inline(always)]
pub(super) fn gelu<T: Elementary>(x: T) -> T {
    let (e, ratio) = normal(x);
    let x = at_least(x, -T::FAR);
    if x >= T::zero() { x * (T::one() - ratio * e) } else { x * ratio * e }
}

/// The derivative of [`gelu`]: the normal probability below `x`, and `x` times the density.
#[inline(always)]
pub(super) fn gelu_slope<T: Elementary>(x: T) -> T {
    let (e, ratio) = normal(x);
    let tail = ratio * e;
    let below = if x >= T::zero() { T::one() - tail } else { tail };
    let inverse_sqrt_2_pi = number::<T>(0.398_942_280_401_432_7);
    at_least(at_most(x, T::FAR), -T::FAR) * inverse_sqrt_2_pi * e + below
}

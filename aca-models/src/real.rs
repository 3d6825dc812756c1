//! Element types.

use std::ops::Neg;

use candle_core::WithDType;

/// The number types of states, `f32` and `f64`, with the functions that laws of physics are written in.
pub trait Real: WithDType + Neg<Output = Self> {
    /// Square root.
    fn sqrt(self) -> Self;
    /// Sine of an angle in radians.
    fn sin(self) -> Self;
    /// Cosine of an angle in radians.
    fn cos(self) -> Self;
    /// Exponential function.
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh(self) -> Self;
    /// Power with an exponent that need not be whole.
    fn powf(self, exponent: Self) -> Self;
}

/// Takes the functions of the standard library.
macro_rules! real {
    ($type:ty: $($function:ident),*) => {
        impl Real for $type {
            $(#[inline]
            fn $function(self) -> Self {
                <$type>::$function(self)
            })*

            #[inline]
            fn powf(self, exponent: Self) -> Self {
                <$type>::powf(self, exponent)
            }
        }
    };
}

real!(f32: sqrt, sin, cos, exp, ln, tanh);
real!(f64: sqrt, sin, cos, exp, ln, tanh);

//! Vectors of channels: element types joined to the instruction sets that `pulp` dispatches over.

use pulp::Simd;
use pulp::bytemuck::Pod;

use super::spectra::Spectra;
use crate::Real;

/// Channels that move together: at least as many as any vector holds.
pub(super) const GROUP: usize = 16;

/// Channels of a row that is filled up to whole groups.
pub(super) fn padded(channels: usize) -> usize {
    channels.next_multiple_of(GROUP)
}

/// Element types with vectors; every operation is one instruction.
pub(crate) trait Lanes: Real + Pod {
    /// As many elements as a register holds.
    type Vector<S: Simd>: Copy + Pod;

    /// All elements `x`.
    fn splat<S: Simd>(simd: S, x: Self) -> Self::Vector<S>;
    /// `a + b`.
    fn plus<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// `a - b`.
    fn minus<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// `a * b + c`, fused where the processor can.
    fn fma<S: Simd>(
        simd: S,
        a: Self::Vector<S>,
        b: Self::Vector<S>,
        c: Self::Vector<S>,
    ) -> Self::Vector<S>;
    /// The first elements of `from`.
    fn load<S: Simd>(simd: S, from: &[Self]) -> Self::Vector<S>;
    /// Writes the first elements of `to`.
    fn store<S: Simd>(simd: S, to: &mut [Self], x: Self::Vector<S>);
    /// Spectra of kernels that were used lately.
    fn spectra() -> &'static Spectra<Self>;
    /// Elements of a vector.
    fn count<S: Simd>(_: S) -> usize {
        size_of::<Self::Vector<S>>() / size_of::<Self>()
    }
}

macro_rules! lanes {
    ($T:ty, $vector:ident, $splat:ident, $add:ident, $sub:ident, $fma:ident, $load:ident, $store:ident) => {
        impl Lanes for $T {
            type Vector<S: Simd> = S::$vector;

            #[inline(always)]
            fn splat<S: Simd>(simd: S, x: Self) -> S::$vector {
                simd.$splat(x)
            }

            #[inline(always)]
            fn plus<S: Simd>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$add(a, b)
            }

            #[inline(always)]
            fn minus<S: Simd>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$sub(a, b)
            }

            #[inline(always)]
            fn fma<S: Simd>(simd: S, a: S::$vector, b: S::$vector, c: S::$vector) -> S::$vector {
                simd.$fma(a, b, c)
            }

            #[inline(always)]
            fn load<S: Simd>(_: S, from: &[Self]) -> S::$vector {
                S::$load(from).0[0]
            }

            #[inline(always)]
            fn store<S: Simd>(_: S, to: &mut [Self], x: S::$vector) {
                S::$store(to).0[0] = x;
            }

            fn spectra() -> &'static Spectra<Self> {
                static SPECTRA: Spectra<$T> = Spectra::new();
                &SPECTRA
            }
        }
    };
}

lanes!(f32, f32s, splat_f32s, add_f32s, sub_f32s, mul_add_e_f32s, as_simd_f32s, as_mut_simd_f32s);
lanes!(f64, f64s, splat_f64s, add_f64s, sub_f64s, mul_add_e_f64s, as_simd_f64s, as_mut_simd_f64s);

//! The transforms of Winograd's F(4x4, 3x3): 36 products give 4x4 results of a 3x3 correlation, a
//! quarter of the 144 of its definition.
//!
//! The points of interpolation are 0, 3/4, -3/4, 3/2, -3/2 and infinity. All constants of the data's
//! transforms are then exact in `f32`, and the rounding error of a 64-channel convolution is 1.3e-6 of
//! its largest value, where a plain sum has 0.9e-6 and the usual points 0, 1, -1, 2, -2 have 9e-6.
//!
//! # Source
//! Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016; that other points round
//! better: Barabasz et al., "Error analysis and improving the accuracy of Winograd convolution", 2020.

use pulp::Simd;

use super::lanes::Lanes;

const P: f64 = 0.75;
const Q: f64 = 1.5;
const P2: f64 = P * P;
const Q2: f64 = Q * Q;

/// A row or column of `N` vectors.
type Line<T, S, const N: usize> = [<T as Lanes>::Vector<S>; N];

/// A square of vectors.
pub(super) type Square<T, S, const N: usize> = [Line<T, S, N>; N];

/// `a * b + c` for a constant `a`.
#[inline(always)]
fn fma<T: Lanes, S: Simd>(simd: S, a: f64, b: T::Vector<S>, c: T::Vector<S>) -> T::Vector<S> {
    T::fma(simd, T::splat(simd, T::from_f64(a)), b, c)
}

/// `a * b` for a constant `a`.
#[inline(always)]
fn scale<T: Lanes, S: Simd>(simd: S, a: f64, b: T::Vector<S>) -> T::Vector<S> {
    fma::<T, S>(simd, a, b, T::splat(simd, T::zero()))
}

/// A linear map of lines. A trait and not a closure, since instructions of a set come out as calls
/// unless everything on the way to them is inlined without fail.
pub(super) trait Transform<const N: usize, const M: usize> {
    /// Maps a line.
    fn line<T: Lanes, S: Simd>(simd: S, x: Line<T, S, N>) -> Line<T, S, M>;
}

/// Data to values at the points.
pub(super) struct Data;
impl Transform<6, 6> for Data {
    #[inline(always)]
    fn line<T: Lanes, S: Simd>(simd: S, d: Line<T, S, 6>) -> Line<T, S, 6> {
        let first = fma::<T, S>(simd, -(P2 + Q2), d[2], fma::<T, S>(simd, P2 * Q2, d[0], d[4]));
        let last = fma::<T, S>(simd, -(P2 + Q2), d[3], fma::<T, S>(simd, P2 * Q2, d[1], d[5]));
        let even_p = fma::<T, S>(simd, -Q2, d[2], d[4]);
        let odd_p = fma::<T, S>(simd, -Q2, d[1], d[3]);
        let even_q = fma::<T, S>(simd, -P2, d[2], d[4]);
        let odd_q = fma::<T, S>(simd, -P2, d[1], d[3]);
        [
            first,
            fma::<T, S>(simd, P, odd_p, even_p),
            fma::<T, S>(simd, -P, odd_p, even_p),
            fma::<T, S>(simd, Q, odd_q, even_q),
            fma::<T, S>(simd, -Q, odd_q, even_q),
            last,
        ]
    }
}

/// Products at the points to results.
pub(super) struct Results;
impl Transform<6, 4> for Results {
    #[inline(always)]
    fn line<T: Lanes, S: Simd>(simd: S, m: Line<T, S, 6>) -> Line<T, S, 4> {
        let (sum_p, difference_p) = (T::plus(simd, m[1], m[2]), T::minus(simd, m[1], m[2]));
        let (sum_q, difference_q) = (T::plus(simd, m[3], m[4]), T::minus(simd, m[3], m[4]));
        [
            T::plus(simd, m[0], T::plus(simd, sum_p, sum_q)),
            fma::<T, S>(simd, Q, difference_q, scale::<T, S>(simd, P, difference_p)),
            fma::<T, S>(simd, Q2, sum_q, scale::<T, S>(simd, P2, sum_p)),
            fma::<T, S>(simd, Q2 * Q, difference_q, fma::<T, S>(simd, P2 * P, difference_p, m[5])),
        ]
    }
}

/// Cotangents of results to the points: the transpose of [`Results`].
pub(super) struct Cotangent;
impl Transform<4, 6> for Cotangent {
    #[inline(always)]
    fn line<T: Lanes, S: Simd>(simd: S, z: Line<T, S, 4>) -> Line<T, S, 6> {
        let even_p = fma::<T, S>(simd, P2, z[2], z[0]);
        let odd_p = fma::<T, S>(simd, P2, z[3], z[1]);
        let even_q = fma::<T, S>(simd, Q2, z[2], z[0]);
        let odd_q = fma::<T, S>(simd, Q2, z[3], z[1]);
        [
            z[0],
            fma::<T, S>(simd, P, odd_p, even_p),
            fma::<T, S>(simd, -P, odd_p, even_p),
            fma::<T, S>(simd, Q, odd_q, even_q),
            fma::<T, S>(simd, -Q, odd_q, even_q),
            z[3],
        ]
    }
}

/// Weights of the points in the interpolation: one over the products of their differences.
const AT_0: f64 = 1.0 / (P2 * Q2);
const AT_P: f64 = 1.0 / (2.0 * P2 * (P2 - Q2));
const AT_Q: f64 = 1.0 / (2.0 * Q2 * (Q2 - P2));

/// A kernel to the points.
pub(super) struct Kernel;
impl Transform<3, 6> for Kernel {
    #[inline(always)]
    fn line<T: Lanes, S: Simd>(simd: S, g: Line<T, S, 3>) -> Line<T, S, 6> {
        let even_p = fma::<T, S>(simd, P2 * AT_P, g[2], scale::<T, S>(simd, AT_P, g[0]));
        let even_q = fma::<T, S>(simd, Q2 * AT_Q, g[2], scale::<T, S>(simd, AT_Q, g[0]));
        [
            scale::<T, S>(simd, AT_0, g[0]),
            fma::<T, S>(simd, P * AT_P, g[1], even_p),
            fma::<T, S>(simd, -P * AT_P, g[1], even_p),
            fma::<T, S>(simd, Q * AT_Q, g[1], even_q),
            fma::<T, S>(simd, -Q * AT_Q, g[1], even_q),
            g[2],
        ]
    }
}

/// Cotangents at the points to those of a kernel: the transpose of [`Kernel`].
pub(super) struct KernelCotangent;
impl Transform<6, 3> for KernelCotangent {
    #[inline(always)]
    fn line<T: Lanes, S: Simd>(simd: S, u: Line<T, S, 6>) -> Line<T, S, 3> {
        let (sum_p, difference_p) = (T::plus(simd, u[1], u[2]), T::minus(simd, u[1], u[2]));
        let (sum_q, difference_q) = (T::plus(simd, u[3], u[4]), T::minus(simd, u[3], u[4]));
        let first = fma::<T, S>(simd, AT_P, sum_p, scale::<T, S>(simd, AT_Q, sum_q));
        let third = fma::<T, S>(simd, Q2 * AT_Q, sum_q, u[5]);
        [
            fma::<T, S>(simd, AT_0, u[0], first),
            fma::<T, S>(simd, P * AT_P, difference_p, scale::<T, S>(simd, Q * AT_Q, difference_q)),
            fma::<T, S>(simd, P2 * AT_P, sum_p, third),
        ]
    }
}

/// Applies a transform to the columns of a square and then to its rows.
#[inline(always)]
pub(super) fn twice<T: Lanes, S: Simd, F: Transform<N, M>, const N: usize, const M: usize>(
    simd: S,
    x: Square<T, S, N>,
) -> Square<T, S, M> {
    let zero = T::splat(simd, T::zero());
    let (mut half, mut column) = ([[zero; N]; M], [zero; N]);
    for j in 0..N {
        for i in 0..N {
            column[i] = x[i][j];
        }
        let transformed = F::line::<T, S>(simd, column);
        for i in 0..M {
            half[i][j] = transformed[i];
        }
    }
    let mut whole = [[zero; M]; M];
    for i in 0..M {
        whole[i] = F::line::<T, S>(simd, half[i]);
    }
    whole
}

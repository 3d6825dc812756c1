//! Passes over stretches of numbers, in interleaved parts that the compiler turns into vectors.
#![allow(unsafe_code, reason = "rows of a scattered slice")]

use crate::Real;
use crate::layers::kernels::scatter::Scatter;

/// Numbers that are handled together.
const LANES: usize = 16;

/// Writes `f` of every pair, from `start` on.
///
/// # Safety
/// Nobody else touches that stretch of `out` at the same time.
#[inline(always)]
pub(super) unsafe fn map<T: Real>(
    [x, z]: [&[T]; 2],
    start: usize,
    out: &Scatter<'_, T>,
    f: impl Fn(T, T) -> T,
) {
    let (heads, tail) = x.as_chunks::<LANES>();
    let (z_heads, z_tail) = z.as_chunks::<LANES>();
    let mut values = [T::zero(); LANES];
    for (block, (x, z)) in heads.iter().zip(z_heads).enumerate() {
        for ((value, x), z) in values.iter_mut().zip(x).zip(z) {
            *value = f(*x, *z);
        }
        // SAFETY: by the caller's promise.
        unsafe { out.write(start + block * LANES, &values) };
    }
    for ((value, x), z) in values.iter_mut().zip(tail).zip(z_tail) {
        *value = f(*x, *z);
    }
    // SAFETY: by the caller's promise.
    unsafe { out.write(start + heads.len() * LANES, &values[..tail.len()]) };
}

/// The sum of `f` of every number.
#[inline(always)]
pub(super) fn sum<T: Real>(x: &[T], f: impl Fn(T) -> f64) -> f64 {
    let (heads, tail) = x.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for x in heads {
        for (sum, x) in sums.iter_mut().zip(x) {
            *sum += f(*x);
        }
    }
    for (sum, x) in sums.iter_mut().zip(tail) {
        *sum += f(*x);
    }
    sums.iter().sum()
}

/// The sums of both parts of `f` of every pair.
#[inline(always)]
pub(super) fn sums<T: Real>([x, z]: [&[T]; 2], f: impl Fn(T, T) -> [f64; 2]) -> [f64; 2] {
    let (heads, tail) = x.as_chunks::<LANES>();
    let (z_heads, z_tail) = z.as_chunks::<LANES>();
    let mut sums = [[0.0; LANES]; 2];
    for (x, z) in heads.iter().zip(z_heads) {
        for lane in 0..LANES {
            let [a, b] = f(x[lane], z[lane]);
            sums[0][lane] += a;
            sums[1][lane] += b;
        }
    }
    for (lane, (x, z)) in tail.iter().zip(z_tail).enumerate() {
        let [a, b] = f(*x, *z);
        sums[0][lane] += a;
        sums[1][lane] += b;
    }
    sums.map(|sums| sums.iter().sum())
}

//! Kernels of 3x3 at the points of the transforms.
#![allow(unsafe_code, reason = "rows of a scattered slice")]

use pulp::{Arch, Simd, WithSimd, bytemuck};

use super::lanes::{GROUP, Lanes};
use super::points::POINTS;
use super::transforms;
use crate::layers::kernels::matmul::Matrix;
use crate::layers::kernels::scatter::{Scatter, each};

/// Kernels from which the transforms are shared among threads: 80 us on one.
const SHARED: usize = 4096;

/// Which kernels a product takes, out of the weights `[outer, inner, 3, 3]`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernels {
    /// As they are, from inner to outer channels.
    Forward,
    /// Turned by half a circle, from outer to inner channels.
    Transposed,
}

impl Kernels {
    /// Channels that they lead from and to.
    fn channels(self, [outer, inner]: [usize; 2]) -> (usize, usize) {
        match self {
            Self::Forward => (inner, outer),
            Self::Transposed => (outer, inner),
        }
    }
}

/// Kernels at the points, `[POINTS, from, to]`.
pub(super) struct Spectrum<T> {
    values: Vec<T>,
    plane: usize,
    pub(super) from: usize,
    pub(super) to: usize,
}

impl<T: Lanes> Spectrum<T> {
    /// Transforms `weight`, `[outer, inner, 3, 3]`.
    pub(super) fn new(weight: &[T], [outer, inner]: [usize; 2], kernels: Kernels) -> Self {
        let (from, to) = kernels.channels([outer, inner]);
        // Planes a power of two apart would share the sets of a cache.
        let plane = from * to + GROUP;
        let mut values = vec![T::zero(); POINTS * plane];
        let out = Scatter::new(&mut values);
        each(from, from * to >= SHARED, |channel| {
            let row = KernelRow { weight, inner, kernels, plane, to, channel, out: &out };
            Arch::new().dispatch(row);
        });
        Self { values, plane, from, to }
    }

    /// Whether it was made for kernels of these sizes.
    pub(super) fn fits(&self, sizes: [usize; 2], kernels: Kernels) -> bool {
        (self.from, self.to) == kernels.channels(sizes)
    }

    /// Numbers it holds.
    pub(super) fn count(&self) -> usize {
        self.values.len()
    }

    /// The kernels at one point.
    pub(super) fn point(&self, point: usize) -> Matrix<'_, T> {
        let values = &self.values[point * self.plane..][..self.from * self.to];
        Matrix::row_major(values, self.from, self.to)
    }
}

/// The kernels of one `from` channel to all others.
struct KernelRow<'a, T> {
    weight: &'a [T],
    inner: usize,
    kernels: Kernels,
    plane: usize,
    to: usize,
    channel: usize,
    out: &'a Scatter<'a, T>,
}

impl<T: Lanes> KernelRow<'_, T> {
    /// Copies one coefficient of the kernels to the channels `to..`.
    #[inline(always)]
    fn coefficient(&self, out: &mut [T], to: usize, tap: usize) {
        let (start, stride) = match self.kernels {
            Kernels::Forward => ((to * self.inner + self.channel) * 9 + tap, self.inner * 9),
            Kernels::Transposed => ((self.channel * self.inner + to) * 9 + 8 - tap, 9),
        };
        let count = (self.to - to).min(out.len());
        for (lane, out) in out[..count].iter_mut().enumerate() {
            *out = self.weight[start + lane * stride];
        }
    }
}

impl<T: Lanes> WithSimd for KernelRow<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let lanes = T::count(simd);
        let mut line = [T::zero(); GROUP];
        for to in (0..self.to).step_by(lanes) {
            let mut taps = [[T::splat(simd, T::zero()); 3]; 3];
            for tap in 0..9 {
                self.coefficient(&mut line[..lanes], to, tap);
                taps[tap / 3][tap % 3] = T::load(simd, &line);
            }
            let points = transforms::twice::<T, S, transforms::Kernel, 3, 6>(simd, taps);
            let count = lanes.min(self.to - to);
            for point in 0..POINTS {
                T::store(simd, &mut line, points[point / 6][point % 6]);
                let at = point * self.plane + self.channel * self.to + to;
                if count < lanes {
                    // SAFETY: tasks have channels of their own.
                    unsafe { self.out.write(at, &line[..count]) };
                    continue;
                }
                // By vectors, not by a call.
                let vector = [points[point / 6][point % 6]];
                // SAFETY: as above.
                unsafe { self.out.write(at, bytemuck::cast_slice(&vector)) };
            }
        }
    }
}

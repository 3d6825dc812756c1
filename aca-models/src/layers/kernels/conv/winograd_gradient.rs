//! The gradient of a 3x3 correlation's kernels: the transposed form of the same algorithm.
#![allow(unsafe_code, reason = "rows of a scattered slice")]

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::lanes::{GROUP, Lanes, padded};
use super::points::{POINTS, ToPoints, Values};
use super::scratch;
use super::tiles::{Gather, Grid, Images, Run, TILE};
use super::transforms::{self, Transform, twice};
use super::winograd::BLOCK;
use crate::layers::kernels::matmul::{Matrix, Threads, matmul};
use crate::layers::kernels::scatter::{Scatter, each};

/// Elements that the values of one round may take together: what stays in the last-level cache.
const ROUND: usize = 1 << 20;

/// Sums over all pixels the products of `x` and the cotangents `z` of the results, nine a kernel.
///
/// Rounds of tiles follow one another; within a round each point's product is one task. So sums have one
/// order, whatever the number of threads.
///
/// # Shapes
/// `x`: `[batch, inner, ..]`; `z`: `[batch, outer, ..]`; result: `[outer, inner, 3, 3]`.
pub(super) fn kernel_gradient<T: Lanes>(
    x: Images<'_, T>,
    z: Images<'_, T>,
    padding: [usize; 2],
) -> Vec<T> {
    let (inner, outer) = (x.channels, z.channels);
    let grid = Grid::new(z.data.len() / (outer * z.size[0] * z.size[1]), z.size);
    let tiles = (ROUND / POINTS / (padded(inner) + padded(outer))).next_multiple_of(BLOCK);
    let tiles = tiles.min(grid.count().next_multiple_of(BLOCK));
    let row = padded(inner);
    let x = Source { images: x, padding, layout: Values::new(tiles, row), grid };
    let z = Source { images: z, padding: [0; 2], layout: Values::new(tiles, padded(outer)), grid };
    let shared = grid.count() > BLOCK;
    let mut sums = vec![T::zero(); POINTS * outer * row];
    scratch::with(x.layout.size() + z.layout.size(), |memory: &mut [T]| {
        let (x_memory, z_memory) = memory.split_at_mut(x.layout.size());
        for start in (0..grid.count()).step_by(tiles) {
            let range = start..grid.count().min(start + tiles);
            x.transform::<transforms::Data, 6>(range.clone(), x_memory);
            z.transform::<transforms::Cotangent, 4>(range.clone(), z_memory);
            let (x_memory, z_memory) = (&*x_memory, &*z_memory);
            let sums = Scatter::new(&mut sums);
            each(POINTS, shared, |point| {
                // SAFETY: points have planes of their own.
                let sums = unsafe { sums.row(point * outer * row, outer * row) };
                let x = x.point(point, range.len(), x_memory);
                let z = z.point(point, range.len(), z_memory);
                matmul(sums, row, true, z.transposed(), x, Threads::One);
            });
        }
    });
    let mut gradient = vec![T::zero(); outer * inner * 9];
    let out = Scatter::new(&mut gradient);
    each(outer, shared, |channel| {
        // SAFETY: channels have rows of their own.
        let out = unsafe { out.row(channel * inner * 9, inner * 9) };
        Arch::new().dispatch(FromPoints { sums: &sums, channel, outer, row, out });
    });
    gradient
}

/// Images whose tiles go to the points.
struct Source<'a, T> {
    images: Images<'a, T>,
    padding: [usize; 2],
    layout: Values,
    grid: Grid,
}

impl<T: Lanes> Source<'_, T> {
    /// Writes the values of a range of tiles, squares of `N` pixels, to `memory`.
    fn transform<F: Transform<N, 6>, const N: usize>(&self, range: Range<usize>, memory: &mut [T]) {
        let (out, layout, overlap) = (&Scatter::new(memory), self.layout, N - TILE);
        let strip = N * (BLOCK * TILE + overlap) * layout.row;
        let blocks = range.len().div_ceil(BLOCK);
        each(blocks, true, |block| {
            let start = range.start + block * BLOCK;
            scratch::with(strip, |strip: &mut [T]| {
                for run in self.grid.runs(start..range.end.min(start + BLOCK)) {
                    let (images, padding) = (self.images, self.padding);
                    let arch = Arch::new();
                    arch.dispatch(Gather { strip, images, run, padding, overlap });
                    let run = Run { first: run.first + block * BLOCK, ..run };
                    arch.dispatch(ToPoints::<T, F, N>::new(strip, run, layout, out));
                }
            });
        });
    }

    /// The values at one point, a row per tile.
    fn point<'m>(&self, point: usize, tiles: usize, memory: &'m [T]) -> Matrix<'m, T> {
        let memory = &memory[point * self.layout.plane..];
        Matrix::strided(memory, (tiles, self.images.channels), (self.layout.row, 1))
    }
}

/// Transforms the sums at the points to one row of kernels.
struct FromPoints<'a, T> {
    sums: &'a [T],
    channel: usize,
    outer: usize,
    row: usize,
    out: &'a mut [T],
}

impl<T: Lanes> WithSimd for FromPoints<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { sums, channel, outer, row, out } = self;
        let lanes = T::count(simd);
        let mut u = [[T::splat(simd, T::zero()); 6]; 6];
        let mut taps = [T::zero(); 9 * GROUP];
        for (group, out) in out.chunks_mut(9 * lanes).enumerate() {
            for point in 0..POINTS {
                let at = (point * outer + channel) * row + group * lanes;
                u[point / 6][point % 6] = T::load(simd, &sums[at..]);
            }
            let kernels = twice::<T, S, transforms::KernelCotangent, 6, 3>(simd, u);
            for tap in 0..9 {
                T::store(simd, &mut taps[tap * lanes..], kernels[tap / 3][tap % 3]);
            }
            for (at, out) in out.iter_mut().enumerate() {
                *out = taps[at % 9 * lanes + at / 9];
            }
        }
    }
}

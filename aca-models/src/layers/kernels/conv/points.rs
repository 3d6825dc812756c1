//! Values of tiles at the points of the transforms.
#![allow(unsafe_code, reason = "rows of a scattered slice")]

use std::marker::PhantomData;

use pulp::{Simd, WithSimd, bytemuck};

use super::lanes::{GROUP, Lanes};
use super::tiles::{Run, TILE};
use super::transforms::{Transform, twice};
use crate::layers::kernels::scatter::Scatter;

/// Products a tile.
pub(super) const POINTS: usize = 36;

/// How the values of many tiles lie in memory: a plane a point, a row of channels a tile.
#[derive(Clone, Copy)]
pub(super) struct Values {
    pub(super) row: usize,
    pub(super) plane: usize,
}

impl Values {
    /// Room for `tiles` with padded rows of `row`.
    pub(super) fn new(tiles: usize, row: usize) -> Self {
        // A group more than needed: planes a power of two apart would share the sets of a cache.
        Self { row, plane: tiles * row + GROUP }
    }

    /// Elements of all planes.
    pub(super) fn size(self) -> usize {
        POINTS * self.plane
    }
}

/// Transforms by `F` the pixels under a run of tiles, `N` a side and with channels last.
pub(super) struct ToPoints<'a, T, F, const N: usize> {
    strip: &'a [T],
    run: Run,
    layout: Values,
    out: &'a Scatter<'a, T>,
    transform: PhantomData<F>,
}

impl<'a, T, F, const N: usize> ToPoints<'a, T, F, N> {
    /// Transforms `strip`; the first of the run's tiles has row `run.first` of `out`.
    pub(super) fn new(strip: &'a [T], run: Run, layout: Values, out: &'a Scatter<'a, T>) -> Self {
        Self { strip, run, layout, out, transform: PhantomData }
    }
}

impl<T: Lanes, F: Transform<N, 6>, const N: usize> WithSimd for ToPoints<'_, T, F, N> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { strip, run, layout: Values { row, plane }, out, .. } = self;
        let width = run.count * TILE + N - TILE;
        let mut pixels = [[T::splat(simd, T::zero()); N]; N];
        for tile in 0..run.count {
            for channel in (0..row).step_by(T::count(simd)) {
                for (y, line) in pixels.iter_mut().enumerate() {
                    for (x, pixel) in line.iter_mut().enumerate() {
                        let at = (y * width + tile * TILE + x) * row + channel;
                        *pixel = T::load(simd, &strip[at..]);
                    }
                }
                let values = twice::<T, S, F, N, 6>(simd, pixels);
                for point in 0..POINTS {
                    let at = point * plane + (run.first + tile) * row + channel;
                    let vector = [values[point / 6][point % 6]];
                    // SAFETY: tiles have rows of their own.
                    unsafe { out.write(at, bytemuck::cast_slice(&vector)) };
                }
            }
        }
    }
}

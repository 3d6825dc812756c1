//! 3x3 correlations of stride 1 by Winograd's F(4x4, 3x3): transforms over vectors of channels, and 36
//! matrix products over tiles.
#![allow(unsafe_code, reason = "rows of a scattered slice")]

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd, bytemuck};

use super::lanes::{GROUP, Lanes, padded};
use super::points::{POINTS, ToPoints, Values};
use super::spectrum::Spectrum;
use super::tiles::{Gather, Grid, Images, Rectangle, Run, TILE};
use super::transpose::transpose;
use super::{scratch, transforms};
use crate::layers::kernels::matmul::{Matrix, Threads, matmul};
use crate::layers::kernels::scatter::{Scatter, each, written};

/// Tiles that pass through a thread's second-level cache together.
pub(super) const BLOCK: usize = 32;

/// Pixels that the data of a tile has beyond its results.
pub(super) const OVERLAP: usize = 2;

/// Correlates images with kernels, padded with zeros.
///
/// # Shapes
/// `x`: `[batch, from, ..]`; `bias`: `[to]`; result: `[batch, to, ..size]`.
pub(super) fn correlate<T: Lanes>(
    x: Images<'_, T>,
    kernels: &Spectrum<T>,
    bias: Option<&[T]>,
    padding: [usize; 2],
    size: [usize; 2],
) -> Vec<T> {
    let batch = x.data.len() / (x.channels * x.size[0] * x.size[1]);
    let grid = Grid::new(batch, size);
    let pixels = size[0] * size[1];
    let mut padded_bias = vec![T::zero(); padded(kernels.to)];
    if let Some(bias) = bias {
        padded_bias[..bias.len()].copy_from_slice(bias);
    }
    // SAFETY: the tiles cover every pixel of every channel.
    unsafe {
        written(batch * kernels.to * pixels, |out| {
            let task = Task { x, kernels, bias: padded_bias, padding, size, grid, out };
            let blocks = grid.count().div_ceil(BLOCK);
            each(blocks, true, |block| task.run(block));
        })
    }
}

/// What the blocks of tiles share.
struct Task<'a, T> {
    x: Images<'a, T>,
    kernels: &'a Spectrum<T>,
    /// One for each padded channel.
    bias: Vec<T>,
    padding: [usize; 2],
    size: [usize; 2],
    grid: Grid,
    out: &'a Scatter<'a, T>,
}

impl<T: Lanes> Task<'_, T> {
    fn run(&self, block: usize) {
        let tiles = block * BLOCK..self.grid.count().min((block + 1) * BLOCK);
        let (values, products) = (
            Values::new(BLOCK, padded(self.kernels.from)),
            Values::new(BLOCK, padded(self.kernels.to)),
        );
        let strip = (TILE + OVERLAP) * (BLOCK * TILE + OVERLAP) * values.row;
        let strip = strip.max(BLOCK * TILE * TILE * GROUP);
        scratch::with(values.size() + products.size() + strip, |memory: &mut [T]| {
            let (value_memory, memory) = memory.split_at_mut(values.size());
            let (product_memory, strip) = memory.split_at_mut(products.size());
            self.transform(tiles.clone(), values, value_memory, strip);
            self.multiply(tiles.len(), (values, value_memory), (products, product_memory));
            for run in self.grid.runs(tiles) {
                let memory = &product_memory[run.first * products.row..];
                Arch::new().dispatch(Results { task: self, run, products, memory, stage: strip });
            }
        });
    }

    fn transform(&self, tiles: Range<usize>, layout: Values, memory: &mut [T], strip: &mut [T]) {
        let (arch, padding, out) = (Arch::new(), self.padding, Scatter::new(memory));
        for run in self.grid.runs(tiles) {
            arch.dispatch(Gather { strip, images: self.x, run, padding, overlap: OVERLAP });
            arch.dispatch(ToPoints::<T, transforms::Data, 6>::new(strip, run, layout, &out));
        }
    }

    fn multiply(&self, tiles: usize, values: (Values, &[T]), products: (Values, &mut [T])) {
        for point in 0..POINTS {
            let (layout, memory) = &values;
            let values = &memory[point * layout.plane..];
            let values = Matrix::strided(values, (tiles, self.kernels.from), (layout.row, 1));
            let products_at = &mut products.1[point * products.0.plane..];
            matmul(
                products_at,
                products.0.row,
                false,
                values,
                self.kernels.point(point),
                Threads::One,
            );
        }
    }
}

/// Transforms the products of a run of tiles to results.
struct Results<'a, T> {
    task: &'a Task<'a, T>,
    run: Run,
    products: Values,
    memory: &'a [T],
    /// Room for the run's results of one group of channels, channels last.
    stage: &'a mut [T],
}

impl<T: Lanes> Results<'_, T> {
    /// Transforms the products of one group of channels.
    #[inline(always)]
    fn transform<S: Simd>(&mut self, simd: S, group: usize, (rows, columns): (usize, usize)) {
        let Values { row, plane } = self.products;
        let mut m = [[T::splat(simd, T::zero()); 6]; 6];
        for channel in (group..group + GROUP).step_by(T::count(simd)) {
            let bias = T::load(simd, &self.task.bias[channel..]);
            for tile in 0..self.run.count {
                for point in 0..POINTS {
                    let at = point * plane + tile * row + channel;
                    m[point / 6][point % 6] = T::load(simd, &self.memory[at..]);
                }
                let results = transforms::twice::<T, S, transforms::Results, 6, 4>(simd, m);
                let (first, count) = (tile * TILE, TILE.min(columns - tile * TILE));
                for (y, results) in results.iter().enumerate().take(rows) {
                    for (x, &result) in results.iter().enumerate().take(count) {
                        let at = (y * columns + first + x) * GROUP + channel - group;
                        T::store(simd, &mut self.stage[at..], T::plus(simd, result, bias));
                    }
                }
            }
        }
    }
}

impl<T: Lanes> WithSimd for Results<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let (to, [height, length]) = (self.task.kernels.to, self.task.size);
        let pixels = Rectangle::of_run(self.run, [height, length]);
        let [mut spare, mut turned] = [[T::zero(); GROUP * GROUP]; 2];
        for group in (0..to).step_by(GROUP) {
            self.transform(simd, group, pixels.size());
            let plane = (self.run.image * to + group) * height * length;
            for piece in pixels.pieces() {
                transpose(&self.stage[piece.pixel * GROUP..], &mut spare, &mut turned);
                let channels = GROUP.min(to - group);
                for (channel, from) in turned.chunks_exact(GROUP).take(channels).enumerate() {
                    let at = plane + channel * height * length + piece.at;
                    if piece.count < GROUP {
                        // SAFETY: tiles have pixels of their own.
                        unsafe { self.task.out.write(at, &from[..piece.count]) };
                        continue;
                    }
                    // A whole group by vectors, not by a call.
                    for next in (0..GROUP).step_by(T::count(simd)) {
                        let vector = [T::load(simd, &from[next..])];
                        // SAFETY: as above.
                        unsafe { self.task.out.write(at + next, bytemuck::cast_slice(&vector)) };
                    }
                }
            }
        }
    }
}

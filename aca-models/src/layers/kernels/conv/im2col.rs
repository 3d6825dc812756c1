//! Correlations of any kernel and stride as matrix products: patches of images become the columns of a
//! matrix, some rows of results at a time.
#![allow(unsafe_code, reason = "rows of a scattered slice")]

use std::ops::Range;

use super::lanes::Lanes;
use super::transpose::turn;
use super::{Geometry, scratch};
use crate::layers::kernels::matmul::{Matrix, Threads, matmul};
use crate::layers::kernels::scatter::{Scatter, each, written};

/// Columns of a round that a thread has to itself: its patches stay in the second-level cache.
const OWN: usize = 256;

/// Columns of a round that all threads share, at most.
const COMMON: usize = 2048;

/// Elements that the matrices of a common round may take, unless its columns would be fewer than [`OWN`].
const ROUND: usize = 1 << 21;

/// Tasks from which every thread has rounds to itself, and multiplications: 40 us on one thread.
const TASKS: usize = 4;
const PRODUCTS: usize = 1 << 22;

/// Channels of cotangents below which they are turned over for the weight's gradient, which so comes out
/// turned too: `gemm` packs matrices slowly when their inner rows are far apart, and few channels do not
/// repay it. Measured in GFLOP/s: 64 channels 59 against 219, 128 channels 107 against 250, 512 alike.
const TURNED: usize = 256;

/// Elements from which the copies of a round are shared among threads: 40 us on one, where handing work to
/// rayon's threads takes 15 us.
const SHARED: usize = 1 << 18;

/// See [`super::correlate`].
pub(super) fn correlate<T: Lanes>(
    x: &[T],
    weight: &[T],
    bias: Option<&[T]>,
    g: Geometry,
) -> Vec<T> {
    let size = g.batch * g.outer * g.plane();
    // SAFETY: the rounds cover every row of results.
    unsafe {
        written(size, |out| {
            tasks(g, 1, |round, memory: &mut [T]| {
                let (patches, memory) = memory.split_at_mut(g.taps() * round.columns());
                let (products, _) = memory.split_at_mut(g.outer * round.columns());
                round.patches(x, patches);
                let patches = Matrix::row_major(patches, g.taps(), round.columns());
                let weight = Matrix::row_major(weight, g.outer, g.taps());
                matmul(products, round.columns(), false, weight, patches, round.threads);
                round.spread(products, bias, out);
            });
        })
    }
}

/// See [`super::input_gradient`].
pub(super) fn input_gradient<T: Lanes>(z: &[T], weight: &[T], g: Geometry) -> Vec<T> {
    let mut gradient = vec![T::zero(); g.batch * g.inner * g.size[0] * g.size[1]];
    let out = Scatter::new(&mut gradient);
    tasks(g, g.result[0], |round, memory: &mut [T]| {
        let columns = round.columns();
        let (patches, memory) = memory.split_at_mut(g.taps() * columns);
        let (cotangents, _) = memory.split_at_mut(g.outer * columns);
        round.columns_of(z, cotangents);
        let cotangents = Matrix::row_major(cotangents, g.outer, columns);
        let weight = Matrix::row_major(weight, g.outer, g.taps()).transposed();
        matmul(patches, columns, false, weight, cotangents, round.threads);
        round.add_patches(patches, &out);
    });
    gradient
}

/// See [`super::weight_gradient`].
pub(super) fn weight_gradient<T: Lanes>(x: &[T], z: &[T], g: Geometry) -> Vec<T> {
    let mut sums = vec![T::zero(); g.taps() * g.outer];
    common_rounds(g, |round, memory: &mut [T]| {
        let columns = round.columns();
        let (patches, memory) = memory.split_at_mut(g.taps() * columns);
        let (cotangents, turned) = memory.split_at_mut(g.outer * columns);
        round.patches(x, patches);
        round.columns_of(z, cotangents);
        let patches = Matrix::row_major(patches, g.taps(), columns);
        if g.outer < TURNED {
            turn(cotangents, columns, turned);
            let cotangents = Matrix::row_major(turned, columns, g.outer);
            matmul(&mut sums, g.outer, true, patches, cotangents, round.threads);
        } else {
            let cotangents = Matrix::row_major(cotangents, g.outer, columns);
            matmul(&mut sums, g.taps(), true, cotangents, patches.transposed(), round.threads);
        }
    });
    if g.outer >= TURNED {
        return sums;
    }
    let mut gradient = vec![T::zero(); sums.len()];
    turn(&sums, g.outer, &mut gradient);
    gradient
}

/// Runs `body` on rounds that cover all rows of results: side by side where there are enough of them, with
/// `unit` rows that must not be split, and else one after another.
fn tasks<T: Lanes>(g: Geometry, unit: usize, body: impl Fn(Round, &mut [T]) + Send + Sync) {
    let rows = g.batch * g.result[0];
    let step = OWN.div_ceil(g.result[1]).next_multiple_of(unit);
    let products = rows * g.result[1] * g.taps() * g.outer;
    if rows.div_ceil(step) < TASKS || products < PRODUCTS {
        return common_rounds(g, body);
    }
    each(rows.div_ceil(step), true, |task| {
        let range = task * step..rows.min((task + 1) * step);
        rounds(Round { g, rows: range, threads: Threads::One }, OWN, &body);
    });
}

/// Runs `body` on rounds that cover all rows of results one after another and use all threads.
fn common_rounds<T: Lanes>(g: Geometry, body: impl FnMut(Round, &mut [T])) {
    let columns = (ROUND / (g.taps() + 2 * g.outer)).clamp(OWN, COMMON);
    let rows = 0..g.batch * g.result[0];
    rounds(Round { g, rows, threads: Threads::All }, columns, body);
}

/// Splits a round into some of about `columns`, each with memory for its patches and twice for its
/// columns of results.
fn rounds<T: Lanes>(all: Round, columns: usize, mut body: impl FnMut(Round, &mut [T])) {
    let (g, threads) = (all.g, all.threads);
    let step = columns.div_ceil(g.result[1]).min(all.rows.len());
    let size = |rows: usize| (g.taps() + 2 * g.outer) * rows * g.result[1];
    scratch::with(size(step), |memory: &mut [T]| {
        for start in all.rows.clone().step_by(step) {
            let rows = start..all.rows.end.min(start + step);
            let memory = &mut memory[..size(rows.len())];
            body(Round { g, rows, threads }, memory);
        }
    });
}

/// Some rows of results, counted through all images.
#[derive(Clone)]
struct Round {
    g: Geometry,
    rows: Range<usize>,
    threads: Threads,
}

impl Round {
    /// Whether threads share the copy of so many elements.
    fn shares(&self, elements: usize) -> bool {
        self.threads == Threads::All && elements >= SHARED
    }

    fn columns(&self) -> usize {
        self.rows.len() * self.g.result[1]
    }

    /// Writes the patches, `[inner * taps, columns]`.
    fn patches<T: Lanes>(&self, x: &[T], out: &mut [T]) {
        let (g, columns) = (self.g, self.columns());
        let (size, out) = (out.len(), Scatter::new(out));
        each(g.taps(), self.shares(size), |tap| {
            // SAFETY: taps have rows of their own.
            let out = unsafe { out.row(tap * columns, columns) };
            for (row, out) in self.rows.clone().zip(out.chunks_exact_mut(g.result[1])) {
                g.read(x, tap, row, out);
            }
        });
    }

    /// Adds patches to the images that they were taken from.
    fn add_patches<T: Lanes>(&self, patches: &[T], out: &Scatter<'_, T>) {
        let (g, columns) = (self.g, self.columns());
        let taps = g.kernel[0] * g.kernel[1];
        each(g.inner, self.shares(patches.len()), |channel| {
            for (row, at) in self.rows.clone().zip((0..).step_by(g.result[1])) {
                for tap in channel * taps..(channel + 1) * taps {
                    g.add(&patches[tap * columns + at..][..g.result[1]], tap, row, out);
                }
            }
        });
    }

    /// Writes these rows of images of results to a matrix, `[outer, columns]`.
    fn columns_of<T: Lanes>(&self, z: &[T], out: &mut [T]) {
        let (g, columns) = (self.g, self.columns());
        let (size, out) = (out.len(), Scatter::new(out));
        each(g.outer, self.shares(size), |channel| {
            // SAFETY: channels have rows of their own.
            let out = unsafe { out.row(channel * columns, columns) };
            for (place, at) in self.pieces(channel) {
                out[at..at + place.len()].copy_from_slice(&z[place]);
            }
        });
    }

    /// Writes a matrix of results, `[outer, columns]`, to images.
    fn spread<T: Lanes>(&self, products: &mut [T], bias: Option<&[T]>, out: &Scatter<'_, T>) {
        let (columns, size) = (self.columns(), products.len());
        let products = Scatter::new(products);
        each(self.g.outer, self.shares(size), |channel| {
            // SAFETY: channels have rows of their own.
            let products = unsafe { products.row(channel * columns, columns) };
            if let Some(bias) = bias {
                products.iter_mut().for_each(|product| *product += bias[channel]);
            }
            for (place, at) in self.pieces(channel) {
                // SAFETY: channels have planes of their own.
                unsafe { out.write(place.start, &products[at..at + place.len()]) };
            }
        });
    }

    /// The rows of one channel, image by image: their place in the images and their first column.
    fn pieces(&self, channel: usize) -> impl Iterator<Item = (Range<usize>, usize)> {
        let Self { g, rows, .. } = self.clone();
        let [height, length] = g.result;
        (rows.start / height..rows.end.div_ceil(height)).map(move |image| {
            let (first, last) = (image * height, (image + 1) * height);
            let (start, end) = (rows.start.max(first), rows.end.min(last));
            let plane = (image * g.outer + channel) * height * length;
            let place = plane + (start - first) * length..plane + (end - first) * length;
            (place, (start - rows.start) * length)
        })
    }
}

//! Tiles of 4x4 results over a stack of images, and the pieces of images under them with channels last.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::lanes::{GROUP, Lanes, padded};
use super::transpose::transpose;

/// Rows and columns of results in a tile.
pub(super) const TILE: usize = 4;

/// A stack of images, `[batch, channels, rows, columns]`.
#[derive(Clone, Copy)]
pub(super) struct Images<'a, T> {
    pub(super) data: &'a [T],
    pub(super) channels: usize,
    pub(super) size: [usize; 2],
}

/// The tiles over `batch` images, row by row, image by image.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    batch: usize,
    rows: usize,
    columns: usize,
}

/// Neighbours in one row of tiles.
#[derive(Clone, Copy)]
pub(super) struct Run {
    /// Index of the first within the range asked for.
    pub(super) first: usize,
    pub(super) count: usize,
    pub(super) image: usize,
    pub(super) row: usize,
    pub(super) column: usize,
}

impl Grid {
    /// Tiles over images of `size` results.
    pub(super) fn new(batch: usize, size: [usize; 2]) -> Self {
        Self { batch, rows: size[0].div_ceil(TILE), columns: size[1].div_ceil(TILE) }
    }

    /// Number of tiles.
    pub(super) fn count(self) -> usize {
        self.batch * self.rows * self.columns
    }

    /// Splits a range of tiles where rows of tiles end.
    pub(super) fn runs(self, range: Range<usize>) -> impl Iterator<Item = Run> {
        let mut next = range.start;
        std::iter::from_fn(move || {
            let (start, column) = (next, next % self.columns);
            let count = (self.columns - column).min(range.end - start);
            next += count;
            let (image, row) = (start / self.columns / self.rows, start / self.columns % self.rows);
            (count > 0).then_some(Run { first: start - range.start, count, image, row, column })
        })
    }
}

/// A rectangle of pixels inside an image.
#[derive(Clone, Copy)]
pub(super) struct Rectangle {
    start: usize,
    rows: usize,
    columns: usize,
    length: usize,
}

/// At most [`GROUP`] pixels that lie side by side in memory.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    /// The first one's place in its image.
    pub(super) at: usize,
    /// The first one's index within the rectangle.
    pub(super) pixel: usize,
    pub(super) count: usize,
}

impl Rectangle {
    /// `rows` by `columns` pixels from `(y, x)` on, in an image with rows of `length`.
    pub(super) fn new(
        (y, x): (usize, usize),
        (rows, columns): (usize, usize),
        length: usize,
    ) -> Self {
        Self { start: y * length + x, rows, columns, length }
    }

    /// The results under a run of tiles.
    pub(super) fn of_run(run: Run, [height, length]: [usize; 2]) -> Self {
        let (y, x) = (run.row * TILE, run.column * TILE);
        let size = (TILE.min(height - y), (run.count * TILE).min(length - x));
        Self::new((y, x), size, length)
    }

    /// Rows and columns.
    pub(super) fn size(self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    /// Splits the rectangle; whole rows lie side by side.
    #[inline(always)]
    pub(super) fn pieces(self) -> impl Iterator<Item = Piece> {
        let whole = self.columns == self.length;
        let (stretches, size) =
            if whole { (1, self.rows * self.columns) } else { (self.rows, self.columns) };
        (0..stretches).flat_map(move |stretch| {
            let (at, pixel) = (self.start + stretch * self.length, stretch * size);
            (0..size).step_by(GROUP).map(move |next| Piece {
                at: at + next,
                pixel: pixel + next,
                count: GROUP.min(size - next),
            })
        })
    }
}

/// Copies the pixels under a run of tiles, `overlap` more on the far sides and starting `padding` before,
/// with channels last; pixels outside the image are zero, and so are channels beyond the last.
///
/// # Shapes
/// `strip`: `[TILE + overlap, count * TILE + overlap, padded channels]`.
pub(super) struct Gather<'a, T> {
    pub(super) strip: &'a mut [T],
    pub(super) images: Images<'a, T>,
    pub(super) run: Run,
    pub(super) padding: [usize; 2],
    pub(super) overlap: usize,
}

impl<T: Lanes> Gather<'_, T> {
    /// The part of the pixels along one axis that an image of `size` has.
    fn inside(&self, axis: usize, origin: usize, count: usize) -> Range<usize> {
        let (padding, size) = (self.padding[axis], self.images.size[axis]);
        padding.saturating_sub(origin)..count.min((size + padding).saturating_sub(origin))
    }
}

impl<T: Lanes> WithSimd for Gather<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (y0, x0) = (self.run.row * TILE, self.run.column * TILE);
        let width = self.run.count * TILE + self.overlap;
        let ys = self.inside(0, y0, TILE + self.overlap);
        let xs = self.inside(1, x0, width);
        let Self { strip, images, run, padding, overlap } = self;
        let (row, [height, length]) = (padded(images.channels), images.size);
        let strip = &mut strip[..(TILE + overlap) * width * row];
        strip.fill(T::zero());
        if ys.is_empty() || xs.is_empty() {
            return;
        }
        let corner = (y0 + ys.start - padding[0], x0 + xs.start - padding[1]);
        let pixels = Rectangle::new(corner, (ys.len(), xs.len()), length);
        let [mut square, mut spare, mut turned] = [[T::zero(); GROUP * GROUP]; 3];
        for group in (0..images.channels).step_by(GROUP) {
            let channels = GROUP.min(images.channels - group);
            let plane = (run.image * images.channels + group) * height * length;
            for piece in pixels.pieces() {
                let from = &images.data[plane + piece.at..];
                square[channels * GROUP..].fill(T::zero());
                let rows = square.chunks_exact_mut(GROUP).take(channels);
                let rows = rows.zip(from.chunks(height * length));
                // Whole groups go by vectors; in one loop compilers would make calls of both.
                if piece.count == GROUP {
                    rows.for_each(|(to, from)| copy(simd, to, from));
                } else {
                    rows.for_each(|(to, from)| {
                        to[..piece.count].copy_from_slice(&from[..piece.count]);
                    });
                }
                transpose(&square, &mut spare, &mut turned);
                let (mut y, mut x) = (piece.pixel / xs.len(), piece.pixel % xs.len());
                for from in turned.chunks_exact(GROUP).take(piece.count) {
                    let at = ((ys.start + y) * width + xs.start + x) * row + group;
                    copy(simd, &mut strip[at..], from);
                    x += 1;
                    if x == xs.len() {
                        (y, x) = (y + 1, 0);
                    }
                }
            }
        }
    }
}

/// Copies a group of elements.
#[inline(always)]
fn copy<T: Lanes, S: Simd>(simd: S, to: &mut [T], from: &[T]) {
    let (to, from) = (&mut to[..GROUP], &from[..GROUP]);
    for at in (0..GROUP).step_by(T::count(simd)) {
        T::store(simd, &mut to[at..], T::load(simd, &from[at..]));
    }
}

//! Sizes of a correlation and where its patches lie.
#![allow(unsafe_code, reason = "rows of a scattered slice")]

use std::ops::Range;

use super::lanes::Lanes;
use super::tiles::TILE;
use crate::layers::kernels::scatter::Scatter;

/// Sizes of a correlation; pairs are (vertical, horizontal).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Geometry {
    /// Images.
    pub(crate) batch: usize,
    /// Channels of the input.
    pub(crate) inner: usize,
    /// Channels of the result.
    pub(crate) outer: usize,
    /// Pixels of the input.
    pub(crate) size: [usize; 2],
    /// Pixels of the kernels.
    pub(crate) kernel: [usize; 2],
    /// Pixels from one place of the kernels to the next.
    pub(crate) stride: usize,
    /// Zeros on each side.
    pub(crate) padding: [usize; 2],
    /// Pixels of the result.
    pub(crate) result: [usize; 2],
}

impl Geometry {
    /// Pixels of one channel of the result.
    pub(super) fn plane(self) -> usize {
        self.result[0] * self.result[1]
    }

    /// Entries of one kernel through all its channels.
    pub(super) fn taps(self) -> usize {
        self.inner * self.kernel[0] * self.kernel[1]
    }

    /// Whether Winograd's algorithm applies and is faster than patches.
    ///
    /// Its kernels take 36 numbers for 9, which only many tiles repay, and it handles channels in groups.
    pub(super) fn suits_winograd(self) -> bool {
        let tiles = self.result.map(|size| size.div_ceil(TILE)).iter().product::<usize>();
        let applies =
            self.kernel == [3, 3] && self.stride == 1 && self.padding.iter().all(|&p| p <= 2);
        applies && self.batch * tiles >= 32 && self.inner.min(self.outer) >= 8
    }

    /// Where a tap of a row of results lies: the first element of its row of the input, and the results
    /// whose pixels are inside, with the first one's column.
    #[inline(always)]
    fn line(self, tap: usize, row: usize) -> Option<(usize, Range<usize>, usize)> {
        let [rows, columns] = self.kernel;
        let (channel, y, x) = (tap / columns / rows, tap / columns % rows, tap % columns);
        let (image, row) = (row / self.result[0], row % self.result[0]);
        let line = (row * self.stride + y).checked_sub(self.padding[0])?;
        if line >= self.size[0] {
            return None;
        }
        let start = self.padding[1].saturating_sub(x).div_ceil(self.stride);
        let end = (self.size[1] + self.padding[1]).saturating_sub(x).div_ceil(self.stride);
        let range = start..end.min(self.result[1]);
        if range.is_empty() {
            return None;
        }
        let first = range.start * self.stride + x - self.padding[1];
        let plane = image * self.inner + channel;
        Some(((plane * self.size[0] + line) * self.size[1], range, first))
    }

    /// Reads a tap of a row of results.
    #[inline(always)]
    pub(super) fn read<T: Lanes>(self, x: &[T], tap: usize, row: usize, out: &mut [T]) {
        let Some((line, inside, first)) = self.line(tap, row) else {
            return out.fill(T::zero());
        };
        out[..inside.start].fill(T::zero());
        out[inside.end..].fill(T::zero());
        let (from, out) = (&x[line..line + self.size[1]], &mut out[inside]);
        if self.stride == 1 {
            return out.copy_from_slice(&from[first..first + out.len()]);
        }
        for (out, from) in out.iter_mut().zip(from[first..].iter().step_by(self.stride)) {
            *out = *from;
        }
    }

    /// Adds a tap of a row of results to the pixels that [`read`](Self::read) reads.
    #[inline(always)]
    pub(super) fn add<T: Lanes>(self, from: &[T], tap: usize, row: usize, x: &Scatter<'_, T>) {
        let Some((line, inside, first)) = self.line(tap, row) else { return };
        // SAFETY: the caller's task has the channel of this tap to itself.
        let to = unsafe { x.row(line, self.size[1]) };
        for (to, from) in to[first..].iter_mut().step_by(self.stride).zip(&from[inside]) {
            *to += *from;
        }
    }
}

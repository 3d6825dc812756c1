//! Sums over channels: moments, and what cotangents add up to.

use pulp::Arch;
use rayon::prelude::*;

use super::passes::{sum, sums};
use super::{Norm, SHARED, Scale};
use crate::Real;

/// Elements of a block whose mean is subtracted before squares are taken: it stays in the first-level
/// cache between the two.
const BLOCK: usize = 1024;

/// Mean and biased variance of a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Moments {
    /// The mean.
    pub(crate) mean: f64,
    /// The mean square of what is left without it.
    pub(crate) variance: f64,
}

/// Moments that are put together from those of parts, by the rule of Chan, Golub and LeVeque (1979):
/// nothing cancels however far the mean is from zero.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Parts {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Parts {
    /// Takes in the moments of `count` numbers more.
    #[inline(always)]
    pub(crate) fn add(&mut self, count: f64, moments: Moments) {
        let (total, off) = (self.count + count, moments.mean - self.mean);
        self.squares += moments.variance * count + off * off * self.count * count / total;
        self.mean += off * count / total;
        self.count = total;
    }

    /// The moments of all.
    pub(crate) fn moments(self) -> Moments {
        Moments { mean: self.mean, variance: self.squares / self.count }
    }
}

/// What the moments of a normalisation depend on.
#[derive(Clone, Copy)]
pub(crate) enum Through<'a> {
    /// Nothing: they were given.
    Nothing,
    /// Its input.
    Own,
    /// Its input and that of others.
    All {
        /// The [`Norm::cotangent_sums`] of all.
        sums: &'a [[f64; 2]],
        /// Numbers of a channel, of all.
        count: f64,
    },
}

/// What cotangents of a channel add up to over the numbers that its moments are of.
#[derive(Clone, Copy)]
pub(super) struct Flow {
    /// Of `z` and of `z (x - mean)`.
    pub(super) sums: [f64; 2],
    /// How many these numbers are.
    pub(super) count: f64,
}

impl<T: Real> Norm<'_, T> {
    /// Mean and variance of every channel of `x`.
    pub(crate) fn batch_moments(self, x: &[T]) -> Vec<Moments> {
        self.of_channels(
            #[inline(always)]
            |channel| self.moments(x, channel),
        )
    }

    /// The sums of `z` and of `z (x - mean)` over every channel.
    pub(crate) fn cotangent_sums(self, xz: [&[T]; 2], moments: &[Moments]) -> Vec<[f64; 2]> {
        self.of_channels(
            #[inline(always)]
            |channel| self.sums(xz, channel, self.scale(channel, moments[channel])),
        )
    }

    fn of_channels<R: Send>(self, of: impl Fn(usize) -> R + Send + Sync) -> Vec<R> {
        let of = |channel| {
            Arch::new().dispatch(
                #[inline(always)]
                || of(channel),
            )
        };
        let channels = 0..self.planes.channels;
        if self.planes.size() < SHARED {
            return channels.map(of).collect();
        }
        channels.into_par_iter().map(of).collect()
    }

    /// Mean and variance by blocks.
    #[inline(always)]
    pub(super) fn moments(self, x: &[T], channel: usize) -> Moments {
        let mut all = Parts::default();
        for start in self.planes.starts(channel) {
            for block in x[start..start + self.planes.pixels].chunks(BLOCK) {
                let count = block.len() as f64;
                let mean = sum(block, |x| x.to_f64()) / count;
                let square = |x: T| (x.to_f64() - mean) * (x.to_f64() - mean);
                let squares = sum(block, square);
                all.add(count, Moments { mean, variance: squares / count });
            }
        }
        all.moments()
    }

    /// The sums of `z` and of `z (x - mean)` over a channel.
    #[inline(always)]
    pub(super) fn sums(self, [x, z]: [&[T]; 2], channel: usize, scale: Scale<T>) -> [f64; 2] {
        let mut total = [0.0; 2];
        for start in self.planes.starts(channel) {
            let pairs = [x, z].map(|x| &x[start..start + self.planes.pixels]);
            let [sum, product] = sums(pairs, |x, z| {
                let z = self.passed(scale, x, z);
                [z.to_f64(), (z * (x - scale.mean)).to_f64()]
            });
            total = [total[0] + sum, total[1] + product - scale.rest * sum];
        }
        total
    }
}

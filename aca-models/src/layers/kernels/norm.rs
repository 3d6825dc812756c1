//! Normalisation of channels over batches of images; every channel is one task, small enough to stay in a
//! second-level cache between its passes.
#![allow(unsafe_code, reason = "rows of a scattered slice")]

use pulp::Arch;

use self::passes::map;
use self::statistics::Flow;
pub(crate) use self::statistics::{Moments, Parts, Through};
use super::scatter::{Scatter, each, written};
use crate::Real;

mod passes;
mod statistics;

/// Elements from which channels are shared among threads. Measured on a core of an AVX-512 server: 65 536 take
/// 36 us, and handing work to rayon's threads takes 15 us.
const SHARED: usize = 1 << 16;

/// Sizes of a batch of images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Planes {
    /// Images.
    pub(crate) batch: usize,
    /// Channels of an image.
    pub(crate) channels: usize,
    /// Pixels of a channel.
    pub(crate) pixels: usize,
}

impl Planes {
    /// Elements of one channel.
    pub(crate) fn count(self) -> usize {
        self.batch * self.pixels
    }

    fn size(self) -> usize {
        self.channels * self.count()
    }

    /// Where the planes of a channel begin.
    fn starts(self, channel: usize) -> impl Iterator<Item = usize> {
        (0..self.batch).map(move |image| (image * self.channels + channel) * self.pixels)
    }
}

/// `weight * (x - mean) / sqrt(variance + eps) + bias` for every channel, cut off below zero if `relu`.
#[derive(Clone, Copy)]
pub(crate) struct Norm<'a, T> {
    /// Sizes.
    pub(crate) planes: Planes,
    /// One a channel.
    pub(crate) weight: &'a [T],
    /// One a channel.
    pub(crate) bias: &'a [T],
    /// Added to variances.
    pub(crate) eps: f64,
    /// Whether the result is cut off.
    pub(crate) relu: bool,
}

/// Cotangents of a normalisation.
pub(crate) struct Pulled<T> {
    /// Of the input.
    pub(crate) x: Vec<T>,
    /// Of the weight.
    pub(crate) weight: Vec<T>,
    /// Of the bias.
    pub(crate) bias: Vec<T>,
}

/// What a channel needs of its moments and parameters.
#[derive(Clone, Copy)]
struct Scale<T> {
    mean: T,
    /// What rounding took from the mean.
    rest: f64,
    slope: T,
    /// With the rest of the mean taken in.
    bias: T,
    /// One over the standard deviation.
    inverse: f64,
}

impl<T: Real> Scale<T> {
    /// The result before it is cut off.
    #[inline(always)]
    fn apply(self, x: T) -> T {
        (x - self.mean) * self.slope + self.bias
    }
}

impl<T: Real> Norm<'_, T> {
    /// Normalises by the moments given, or by those of `x`; returns the moments too.
    pub(crate) fn forward(self, x: &[T], given: Option<&[Moments]>) -> (Vec<T>, Vec<Moments>) {
        let planes = self.planes;
        let mut moments = vec![Moments::default(); planes.channels];
        let found = Scatter::new(&mut moments);
        // SAFETY: channels have planes of their own, and every one is written.
        let values = unsafe {
            written(planes.size(), |out| {
                each(planes.channels, planes.size() >= SHARED, |channel| {
                    let given = given.map(|given| given[channel]);
                    let moments = Arch::new().dispatch(
                        #[inline(always)]
                        || {
                            let moments = given.unwrap_or_else(|| self.moments(x, channel));
                            self.normalise(x, channel, moments, out);
                            moments
                        },
                    );
                    found.write(channel, &[moments]);
                });
            })
        };
        (values, moments)
    }

    fn scale(self, channel: usize, moments: Moments) -> Scale<T> {
        let inverse = 1.0 / (moments.variance + self.eps).sqrt();
        let slope = inverse * self.weight[channel].to_f64();
        let mean = T::from_f64(moments.mean);
        let rest = moments.mean - mean.to_f64();
        let bias = T::from_f64(self.bias[channel].to_f64() - rest * slope);
        Scale { mean, rest, slope: T::from_f64(slope), bias, inverse }
    }

    #[inline(always)]
    fn normalise(self, x: &[T], channel: usize, moments: Moments, out: &Scatter<'_, T>) {
        let scale = self.scale(channel, moments);
        let low = if self.relu { T::zero() } else { T::from_f64(f64::NEG_INFINITY) };
        for start in self.planes.starts(channel) {
            let plane = &x[start..start + self.planes.pixels];
            let value = |x, _| {
                let y = scale.apply(x);
                // Written so that NaN stays.
                if y < low { low } else { y }
            };
            // SAFETY: the task has its channel to itself.
            unsafe { map([plane, plane], start, out, value) };
        }
    }

    /// Pulls the cotangent `z` back; `through` says what the moments depend on.
    pub(crate) fn pull(
        self,
        [x, z]: [&[T]; 2],
        moments: &[Moments],
        through: Through<'_>,
    ) -> Pulled<T> {
        let planes = self.planes;
        let mut weight = vec![T::zero(); planes.channels];
        let mut bias = weight.clone();
        let (weights, biases) = (Scatter::new(&mut weight), Scatter::new(&mut bias));
        // SAFETY: channels have planes of their own, and every one is written.
        let x = unsafe {
            written(planes.size(), |out| {
                each(planes.channels, planes.size() >= SHARED, |channel| {
                    let scale = self.scale(channel, moments[channel]);
                    let [sum, product] = Arch::new().dispatch(
                        #[inline(always)]
                        || {
                            let sums = self.sums([x, z], channel, scale);
                            let flow = match through {
                                Through::Nothing => Flow { sums: [0.0; 2], count: 1.0 },
                                Through::Own => Flow { sums, count: planes.count() as f64 },
                                Through::All { sums, count } => Flow { sums: sums[channel], count },
                            };
                            self.pull_channel([x, z], channel, scale, flow, out);
                            sums
                        },
                    );
                    weights.write(channel, &[T::from_f64(product * scale.inverse)]);
                    biases.write(channel, &[T::from_f64(sum)]);
                });
            })
        };
        Pulled { x, weight, bias }
    }

    /// The part of a cotangent that passes the cut.
    #[inline(always)]
    fn passed(self, scale: Scale<T>, x: T, z: T) -> T {
        if self.relu && scale.apply(x) <= T::zero() { T::zero() } else { z }
    }

    #[inline(always)]
    fn pull_channel(
        self,
        [x, z]: [&[T]; 2],
        channel: usize,
        scale: Scale<T>,
        Flow { sums: [sum, product], count }: Flow,
        out: &Scatter<'_, T>,
    ) {
        let along = product * scale.inverse * scale.inverse / count;
        let mean = T::from_f64(sum / count - scale.rest * along);
        let along = T::from_f64(along);
        for start in self.planes.starts(channel) {
            let pairs = [x, z].map(|x| &x[start..start + self.planes.pixels]);
            let value = |x, z| {
                let z = self.passed(scale, x, z);
                scale.slope * (z - mean - (x - scale.mean) * along)
            };
            // SAFETY: the task has its channel to itself.
            unsafe { map(pairs, start, out, value) };
        }
    }
}

//! Spans of time and lists of times inside them.

use candle_core::Tensor;

use crate::{Batching, Error, Result};

/// Where a solve starts and ends: one span for all samples, or one for each.
///
/// Functions that take spans also take a tuple, or a list with one tuple for each sample.
#[derive(Clone, Debug, PartialEq)]
pub enum Spans {
    /// From the first time to the second, for the whole state or for every sample.
    Shared((f64, f64)),
    /// One for each sample; they need [`Batching::PerSample`].
    PerSample(Vec<(f64, f64)>),
}

impl From<(f64, f64)> for Spans {
    fn from(span: (f64, f64)) -> Self {
        Self::Shared(span)
    }
}

impl From<Vec<(f64, f64)>> for Spans {
    fn from(spans: Vec<(f64, f64)>) -> Self {
        Self::PerSample(spans)
    }
}

impl From<&[(f64, f64)]> for Spans {
    fn from(spans: &[(f64, f64)]) -> Self {
        Self::PerSample(spans.to_vec())
    }
}

impl<const N: usize> From<[(f64, f64); N]> for Spans {
    fn from(spans: [(f64, f64); N]) -> Self {
        Self::PerSample(spans.to_vec())
    }
}

impl Spans {
    /// Lists the spans of a solve from `y0`: one where the state steps as a whole, else one for each sample.
    ///
    /// # Errors
    /// [`Error::InvalidSpan`]; [`Error::SharedSteps`] for spans of samples that share their steps; [`Error::NoBatch`] and
    /// [`Error::SampleCount`] where there is not one for each row of the state.
    pub fn resolve(&self, batching: Batching, y0: &Tensor) -> Result<Vec<TimeSpan>> {
        let count = match batching {
            Batching::Shared => 1,
            Batching::PerSample => {
                *y0.dims().first().ok_or(Error::NoBatch { shape: Vec::new() })?
            }
        };
        match self {
            &Self::Shared((t0, t1)) => Ok(vec![TimeSpan::new(t0, t1)?; count]),
            Self::PerSample(_) if batching == Batching::Shared => {
                Err(Error::SharedSteps { what: "spans" })
            }
            Self::PerSample(spans) if spans.len() != count => {
                Err(Error::SampleCount { what: "spans", got: spans.len(), expected: count })
            }
            Self::PerSample(spans) => spans.iter().map(|&(t0, t1)| TimeSpan::new(t0, t1)).collect(),
        }
    }

    /// The start of the span, or of the first one.
    pub fn t0(&self) -> f64 {
        match self {
            Self::Shared((t0, _)) => *t0,
            Self::PerSample(spans) => spans.first().map_or(0.0, |span| span.0),
        }
    }
}

/// A span of time from `t0` to `t1`, in either direction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimeSpan {
    /// Where the solve starts.
    pub t0: f64,
    /// Where the solve ends; smaller than `t0` when integrating backward in time.
    pub t1: f64,
}

impl TimeSpan {
    /// Returns the span.
    ///
    /// # Errors
    /// [`Error::InvalidSpan`] when an end is NaN or infinite, or the length overflows.
    pub fn new(t0: f64, t1: f64) -> Result<Self> {
        if (t1 - t0).is_finite() { Ok(Self { t0, t1 }) } else { Err(Error::InvalidSpan { t0, t1 }) }
    }

    /// Direction of the span: 1, or -1 backward in time.
    pub fn sign(&self) -> f64 {
        if self.t1 < self.t0 { -1.0 } else { 1.0 }
    }

    /// Whether the span has no length.
    pub fn is_empty(&self) -> bool {
        self.t0 == self.t1
    }

    /// Whether `t` lies in the span, its ends included.
    pub fn contains(&self, t: f64) -> bool {
        self.t0.min(self.t1) <= t && t <= self.t0.max(self.t1)
    }

    /// Whether `a` comes before `b` in the span's direction.
    pub fn before(&self, a: f64, b: f64) -> bool {
        (b - a) * self.sign() > 0.0
    }

    /// Checks that `ts` are finite, run in the span's direction without repetition, and lie in it.
    ///
    /// # Errors
    /// [`Error::NoTimes`], [`Error::TimeNotFinite`], [`Error::TimeDuplicated`],
    /// [`Error::TimesOutOfOrder`] or [`Error::TimeOutsideSpan`], for the first offending time.
    pub fn check_times(&self, ts: &[f64]) -> Result<()> {
        if ts.is_empty() {
            return Err(Error::NoTimes);
        }
        for (index, &t) in ts.iter().enumerate() {
            if !t.is_finite() {
                return Err(Error::TimeNotFinite { index, t });
            }
            if index > 0 {
                self.check_order(index, ts[index - 1], t)?;
            }
            self.check_inside(t)?;
        }
        Ok(())
    }

    /// Checks that `t` lies in the span.
    ///
    /// # Errors
    /// [`Error::TimeOutsideSpan`].
    pub fn check_inside(&self, t: f64) -> Result<()> {
        let &Self { t0, t1 } = self;
        if self.contains(t) { Ok(()) } else { Err(Error::TimeOutsideSpan { t, t0, t1 }) }
    }

    fn check_order(&self, index: usize, previous: f64, t: f64) -> Result<()> {
        let &Self { t0, t1 } = self;
        if t == previous {
            Err(Error::TimeDuplicated { index, t })
        } else if !self.before(previous, t) {
            Err(Error::TimesOutOfOrder { index, t, previous, t0, t1 })
        } else {
            Ok(())
        }
    }
}

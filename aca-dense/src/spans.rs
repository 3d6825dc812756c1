//! What each sample of a batch is asked for.

use aca_core::{Error, Result, TimeSpan};
use candle_core::{DType, Tensor};

use crate::SaveAt;

/// The spans of a batch whose samples step on their own.
#[derive(Clone, Debug, PartialEq)]
pub enum Spans {
    /// The same for all samples.
    Alike((f64, f64)),
    /// One a sample.
    Each(Vec<(f64, f64)>),
}

impl From<(f64, f64)> for Spans {
    fn from(span: (f64, f64)) -> Self {
        Self::Alike(span)
    }
}

impl From<Vec<(f64, f64)>> for Spans {
    fn from(spans: Vec<(f64, f64)>) -> Self {
        Self::Each(spans)
    }
}

impl Spans {
    /// Spells out the spans of `batch` samples.
    ///
    /// # Errors
    /// [`Error::SampleCount`], [`Error::InvalidSpan`].
    pub fn of_batch(&self, batch: usize) -> Result<Vec<TimeSpan>> {
        match self {
            &Self::Alike((t0, t1)) => Ok(vec![TimeSpan::new(t0, t1)?; batch]),
            Self::Each(spans) => {
                check_count("spans", spans.len(), batch)?;
                spans.iter().map(|&(t0, t1)| TimeSpan::new(t0, t1)).collect()
            }
        }
    }
}

/// What of a batch to keep whose samples step on their own.
#[derive(Clone, Debug, PartialEq)]
pub enum SaveSamples {
    /// The same for all samples.
    Alike(SaveAt),
    /// One a sample, for instance times of each sample's own.
    Each(Vec<SaveAt>),
}

impl From<SaveAt> for SaveSamples {
    fn from(save_at: SaveAt) -> Self {
        Self::Alike(save_at)
    }
}

impl From<Vec<SaveAt>> for SaveSamples {
    fn from(save_at: Vec<SaveAt>) -> Self {
        Self::Each(save_at)
    }
}

impl SaveSamples {
    /// Asks for the times where `mask` is not zero; samples without any keep their end.
    ///
    /// # Shapes
    /// `times`, `mask`: `[batch, times]`.
    ///
    /// # Errors
    /// [`Error::SampleCount`] when the shapes differ.
    pub fn padded(times: &Tensor, mask: &Tensor) -> Result<Self> {
        check_count("masks", mask.elem_count(), times.elem_count())?;
        let times = times.to_dtype(DType::F64)?.to_vec2::<f64>()?;
        let mask = mask.to_dtype(DType::F64)?.to_vec2::<f64>()?;
        let rows = times.into_iter().zip(mask).map(|(times, mask)| {
            let times = times.into_iter().zip(mask).filter(|(_, mask)| *mask != 0.0);
            match times.map(|(t, _)| t).collect::<Vec<_>>() {
                none if none.is_empty() => SaveAt::End,
                times => SaveAt::Times(times),
            }
        });
        Ok(Self::Each(rows.collect()))
    }

    /// Spells out what each of `batch` samples is asked for.
    pub(crate) fn of_batch(&self, batch: usize) -> Result<Vec<SaveAt>> {
        match self {
            Self::Alike(save_at) => Ok(vec![save_at.clone(); batch]),
            Self::Each(each) => {
                check_count("requests", each.len(), batch)?;
                Ok(each.clone())
            }
        }
    }
}

fn check_count(what: &'static str, got: usize, expected: usize) -> Result<()> {
    if got == expected { Ok(()) } else { Err(Error::SampleCount { what, got, expected }) }
}

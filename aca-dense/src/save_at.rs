//! What to keep of a solve.

use aca_core::{Error, Result, TimeSpan};
use candle_core::{DType, Tensor};

/// What to keep of a solve. The choice does not change the steps of an adaptive solve.
#[derive(Clone, Debug, PartialEq)]
pub enum SaveAt {
    /// The state at the end of the span.
    End,
    /// States at these times, which run in the span's direction without repetition.
    Times(Vec<f64>),
    /// The state at the start and after every accepted step.
    Steps,
    /// Everything that is needed to evaluate the solution at any time later.
    Dense,
    /// All of these together; times named twice are kept once.
    All(Vec<SaveAt>),
    /// A request for each sample, if samples step on their own: each sample its own times, for instance.
    PerSample(Vec<SaveAt>),
}

/// A [`SaveAt`] spelled out for one span.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    /// Requested times in the span's direction, each once.
    pub(crate) times: Vec<f64>,
    pub(crate) steps: bool,
    pub(crate) dense: bool,
}

impl SaveAt {
    /// Asks each sample for the times where its row of `mask` is not zero; samples without any keep their end.
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
                none if none.is_empty() => Self::End,
                times => Self::Times(times),
            }
        });
        Ok(Self::PerSample(rows.collect()))
    }

    /// Spells out what one sample of a batch is asked for; a state that steps as a whole has no batch.
    pub(crate) fn resolve(
        &self,
        span: TimeSpan,
        (sample, batch): (usize, Option<usize>),
    ) -> Result<Request> {
        let mut request = Request::default();
        self.collect(span, (sample, batch), &mut request)?;
        request.times.sort_by(|a, b| (a * span.sign()).total_cmp(&(b * span.sign())));
        request.times.dedup();
        Ok(request)
    }

    /// Whether samples may come to have different numbers of outputs.
    pub(crate) fn is_ragged(&self) -> bool {
        match self {
            Self::End | Self::Times(_) | Self::Dense => false,
            Self::Steps | Self::PerSample(_) => true,
            Self::All(parts) => parts.iter().any(Self::is_ragged),
        }
    }

    fn collect(
        &self,
        span: TimeSpan,
        (sample, batch): (usize, Option<usize>),
        request: &mut Request,
    ) -> Result<()> {
        match self {
            Self::End => request.times.push(span.t1),
            Self::Times(times) => {
                span.check_times(times)?;
                request.times.extend(times);
            }
            Self::Steps => {
                request.steps = true;
                request.times.push(span.t0);
            }
            Self::Dense => request.dense = true,
            Self::All(parts) => {
                for part in parts {
                    part.collect(span, (sample, batch), request)?;
                }
            }
            Self::PerSample(each) => {
                let batch = batch.ok_or(Error::SharedSteps { what: "outputs" })?;
                check_count("requests", each.len(), batch)?;
                each[sample].collect(span, (sample, Some(batch)), request)?;
            }
        }
        Ok(())
    }
}

fn check_count(what: &'static str, got: usize, expected: usize) -> Result<()> {
    if got == expected { Ok(()) } else { Err(Error::SampleCount { what, got, expected }) }
}

//! What of a solve to keep.

use aca_core::{Result, TimeSpan};

/// What of a solve to keep.
///
/// None of these changes the steps of an adaptive solve.
#[derive(Clone, Debug, PartialEq)]
pub enum SaveAt {
    /// The state at the end of the span.
    End,
    /// States at these times, which run in the span's direction without repetition.
    Times(Vec<f64>),
    /// The state at the start and after every accepted step.
    Steps,
    /// What it takes to evaluate the solution at any time later.
    Dense,
    /// All of these together; times named twice are kept once.
    All(Vec<SaveAt>),
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
    pub(crate) fn resolve(&self, span: TimeSpan) -> Result<Request> {
        let mut request = Request::default();
        self.collect(span, &mut request)?;
        request.times.sort_by(|a, b| (a * span.sign()).total_cmp(&(b * span.sign())));
        request.times.dedup();
        Ok(request)
    }

    fn collect(&self, span: TimeSpan, request: &mut Request) -> Result<()> {
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
                    part.collect(span, request)?;
                }
            }
        }
        Ok(())
    }
}

//! Where a sample stands.

use std::sync::Arc;

use aca_core::{Error, SampleEnd, Stats, Status, TimeSpan};

use super::{EventFunction, Events};
use crate::save_at::Request;
use crate::{DenseOutput, SaveAt};

/// Where a sample stands.
pub(crate) struct Sample {
    pub(crate) span: TimeSpan,
    pub(crate) t: f64,
    pub(crate) request: Request,
    /// The outputs so far: times, and the piece and the row that hold each.
    pub(crate) found: Vec<(f64, (usize, usize))>,
    /// Number of requested times that are served.
    pub(crate) served: usize,
    /// For each event the number of its given times that are over.
    pub(crate) passed: Vec<usize>,
    pub(crate) dense: Vec<DenseOutput>,
    pub(crate) stats: Stats,
    pub(crate) s: f64,
    pub(crate) done: bool,
    pub(crate) failure: Option<Arc<Error>>,
    /// Events in a row between which time did not move.
    pub(crate) stuck: usize,
}

impl Sample {
    pub(crate) fn new(span: TimeSpan, request: Request, events: &Events) -> Self {
        let passed = events.list.iter().map(|event| match &event.function {
            EventFunction::Times(ts) => {
                ts.iter().take_while(|t| !span.before(span.t0, **t)).count()
            }
            _ => 0,
        });
        Self {
            span,
            t: span.t0,
            request,
            found: Vec::new(),
            served: 0,
            passed: passed.collect(),
            dense: Vec::new(),
            stats: Stats::default(),
            s: 1.0,
            done: false,
            failure: None,
            stuck: 0,
        }
    }

    /// Takes in how a piece ended.
    pub(crate) fn arrive(&mut self, end: &SampleEnd) {
        self.stats = Stats::total([&self.stats, &end.stats].into_iter());
        (self.t, self.s) = (end.t1, end.s);
        if let Status::Failed(error) = &end.status {
            (self.done, self.failure) = (true, Some(error.clone()));
        }
    }

    /// The error of a sample whose pieces took more steps together than one solve may.
    pub(crate) fn over_budget(&self, max_steps: usize) -> Option<Error> {
        let Stats { accepted, rejected, stability_limited, .. } = self.stats;
        let TimeSpan { t0, t1 } = self.span;
        let error = Error::MaxSteps { max_steps, t: self.t, t0, t1, accepted, stability_limited };
        (accepted + rejected > max_steps).then_some(error)
    }

    /// The next given time, and the event that it belongs to.
    pub(crate) fn given(&self, events: &Events) -> Option<(usize, f64)> {
        let next =
            events.list.iter().zip(&self.passed).enumerate().filter_map(|(i, (event, &passed))| {
                let EventFunction::Times(ts) = &event.function else { return None };
                Some((i, *ts.get(passed)?)).filter(|(_, t)| self.span.contains(*t))
            });
        next.min_by(|a, b| (a.1 * self.span.sign()).total_cmp(&(b.1 * self.span.sign())))
    }

    /// Where the next piece ends unless an event ends it.
    pub(crate) fn target(&self, events: &Events) -> f64 {
        match self.done {
            true => self.t,
            false => self.given(events).map_or(self.span.t1, |(_, t)| t),
        }
    }

    /// What to keep of the next piece.
    pub(crate) fn ask(&self, target: f64) -> SaveAt {
        let mut parts = Vec::new();
        let pending = self.request.times[self.served..].iter();
        let times: Vec<f64> =
            pending.take_while(|t| !self.span.before(target, **t)).copied().collect();
        if !(self.done || times.is_empty()) {
            parts.push(SaveAt::Times(times));
        }
        if self.request.steps && !self.done {
            parts.push(SaveAt::Steps);
        }
        if self.request.dense && !self.done {
            parts.push(SaveAt::Dense);
        }
        SaveAt::All(parts)
    }

    /// The requested times that were not served.
    pub(crate) fn missing(&self) -> &[f64] {
        &self.request.times[self.served..]
    }

    /// How the sample ended.
    pub(crate) fn end(&self) -> SampleEnd {
        let status = self.failure.clone().map_or(Status::Finished, Status::Failed);
        SampleEnd { t1: self.t, s: self.s, stats: self.stats, status }
    }
}

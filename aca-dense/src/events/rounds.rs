//! Solves piece by piece.

use std::sync::Arc;

use aca_core::{Batching, Error, OnFailure, Result, Solver, Spans, Stats, kernels};
use candle_core::Tensor;

use super::check::{check, note};
use super::crossing::crossings_of;
use super::outputs::Reached;
use super::pieces::{Piece, Pieces};
use super::sample::Sample;
use super::watch::Watch;
use super::{Action, Crossing, EventFinder, EventFunction, Events};
use crate::{DenseError, Placement, SaveAt, Solution};

/// Events in a row between which time does not move that are let pass: several may lie together by chance.
const PATIENCE: usize = 3;

/// Solves piece by piece.
pub(crate) struct Rounds<'a, T> {
    pub(crate) events: &'a Events,
    solver: &'a Solver,
    pub(crate) whole: bool,
    pub(crate) samples: Vec<Sample>,
    pub(crate) y: Tensor,
    pub(crate) finder: EventFinder<'a>,
    pub(crate) pieces: Pieces<T>,
    /// The outputs of each piece.
    pub(crate) outputs: Vec<Tensor>,
    /// The states after each piece, jumps included.
    pub(crate) starts: Vec<Tensor>,
    pub(crate) stats: Stats,
}

impl<'a, T> Rounds<'a, T> {
    pub(crate) fn new(
        events: &'a Events,
        solver: &'a Solver,
        y0: &Tensor,
        (spans, save_at): (&Spans, &SaveAt),
    ) -> Result<Self> {
        let whole = solver.batching == Batching::Shared;
        let spans = spans.resolve(solver.batching, y0)?;
        let y = solver.own(y0)?.detach();
        check(events, &y, whole, &spans)?;
        let batch = (!whole).then_some(spans.len());
        let samples = spans
            .iter()
            .enumerate()
            .map(|(i, &span)| Ok(Sample::new(span, save_at.resolve(span, (i, batch))?, events)));
        let samples: Vec<Sample> = samples.collect::<Result<_>>()?;
        let (list, failed, variables) = (Vec::new(), vec![false; samples.len()], Vec::new());
        Ok(Self {
            events,
            solver,
            whole,
            finder: EventFinder::new(events, samples.len()),
            samples,
            y,
            pieces: Pieces { list, failed, variables },
            outputs: Vec::new(),
            starts: Vec::new(),
            stats: Stats::default(),
        })
    }

    /// Solves all pieces, each by `solve` from states over spans.
    pub(crate) fn run(
        &mut self,
        mut solve: impl FnMut(&Tensor, &Spans, &SaveAt, &mut EventFinder<'_>) -> Result<(Solution, T)>,
    ) -> Result<()> {
        while self.pieces.list.is_empty() || self.samples.iter().any(|sample| !sample.done) {
            let targets: Vec<f64> =
                self.samples.iter().map(|sample| sample.target(self.events)).collect();
            let spans = self.samples.iter().zip(&targets).map(|(sample, &t1)| (sample.t, t1));
            let asks = self.samples.iter().zip(&targets).map(|(sample, &t1)| sample.ask(t1));
            let (spans, mut asks): (Vec<_>, Vec<_>) = (spans.collect(), asks.collect());
            let (spans, ask) = match self.whole {
                true => (Spans::Shared(spans[0]), asks.remove(0)),
                false => (Spans::PerSample(spans), SaveAt::PerSample(asks)),
            };
            self.finder.watches.iter_mut().for_each(Watch::start);
            let (sol, kept) = solve(&self.y, &spans, &ask, &mut self.finder)?;
            self.take(sol, kept, &targets)?;
        }
        Ok(())
    }

    /// Takes in a piece, and lets the samples jump that do.
    fn take(&mut self, sol: Solution, kept: T, targets: &[f64]) -> Result<()> {
        let mut crossings = std::mem::take(&mut self.finder.crossings);
        crossings.sort_by_key(|crossing| crossing.sample);
        let ends: Vec<Placement> = sol.end_placements().collect();
        let Reached { outputs, moving } =
            self.take_outputs((self.pieces.list.len(), &ends), &sol)?;
        let mut jumps = vec![None; self.samples.len()];
        for (i, jump) in jumps.iter_mut().enumerate() {
            let (own, end) = (&mut self.samples[i], &sol.samples[i]);
            if own.done {
                continue;
            }
            let started = own.t;
            own.arrive(end);
            if own.failure.is_some() {
                self.pieces.failed[i] = true;
                continue;
            }
            if let Some(error) = own.over_budget(self.solver.max_steps) {
                self.fail(i, error)?;
                continue;
            }
            let acted = self.finder.watches[i].acted;
            let happened = match acted {
                true => crossings[crossings_of(&crossings, i)].last().map(|own| own.event),
                false => self.meet_given((i, targets[i]), (&sol.y1, ends[i]), &mut crossings)?,
            };
            let own = &mut self.samples[i];
            let Some(event) = happened else {
                own.done = true;
                continue;
            };
            let (happened, count) =
                (&self.events.list[event], self.finder.watches[i].marks[event].count);
            own.done = happened.ends(count);
            if matches!(happened.action, Action::Jump(_)) {
                *jump = Some((event, own.t));
            }
            if acted {
                self.check_progress(i, event, started)?;
            }
        }
        self.note_functions(&crossings)?;
        let y1 = sol.y1.detach();
        self.y = self.jump(&y1, &mut jumps)?;
        self.starts.push(self.y.clone());
        self.stats = Stats::total([&self.stats, &sol.stats].into_iter());
        self.pieces.list.push(Piece { kept, crossings, outputs, moving, ends, jumps, y1 });
        Ok(())
    }

    /// Lets happen what a sample does at a given time, if its piece ended there; returns which event.
    fn meet_given(
        &mut self,
        (i, target): (usize, f64),
        (y1, placement): (&Tensor, Placement),
        crossings: &mut Vec<Crossing>,
    ) -> Result<Option<usize>> {
        let given = self.samples[i].given(self.events);
        let Some((event, t)) = given.filter(|(_, t)| *t == target) else { return Ok(None) };
        self.samples[i].passed[event] += 1;
        let acts = self.events.list[event].acts(self.finder.watches[i].count(event));
        let (y, slope) = (self.row(y1, i)?, None);
        let after = crossings.partition_point(|own| own.sample <= i);
        let met = Crossing { sample: i, event, place: 0, t, placement, y, slope, pace: 0.0, acts };
        crossings.insert(after, met);
        Ok(Some(event))
    }

    /// Gives a sample up whose events come ever closer together.
    fn check_progress(&mut self, i: usize, event: usize, before: f64) -> Result<()> {
        let own = &mut self.samples[i];
        let resolution = 8.0 * f64::EPSILON * own.t.abs().max(before.abs());
        own.stuck = if (own.t - before).abs() <= resolution { own.stuck + 1 } else { 0 };
        if own.stuck < PATIENCE {
            return Ok(());
        }
        let count = self.finder.watches[i].marks[event].count;
        let error = DenseError::EventsAccumulate { event, count, t: own.t };
        self.fail(i, error.into())
    }

    /// Ends a sample with an error, or all of them.
    pub(crate) fn fail(&mut self, i: usize, error: Error) -> Result<()> {
        if self.whole {
            return Err(error);
        }
        let (error, batch) = (Arc::new(error), self.samples.len());
        if self.solver.on_failure == OnFailure::Error {
            return Err(Error::SamplesFailed { samples: vec![(i, error)], batch });
        }
        let own = &mut self.samples[i];
        (own.done, own.failure, self.pieces.failed[i]) = (true, Some(error), true);
        Ok(())
    }

    /// The state of a sample, as a row where samples step on their own.
    fn row(&self, y: &Tensor, i: usize) -> Result<Tensor> {
        if self.whole { Ok(y.detach()) } else { kernels::pick_rows(&y.detach(), &[i]) }
    }

    /// Notes which variables the functions read whose events happened.
    fn note_functions(&mut self, crossings: &[Crossing]) -> Result<()> {
        for crossing in crossings.iter().filter(|crossing| crossing.slope.is_some()) {
            let function = &self.events.list[crossing.event].function;
            if matches!(function, EventFunction::Component { .. }) {
                continue;
            }
            if let EventFunction::Law(_, theta) = function {
                note(&mut self.pieces.variables, theta)?;
                continue;
            }
            let rows = (!self.whole).then_some(1);
            let g = function.trace(&crossing.time(self.whole)?, &crossing.y, rows)?;
            note(&mut self.pieces.variables, &g)?;
        }
        Ok(())
    }
}

//! The solve as a list of pieces, each from one change to the next.

use std::sync::Arc;

use aca_core::{
    Batching, Error, OnFailure, Result, SampleEnd, Solver, Spans, Stats, Status, TimeSpan, kernels,
};
use candle_core::{Tensor, Var};

use super::crossing::moments;
use super::{Action, Crossing, EventFinder, EventFunction, Events};
use crate::save_at::Request;
use crate::{DenseError, DenseOutput, Placement, SaveAt, Solution};

/// One piece of a solve with events: an ordinary solve of all samples that were still under way, each from its own
/// time; the others rest.
#[derive(Clone, Debug)]
pub struct Piece<T> {
    /// What the solve of the piece returned beside its solution.
    pub kept: T,
    /// What happened in it, one sample's after the other's, in the order of time.
    pub crossings: Vec<Crossing>,
    /// For each sample, its outputs: their places among those of the whole solve, and where they lie.
    pub outputs: Vec<Vec<(usize, Placement)>>,
    /// Where each sample's end lies.
    pub ends: Vec<Placement>,
    /// The event whose jump each sample makes at the end, and when.
    pub jumps: Vec<Option<(usize, f64)>>,
    /// States before the jumps.
    pub y1: Tensor,
}

/// The samples that make one event's jump at the end of a piece, given what each does there, and when.
pub fn jumping(jumps: &[Option<(usize, f64)>], event: usize) -> (Vec<usize>, Vec<f64>) {
    let own = jumps.iter().enumerate().filter_map(|(i, jump)| Some((i, (*jump)?)));
    own.filter(|(_, jump)| jump.0 == event).map(|(i, jump)| (i, jump.1)).unzip()
}

/// A whole solve with events.
#[derive(Debug)]
pub struct Pieces<T> {
    /// The pieces, oldest first.
    pub list: Vec<Piece<T>>,
    /// Which samples failed.
    pub failed: Vec<bool>,
    /// The variables that functions and jumps were seen to read.
    pub variables: Vec<Var>,
}

/// Solves piece by piece.
pub(crate) struct Rounds<'a, T> {
    events: &'a Events,
    solver: &'a Solver,
    pub(crate) whole: bool,
    pub(crate) samples: Vec<Sample>,
    pub(crate) y: Tensor,
    finder: EventFinder<'a>,
    pub(crate) pieces: Pieces<T>,
    /// The outputs of each piece.
    pub(crate) outputs: Vec<Tensor>,
    /// The states after each piece, jumps included.
    pub(crate) starts: Vec<Tensor>,
    pub(crate) stats: Stats,
}

/// Where a sample stands.
pub(crate) struct Sample {
    pub(crate) span: TimeSpan,
    t: f64,
    pub(crate) request: Request,
    /// The outputs so far: times, and the piece and the row that hold each.
    pub(crate) found: Vec<(f64, (usize, usize))>,
    /// Number of requested times that are served.
    served: usize,
    /// For each event the number of its given times that are over.
    passed: Vec<usize>,
    pub(crate) dense: Vec<DenseOutput>,
    pub(crate) stats: Stats,
    s: f64,
    done: bool,
    failure: Option<Arc<Error>>,
    /// Events in a row between which time did not move.
    stuck: usize,
}

/// Events in a row between which time does not move that are let pass: several may lie together by chance.
const PATIENCE: usize = 3;

impl Sample {
    fn new(span: TimeSpan, request: Request, events: &Events) -> Self {
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

    /// The next given time, and the event that it belongs to.
    fn given(&self, events: &Events) -> Option<(usize, f64)> {
        let next =
            events.list.iter().zip(&self.passed).enumerate().filter_map(|(i, (event, &passed))| {
                let EventFunction::Times(ts) = &event.function else { return None };
                Some((i, *ts.get(passed)?)).filter(|(_, t)| self.span.contains(*t))
            });
        next.min_by(|a, b| (a.1 * self.span.sign()).total_cmp(&(b.1 * self.span.sign())))
    }

    /// Where the next piece ends unless an event ends it.
    fn target(&self, events: &Events) -> f64 {
        match self.done {
            true => self.t,
            false => self.given(events).map_or(self.span.t1, |(_, t)| t),
        }
    }

    /// What to keep of the next piece.
    fn ask(&self, target: f64) -> SaveAt {
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
            self.finder.watches.iter_mut().for_each(super::watch::Watch::start);
            let (sol, kept) = solve(&self.y, &spans, &ask, &mut self.finder)?;
            self.take(sol, kept, &targets)?;
        }
        Ok(())
    }

    /// Takes in a piece, and lets the samples jump that do.
    fn take(&mut self, sol: Solution, kept: T, targets: &[f64]) -> Result<()> {
        let number = self.pieces.list.len();
        let mut crossings = std::mem::take(&mut self.finder.crossings);
        crossings.sort_by_key(|crossing| crossing.sample);
        let ends: Vec<Placement> = sol.end_placements().collect();
        let outputs = self.take_outputs(number, &sol)?;
        let mut jumps = vec![None; self.samples.len()];
        for i in 0..self.samples.len() {
            let (own, end) = (&mut self.samples[i], &sol.samples[i]);
            if own.done {
                continue;
            }
            let started = own.t;
            own.stats = Stats::total([&own.stats, &end.stats].into_iter());
            (own.t, own.s) = (end.t1, end.s);
            if let Status::Failed(error) = &end.status {
                (own.done, own.failure) = (true, Some(error.clone()));
                self.pieces.failed[i] = true;
                continue;
            }
            let acted = self.finder.watches[i].acted;
            let given = own.given(self.events).filter(|(_, t)| !acted && *t == targets[i]);
            let happened = match (acted, given) {
                (true, _) => crossings.iter().rfind(|own| own.sample == i).map(|own| own.event),
                (false, Some((event, t))) => {
                    own.passed[event] += 1;
                    let count = self.finder.watches[i].count(event);
                    let (y, t) = (self.row(&sol.y1, i)?, t);
                    let acts = self.events.list[event].acts(count);
                    let (placement, slope) = (ends[i], None);
                    let met = Crossing {
                        sample: i,
                        event,
                        place: 0,
                        t,
                        placement,
                        y,
                        slope,
                        pace: 0.0,
                        acts,
                    };
                    let after = crossings.partition_point(|own| own.sample <= i);
                    crossings.insert(after, met);
                    Some(event)
                }
                _ => None,
            };
            let own = &mut self.samples[i];
            let Some(event) = happened else {
                own.done = true;
                continue;
            };
            let count = self.finder.watches[i].marks[event].count;
            own.done = self.events.list[event].ends(count);
            if matches!(self.events.list[event].action, Action::Jump(_)) {
                jumps[i] = Some((event, own.t));
            }
            if acted {
                self.check_progress(i, event, started)?;
            }
        }
        self.note_functions(&crossings)?;
        let y1 = sol.y1.detach();
        self.y = self.jump(&y1, &jumps)?;
        self.starts.push(self.y.clone());
        self.stats = Stats::total([&self.stats, &sol.stats].into_iter());
        self.pieces.list.push(Piece { kept, crossings, outputs, ends, jumps, y1 });
        Ok(())
    }

    /// Notes where the outputs of a piece lie that the solve came to.
    fn take_outputs(
        &mut self,
        number: usize,
        sol: &Solution,
    ) -> Result<Vec<Vec<(usize, Placement)>>> {
        let mut placements = sol.placements().iter();
        let mut outputs = Vec::new();
        for (i, own) in self.samples.iter_mut().enumerate() {
            let (ts, mut reached) = (sol.sample_ts(i)?, Vec::new());
            for (row, &t) in sol.layout().rows(i).zip(ts) {
                let Some(&placement) = placements.next() else { break };
                if placement.step == usize::MAX || own.done {
                    continue;
                }
                if own.request.times.get(own.served) == Some(&t) {
                    own.served += 1;
                }
                reached.push((own.found.len(), placement));
                own.found.push((t, (number, row)));
            }
            outputs.push(reached);
            if own.request.dense && !own.done {
                own.dense.push(sol.sample_dense(i)?.clone());
            }
        }
        let state = &self.y.dims()[usize::from(!self.whole)..];
        let rows = sol.layout().len();
        self.outputs.push(sol.ys.detach().reshape([&[rows], state].concat())?);
        Ok(outputs)
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
    fn fail(&mut self, i: usize, error: Error) -> Result<()> {
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

    /// The states after the jumps of one piece's end.
    fn jump(&mut self, y1: &Tensor, jumps: &[Option<(usize, f64)>]) -> Result<Tensor> {
        let mut sources: Vec<(Tensor, usize)> = (0..jumps.len()).map(|i| (y1.clone(), i)).collect();
        for (event, own) in self.events.list.iter().enumerate() {
            let Action::Jump(jump) = &own.action else { continue };
            let (samples, ts) = jumping(jumps, event);
            if samples.is_empty() {
                continue;
            }
            let before = if self.whole { y1.clone() } else { kernels::pick_rows(y1, &samples)? };
            let after = jump(&moments(self.whole, &ts, &samples)?, &before)?;
            check_jump(event, &after, &before)?;
            note(&mut self.pieces.variables, &after)?;
            let after = after.detach().contiguous()?;
            if self.whole {
                return Ok(after);
            }
            for (row, &sample) in samples.iter().enumerate() {
                sources[sample] = (after.clone(), row);
            }
        }
        if self.whole {
            return Ok(y1.clone());
        }
        kernels::gather_rows(&sources.iter().map(|(y, row)| (y, *row)).collect::<Vec<_>>())
    }

    /// Notes which variables the functions read whose events happened.
    fn note_functions(&mut self, crossings: &[Crossing]) -> Result<()> {
        for crossing in crossings.iter().filter(|crossing| crossing.slope.is_some()) {
            let function = &self.events.list[crossing.event].function;
            if matches!(function, EventFunction::Component { .. }) {
                continue;
            }
            let rows = (!self.whole).then_some(1);
            let g = function.trace(&crossing.time(self.whole)?, &crossing.y, rows)?;
            note(&mut self.pieces.variables, &g)?;
        }
        Ok(())
    }
}

/// Adds the variables that a graph reads.
fn note(variables: &mut Vec<Var>, x: &Tensor) -> Result<()> {
    for node in x.sorted_nodes().into_iter().filter(|node| node.is_variable()) {
        if variables.iter().all(|known| known.id() != node.id()) {
            variables.push(Var::from_tensor(node)?);
        }
    }
    Ok(())
}

fn check_jump(event: usize, after: &Tensor, before: &Tensor) -> Result<()> {
    match after.dims() == before.dims() && after.dtype() == before.dtype() {
        true => Ok(()),
        false => {
            let (got, expected) = (after.dims().to_vec(), before.dims().to_vec());
            Err(DenseError::JumpShape { event, got, expected }.into())
        }
    }
}

/// Checks events against the states that they look at.
fn check(events: &Events, y: &Tensor, whole: bool, spans: &[TimeSpan]) -> Result<()> {
    let size = if whole { y.elem_count() } else { y.elem_count() / spans.len().max(1) };
    for (event, own) in events.list.iter().enumerate() {
        match &own.function {
            &EventFunction::Component { index, .. } if index >= size => {
                return Err(DenseError::NoSuchComponent { event, index, size }.into());
            }
            EventFunction::Times(ts) => {
                if let Some((index, &t)) = ts.iter().enumerate().find(|(_, t)| !t.is_finite()) {
                    return Err(Error::TimeNotFinite { index, t });
                }
                for span in spans {
                    if let Some(i) = ts.windows(2).position(|pair| !span.before(pair[0], pair[1])) {
                        let (index, t, previous) = (i + 1, ts[i + 1], ts[i]);
                        let &TimeSpan { t0, t1 } = span;
                        return Err(Error::TimesOutOfOrder { index, t, previous, t0, t1 });
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

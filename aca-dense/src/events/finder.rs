//! The sink that finds events.

use aca_core::{Result, RowStep, Step, StepSink};
use candle_core::Tensor;

use super::crossing::{Motion, moments};
use super::cursor::{Cursor, sign};
use super::isolate::Bernstein;
use super::root::Root;
use super::watch::Watch;
use super::{Crossing, EventFunction, Events};
use crate::{DenseError, Placement, interpolate_derivative};

/// A point of a step, as a fraction, and a function's value there.
type Point = (f64, f64);

/// Finds events in accepted steps, and ends the solves of samples where an event acts.
pub struct EventFinder<'a> {
    events: &'a Events,
    pub(crate) watches: Vec<Watch>,
    pub(crate) crossings: Vec<Crossing>,
    bernstein: Option<Bernstein>,
}

/// One row's step, with all that looks into it.
struct Inside<'s, 'a, 'b> {
    step: &'s Step<'a>,
    own: RowStep,
    events: &'b Events,
    /// Weights of the slopes at a fraction of the step.
    weights: Vec<f64>,
    /// Width of the resolution of time, as a fraction of the step.
    tolerance: f64,
}

impl<'a> EventFinder<'a> {
    pub(crate) fn new(events: &'a Events, samples: usize) -> Self {
        let watches = vec![Watch::new(events.list.len()); samples];
        Self { events, watches, crossings: Vec::new(), bernstein: None }
    }

    /// The values of all functions at points of the steps of all rows: by row, then by event.
    fn look(&mut self, step: &Step<'_>) -> Result<Vec<Vec<Vec<Point>>>> {
        let fresh = |own: &RowStep| {
            let marks = &self.watches[own.sample].marks;
            marks.iter().any(|mark| mark.value.is_none())
        };
        let fresh = step.accepted.iter().any(fresh);
        let (polynomial, sampled) = (self.fractions(step, fresh), self.events.points + 1);
        let sampled: Vec<f64> = (usize::from(!fresh)..=sampled)
            .map(|j| if j == sampled { 1.0 } else { j as f64 / sampled as f64 })
            .collect();
        let mut found: Vec<Vec<Vec<Point>>> = vec![Vec::new(); step.accepted.len()];
        let mut states: [Option<Looked>; 2] = [None, None];
        for (event, own) in self.events.list.iter().enumerate() {
            if !own.function.has_roots() {
                found.iter_mut().for_each(|row| row.push(Vec::new()));
                continue;
            }
            let exact = matches!(own.function, EventFunction::Component { .. });
            let fractions = if exact { &polynomial } else { &sampled };
            let looked = match &mut states[usize::from(exact)] {
                Some(looked) => looked,
                none => none.insert(Looked::new(step, fractions)?),
            };
            let values = looked.values((event, &own.function), step, fractions.len())?;
            for (row, values) in found.iter_mut().zip(values.chunks_exact(fractions.len())) {
                row.push(fractions.iter().copied().zip(values.iter().copied()).collect());
            }
        }
        Ok(found)
    }

    /// The points that tell the interpolant's polynomial apart from all others.
    fn fractions(&mut self, step: &Step<'_>, fresh: bool) -> Vec<f64> {
        let interpolant = step.method().interpolant();
        let bernstein = self.bernstein.get_or_insert_with(|| {
            let degrees = (0..interpolant.stages()).map(|i| interpolant.coefficients(i));
            let degree = degrees.filter_map(|c| c.iter().rposition(|c| *c != 0.0)).max();
            Bernstein::new(degree.unwrap_or(0) + 1)
        });
        let degree = bernstein.degree();
        (usize::from(!fresh)..=degree)
            .map(|j| if j == degree { 1.0 } else { j as f64 / degree as f64 })
            .collect()
    }

    /// Goes through one row's step; returns the fraction at which an event ends it.
    fn walk(
        &mut self,
        inside: &mut Inside<'_, '_, '_>,
        points: Vec<Vec<Point>>,
    ) -> Result<Option<f64>> {
        let sample = inside.own.sample;
        let mut lanes = Vec::with_capacity(points.len());
        for (event, points) in points.into_iter().enumerate() {
            lanes.push(self.lane(inside, event, points)?);
        }
        loop {
            for (event, lane) in lanes.iter_mut().enumerate() {
                lane.advance(inside, event)?;
            }
            let ahead = lanes.iter().enumerate().filter_map(|(i, lane)| Some((i, lane.next?)));
            let Some((event, root)) = ahead.min_by(|a, b| a.1.s.total_cmp(&b.1.s)) else { break };
            let watch = &mut self.watches[sample];
            let count = watch.count(event);
            if watch.total > self.events.limit {
                let (limit, t) = (self.events.limit, inside.at(root.s));
                return Err(DenseError::TooManyEvents { limit, t }.into());
            }
            let acts = self.events.list[event].acts(count);
            self.crossings.push(inside.crossing((event, lanes[event].pace), root, acts)?);
            lanes[event].next = None;
            if acts {
                let mark = &mut self.watches[sample].marks[event];
                (mark.surface, mark.before) = (root.residual, if root.rising { -1.0 } else { 1.0 });
                self.meet_others(inside, &lanes, (event, root))?;
                return Ok(Some(root.s));
            }
        }
        for (mark, lane) in self.watches[sample].marks.iter_mut().zip(&lanes) {
            mark.value = lane.points.last().map(|point| point.1);
            (mark.surface, mark.before) = (0.0, 0.0);
        }
        Ok(None)
    }

    /// Records what else happens at the time of an event that acts; refuses a second one that acts.
    fn meet_others(
        &mut self,
        inside: &mut Inside<'_, '_, '_>,
        lanes: &[Lane],
        (event, root): (usize, Root),
    ) -> Result<()> {
        for (other, lane) in lanes.iter().enumerate() {
            let Some(met) = lane.next.filter(|met| met.s - root.s <= 4.0 * inside.tolerance) else {
                continue;
            };
            let own = &self.events.list[other];
            if own.function.has_roots() {
                let watch = &mut self.watches[inside.own.sample];
                if own.acts(watch.marks[other].count + 1) {
                    let t = inside.at(root.s);
                    return Err(DenseError::EventsTogether { events: [event, other], t }.into());
                }
                watch.count(other);
                // Before the one that ends the piece.
                let place = self.crossings.len() - 1;
                let met = Root { s: met.s.min(root.s), ..met };
                self.crossings.insert(place, inside.crossing((other, lane.pace), met, false)?);
            }
        }
        Ok(())
    }

    /// Prepares to go along one function.
    fn lane(
        &mut self,
        inside: &mut Inside<'_, '_, '_>,
        event: usize,
        mut points: Vec<Point>,
    ) -> Result<Lane> {
        let own = &self.events.list[event];
        match own.function {
            EventFunction::Steps => {
                let end = Root { s: 1.0, residual: 0.0, rising: true };
                return Ok(Lane { points, cursor: None, next: Some(end), pace: 0.0 });
            }
            EventFunction::Times(_) => {
                return Ok(Lane { points, cursor: None, next: None, pace: 0.0 });
            }
            _ => {}
        }
        for &(s, value) in &points {
            if !value.is_finite() {
                return Err(DenseError::EventNotFinite { event, t: inside.at(s), value }.into());
            }
        }
        let mark = self.watches[inside.own.sample].marks[event];
        let known = points.first().filter(|point| point.0 == 0.0).map(|point| point.1);
        let start = mark.value.or(known).unwrap_or(0.0);
        if known.is_some() {
            points.remove(0);
        }
        let on_surface = start.abs() <= mark.surface;
        let leaving = match on_surface {
            // Along the surface, what came from one side goes back there: to pass it must not go unseen.
            true => Some(inside.leaving(event)?).map(|s| if s == 0.0 { mark.before } else { s }),
            false => None,
        };
        if let (EventFunction::Component { .. }, Some(bernstein)) = (&own.function, &self.bernstein)
        {
            let all: Vec<f64> =
                std::iter::once(start).chain(points.iter().map(|point| point.1)).collect();
            let mut between = Vec::new();
            bernstein.isolate(&all, on_surface, &mut between);
            for s in between.into_iter().filter(|s| 0.0 < *s && *s < 1.0) {
                points.push((s, inside.value(event, s)?));
            }
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        let pace = inside.pace(start, &points);
        Ok(Lane { points, cursor: Some(Cursor::new(start, leaving)), next: None, pace })
    }
}

/// One function along one row's step.
struct Lane {
    points: Vec<Point>,
    /// `None` for what is no function of the state.
    cursor: Option<Cursor>,
    /// The next event.
    next: Option<Root>,
    pace: f64,
}

impl Lane {
    /// Finds the next event that counts.
    fn advance(&mut self, inside: &mut Inside<'_, '_, '_>, event: usize) -> Result<()> {
        let (Some(cursor), None) = (&mut self.cursor, self.next) else { return Ok(()) };
        let (direction, tolerance) = (inside.events.list[event].direction, inside.tolerance);
        while let Some(root) = cursor.next(&self.points, |s| inside.value(event, s), tolerance)? {
            if direction.allows(root.rising) {
                self.next = Some(root);
                break;
            }
        }
        Ok(())
    }
}

/// States at points of the steps of all rows.
struct Looked {
    y: Tensor,
    ts: Vec<f64>,
    samples: Vec<usize>,
}

impl Looked {
    fn new(step: &Step<'_>, fractions: &[f64]) -> Result<Self> {
        let interpolant = step.method().interpolant();
        let stages = interpolant.stages();
        let count = step.accepted.len() * fractions.len();
        let (mut rows, mut weights) = (Vec::with_capacity(count), vec![0.0; count * stages]);
        let (mut ts, mut samples) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let mut all = weights.chunks_exact_mut(stages);
        for own in step.accepted {
            for (&s, weights) in fractions.iter().zip(&mut all) {
                interpolant.weights_into(s, weights);
                weights.iter_mut().for_each(|w| *w *= own.h());
                rows.push(own.row);
                ts.push(moment(own, s));
                samples.push(own.sample);
            }
        }
        Ok(Self { y: step.combine(&rows, &weights)?.detach(), ts, samples })
    }

    /// The values of a function at all of them.
    fn values(
        &self,
        (event, function): (usize, &EventFunction),
        step: &Step<'_>,
        count: usize,
    ) -> Result<Vec<f64>> {
        let rows = self.ts.len();
        if !step.is_whole() || matches!(function, EventFunction::Component { .. }) {
            let t = moments(false, &self.ts, &self.samples)?;
            return function.eval(event, &t, &self.y, Some(rows));
        }
        let mut values = Vec::with_capacity(count);
        for row in 0..rows {
            let t = moments(true, &self.ts[row..], &self.samples)?;
            values.extend(function.eval(event, &t, &self.y.get(row)?, None)?);
        }
        Ok(values)
    }
}

/// The time at a fraction of a step.
fn moment(own: &RowStep, s: f64) -> f64 {
    if s == 1.0 { own.t1 } else { own.t0 + s * own.h() }
}

impl<'s, 'a, 'b> Inside<'s, 'a, 'b> {
    fn new(step: &'s Step<'a>, own: RowStep, events: &'b Events) -> Self {
        let resolution = 2.0 * f64::EPSILON * own.t0.abs().max(own.t1.abs());
        let tolerance = f64::EPSILON + resolution / own.h().abs();
        Self { step, own, events, weights: Vec::new(), tolerance }
    }

    fn at(&self, s: f64) -> f64 {
        moment(&self.own, s)
    }

    /// The state at a fraction of the step, as a row where samples step on their own.
    fn state(&mut self, s: f64) -> Result<Tensor> {
        let interpolant = self.step.method().interpolant();
        self.weights.resize(interpolant.stages(), 0.0);
        interpolant.weights_into(s, &mut self.weights);
        let h = self.own.h();
        self.weights.iter_mut().for_each(|w| *w *= h);
        let y = self.step.combine(&[self.own.row], &self.weights)?.detach();
        Ok(if self.step.is_whole() { y.squeeze(0)? } else { y })
    }

    /// The interpolant's slope at a fraction of the step, laid out as the state.
    fn slope(&self, s: f64) -> Result<Tensor> {
        let slopes: Vec<Tensor> = self.step.stages()?.iter().map(Tensor::detach).collect();
        let slope = interpolate_derivative(self.step.method(), &slopes, s)?;
        Ok(match self.step.is_whole() {
            true => slope,
            false => slope.narrow(0, self.own.row, 1)?.contiguous()?,
        })
    }

    /// How far a function goes within the step, by the step's size.
    fn pace(&self, start: f64, points: &[Point]) -> f64 {
        let ends = points
            .iter()
            .fold((start, start), |ends, point| (ends.0.min(point.1), ends.1.max(point.1)));
        (ends.1 - ends.0) / self.own.h().abs()
    }

    /// How many states a function sees at once.
    fn rows(&self) -> Option<usize> {
        (!self.step.is_whole()).then_some(1)
    }

    /// A function's value at a fraction of the step.
    fn value(&mut self, event: usize, s: f64) -> Result<f64> {
        let y = self.state(s)?;
        let t = moments(self.step.is_whole(), &[self.at(s)], &[self.own.sample])?;
        let values = self.events.list[event].function.eval(event, &t, &y, self.rows())?;
        let value = values.first().copied().unwrap_or(f64::NAN);
        match value.is_finite() {
            true => Ok(value),
            false => Err(DenseError::EventNotFinite { event, t: self.at(s), value }.into()),
        }
    }

    /// The sign of a function just after the start of the step, where it is zero: that of its derivative along the
    /// solution, or 0 where that cannot be told.
    fn leaving(&mut self, event: usize) -> Result<f64> {
        let (y, slope) = (self.state(0.0)?, self.slope(0.0)?);
        let t = moments(self.step.is_whole(), &[self.own.t0], &[self.own.sample])?;
        let function = &self.events.list[event].function;
        let (g, pullback) = function.linearize(event, &t, &y, self.rows())?;
        let Motion { rate, noise, .. } = Motion::new(&pullback.apply(&g.ones_like()?)?, &slope)?;
        Ok(if rate.abs() > noise { sign(rate * self.own.h()) } else { 0.0 })
    }

    fn crossing(
        &mut self,
        (event, pace): (usize, f64),
        root: Root,
        acts: bool,
    ) -> Result<Crossing> {
        let moves = self.events.list[event].function.has_roots();
        Ok(Crossing {
            sample: self.own.sample,
            event,
            place: 0,
            t: self.at(root.s),
            placement: Placement { step: self.own.index, s: root.s },
            y: self.state(root.s)?,
            slope: if moves { Some(self.slope(root.s)?) } else { None },
            pace,
            acts,
        })
    }
}

impl StepSink for EventFinder<'_> {
    fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
        if self.events.list.is_empty() {
            return Ok(());
        }
        step.complete()?;
        let points = self.look(step)?;
        let mut ends = Vec::new();
        for (own, points) in step.accepted.to_vec().into_iter().zip(points) {
            let mut inside = Inside::new(step, own, self.events);
            match self.walk(&mut inside, points) {
                Ok(None) => {}
                Ok(Some(s)) => {
                    self.watches[own.sample].acted = true;
                    ends.push((own, Ok(s)));
                }
                Err(error) => ends.push((own, Err(error))),
            }
        }
        for (own, end) in ends {
            match end {
                Ok(s) => step.stop(own.row, s)?,
                Err(error) => step.fail(own.sample, error),
            }
        }
        Ok(())
    }
}

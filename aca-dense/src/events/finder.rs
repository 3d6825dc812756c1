//! The sink that finds events.

use aca_core::{Result, RowStep, Step, StepSink};
use candle_core::Tensor;

use super::inside::{Inside, Point};
use super::isolate::Bernstein;
use super::lane::Lane;
use super::look::Looked;
use super::root::Root;
use super::watch::Watch;
use super::{Action, Crossing, EventFunction, Events};
use crate::DenseError;

/// Finds events in accepted steps, and ends the solves of samples where an event acts.
pub struct EventFinder<'a> {
    events: &'a Events,
    pub(crate) watches: Vec<Watch>,
    pub(crate) crossings: Vec<Crossing>,
    bernstein: Option<Bernstein>,
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
        let degree = step.method().interpolant().degree();
        // A solve that switches between methods comes to interpolants of other degrees.
        if self.bernstein.as_ref().is_none_or(|known| known.degree() != degree) {
            self.bernstein = Some(Bernstein::new(degree));
        }
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
            let mark = self.watches[sample].marks[event];
            lanes.push(Lane::new(inside, (event, mark), points, self.bernstein.as_ref())?);
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
            let crossing = inside.crossing((event, lanes[event].pace), root, acts)?;
            lanes[event].next = None;
            if acts {
                self.mark_surfaces(inside, &lanes, (event, root), &crossing.y)?;
            }
            self.crossings.push(crossing);
            if acts {
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

    /// Notes which functions are zero where an event ends a piece in the state `y`: after a jump they may be so still.
    fn mark_surfaces(
        &mut self,
        inside: &Inside<'_, '_, '_>,
        lanes: &[Lane],
        (event, root): (usize, Root),
        y: &Tensor,
    ) -> Result<()> {
        let jumps = matches!(self.events.list[event].action, Action::Jump(_));
        for (other, lane) in lanes.iter().enumerate() {
            let mark = &mut self.watches[inside.own.sample].marks[other];
            (mark.surface, mark.before) = (0.0, 0.0);
            if !(jumps && self.events.list[other].function.has_roots()) {
                continue;
            }
            let (value, noise) = inside.zero((other, lane.pace), root.s, y)?;
            let own = if other == event { value.max(root.residual) } else { 0.0 };
            if other == event || value <= noise {
                (mark.surface, mark.before) = (own.max(noise), lane.before());
            }
        }
        Ok(())
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
}

impl StepSink for EventFinder<'_> {
    fn looks_inside(&self, _sample: usize, _t1: f64) -> bool {
        self.events.list.iter().any(|event| event.function.has_roots())
    }

    fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
        if self.events.list.is_empty() {
            return Ok(());
        }
        step.complete()?;
        let points = self.look(step)?;
        let mut ends = Vec::new();
        for (&own, points) in step.accepted.iter().zip(points) {
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

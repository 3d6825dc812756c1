//! One function along one row's step.

use aca_core::Result;

use super::EventFunction;
use super::cursor::Cursor;
use super::inside::{Inside, Point};
use super::isolate::Bernstein;
use super::root::Root;
use super::watch::Mark;
use crate::DenseError;

/// One function along one row's step.
pub(crate) struct Lane {
    pub(crate) points: Vec<Point>,
    /// `None` for what is no function of the state.
    cursor: Option<Cursor>,
    /// The next event.
    pub(crate) next: Option<Root>,
    pub(crate) pace: f64,
}

impl Lane {
    /// Prepares to go along one function.
    pub(crate) fn new(
        inside: &mut Inside<'_, '_, '_>,
        (event, mark): (usize, Mark),
        mut points: Vec<Point>,
        bernstein: Option<&Bernstein>,
    ) -> Result<Self> {
        let own = &inside.events.list[event];
        match own.function {
            EventFunction::Steps => {
                let end = Root { s: 1.0, residual: 0.0, rising: true };
                return Ok(Self { points, cursor: None, next: Some(end), pace: 0.0 });
            }
            EventFunction::Times(_) => {
                return Ok(Self { points, cursor: None, next: None, pace: 0.0 });
            }
            _ => {}
        }
        for &(s, value) in &points {
            if !value.is_finite() {
                return Err(DenseError::EventNotFinite { event, t: inside.at(s), value }.into());
            }
        }
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
        if let (EventFunction::Component { .. }, Some(bernstein)) = (&own.function, bernstein) {
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
        Ok(Self { points, cursor: Some(Cursor::new(start, leaving)), next: None, pace })
    }

    /// Finds the next event that counts.
    pub(crate) fn advance(&mut self, inside: &mut Inside<'_, '_, '_>, event: usize) -> Result<()> {
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

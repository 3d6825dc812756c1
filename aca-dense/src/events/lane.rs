//! One function along one row's step.

use aca_core::Result;

use super::EventFunction;
use super::cursor::Cursor;
use super::inside::{Inside, Point};
use super::isolate::{Bernstein, Polynomial};
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
    /// The last crossing that was found, whether it counts or not.
    found: Option<Root>,
    pub(crate) pace: f64,
    /// The function within the step, where it is one.
    polynomial: Option<Polynomial>,
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
                return Ok(Self { next: Some(end), ..Self::without_roots(points) });
            }
            EventFunction::Times(_) => return Ok(Self::without_roots(points)),
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
        let polynomial = match (&own.function, bernstein) {
            (EventFunction::Component { .. }, Some(bernstein)) => {
                let values = std::iter::once(start).chain(points.iter().map(|point| point.1));
                Some(bernstein.through(&values.collect::<Vec<_>>()))
            }
            _ => None,
        };
        let on_surface = start.abs() <= mark.surface;
        let leaving = match on_surface {
            // Along the surface, what came from one side goes back there: to pass it must not go unseen.
            true => match polynomial.as_ref().and_then(Polynomial::leaves) {
                Some(sign) => Some(sign),
                None => {
                    Some(inside.leaving(event)?).map(|s| if s == 0.0 { mark.before } else { s })
                }
            },
            false => None,
        };
        if let Some(polynomial) = &polynomial {
            let (mut between, known) = (Vec::new(), points.len());
            polynomial.isolate(on_surface, &mut between);
            let between = between.into_iter().filter(|s| 0.0 < *s && *s < 1.0);
            points.extend(between.map(|s| (s, polynomial.at(s))));
            if points.len() > known {
                points.sort_by(|a, b| a.0.total_cmp(&b.0));
            }
        }
        let pace = inside.pace(start, &points);
        let cursor = Some(Cursor::new(start, leaving));
        Ok(Self { points, cursor, next: None, found: None, pace, polynomial })
    }

    fn without_roots(points: Vec<Point>) -> Self {
        Self { points, cursor: None, next: None, found: None, pace: 0.0, polynomial: None }
    }

    /// The sign before the crossing that was found last, or 0.
    pub(crate) fn before(&self) -> f64 {
        self.found.map_or(0.0, |root| if root.rising { -1.0 } else { 1.0 })
    }

    /// Finds the next event that counts.
    pub(crate) fn advance(&mut self, inside: &mut Inside<'_, '_, '_>, event: usize) -> Result<()> {
        let (Some(cursor), None) = (&mut self.cursor, self.next) else { return Ok(()) };
        let (direction, tolerance) = (inside.events.list[event].direction, inside.tolerance);
        let polynomial = self.polynomial.as_ref();
        let mut value = |s: f64| match polynomial {
            Some(polynomial) => Ok(polynomial.at(s)),
            None => inside.value(event, s),
        };
        while let Some(root) = cursor.next(&self.points, &mut value, tolerance)? {
            self.found = Some(root);
            if direction.allows(root.rising) {
                self.next = Some(root);
                break;
            }
        }
        Ok(())
    }
}

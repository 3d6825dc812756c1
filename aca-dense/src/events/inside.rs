//! One row's step, looked into.

use aca_core::{Result, RowStep, Step};
use candle_core::{DType, Tensor};

use super::crossing::{Motion, moments};
use super::cursor::sign;
use super::root::Root;
use super::{Crossing, EventFunction, Events};
use crate::{DenseError, Placement};

/// A point of a step, as a fraction, and a function's value there.
pub(crate) type Point = (f64, f64);

/// One row's step, with all that looks into it.
pub(crate) struct Inside<'s, 'a, 'b> {
    pub(crate) step: &'s Step<'a>,
    pub(crate) own: RowStep,
    pub(crate) events: &'b Events,
    /// Weights of the slopes at a fraction of the step.
    weights: Vec<f64>,
    /// Width of the resolution of time, as a fraction of the step.
    pub(crate) tolerance: f64,
}

/// The time at a fraction of a step.
pub(crate) fn moment(own: &RowStep, s: f64) -> f64 {
    if s == 1.0 { own.t1 } else { own.t0 + s * own.h() }
}

impl<'s, 'a, 'b> Inside<'s, 'a, 'b> {
    pub(crate) fn new(step: &'s Step<'a>, own: RowStep, events: &'b Events) -> Self {
        let resolution = 2.0 * f64::EPSILON * own.t0.abs().max(own.t1.abs());
        let tolerance = f64::EPSILON + resolution / own.h().abs();
        Self { step, own, events, weights: Vec::new(), tolerance }
    }

    pub(crate) fn at(&self, s: f64) -> f64 {
        moment(&self.own, s)
    }

    /// The state at a fraction of the step, as a row where samples step on their own.
    pub(crate) fn state(&mut self, s: f64) -> Result<Tensor> {
        let interpolant = self.step.method().interpolant();
        self.weights.resize(interpolant.stages(), 0.0);
        interpolant.weights_into(s, &mut self.weights);
        let h = self.own.h();
        self.weights.iter_mut().for_each(|w| *w *= h);
        let y = self.step.combine(&[self.own.row], &self.weights)?.detach();
        Ok(if self.step.is_whole() { y.squeeze(0)? } else { y })
    }

    /// The interpolant's slope at a fraction of the step, laid out as the state.
    pub(crate) fn slope(&self, s: f64) -> Result<Tensor> {
        let weights = self.step.method().interpolant().derivative_weights(s);
        let slope = self.step.combine_slopes(&[self.own.row], &weights)?.detach();
        Ok(if self.step.is_whole() { slope.squeeze(0)? } else { slope })
    }

    /// How far a function goes within the step, by the step's size.
    pub(crate) fn pace(&self, start: f64, points: &[Point]) -> f64 {
        let ends = points
            .iter()
            .fold((start, start), |ends, point| (ends.0.min(point.1), ends.1.max(point.1)));
        (ends.1 - ends.0) / self.own.h().abs()
    }

    /// How many states a function sees at once.
    pub(crate) fn rows(&self) -> Option<usize> {
        (!self.step.is_whole()).then_some(1)
    }

    /// A function's value at a fraction of the step.
    pub(crate) fn value(&mut self, event: usize, s: f64) -> Result<f64> {
        let y = self.state(s)?;
        let t = moments(self.step.is_whole(), &[self.at(s)], &[self.own.sample])?;
        let values = self.events.list[event].function.eval(event, &t, &y, self.rows())?;
        let value = values.first().copied().unwrap_or(f64::NAN);
        match value.is_finite() {
            true => Ok(value),
            false => Err(DenseError::EventNotFinite { event, t: self.at(s), value }.into()),
        }
    }

    /// A function's magnitude in the state `y` at a fraction of the step, and what rounding may make of it where it is
    /// zero: of its own terms, and of the step's, by how far it goes.
    pub(crate) fn zero(
        &self,
        (event, pace): (usize, f64),
        s: f64,
        y: &Tensor,
    ) -> Result<(f64, f64)> {
        let t = moments(self.step.is_whole(), &[self.at(s)], &[self.own.sample])?;
        let function = &self.events.list[event].function;
        let epsilon = if y.dtype() == DType::F32 { f32::EPSILON.into() } else { f64::EPSILON };
        let far = 64.0 * epsilon * pace * self.own.h().abs();
        if let EventFunction::Component { threshold, .. } = function {
            let values = function.eval(event, &t, y, self.rows())?;
            let value = values.first().map_or(0.0, |value| value.abs());
            return Ok((value, far + 4.0 * epsilon * threshold.abs()));
        }
        let (g, pullback) = function.linearize(event, &t, y, self.rows())?;
        let noise = Motion::rounding(&pullback.apply(&g.ones_like()?)?, y, self.at(s))?;
        let value = g.detach().to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>()?;
        Ok((value.abs(), far + noise))
    }

    /// The sign of a function just after the start of the step, where it is zero: that of its derivative along the
    /// solution, or 0 where that cannot be told.
    pub(crate) fn leaving(&mut self, event: usize) -> Result<f64> {
        let (y, slope) = (self.state(0.0)?, self.slope(0.0)?);
        let t = moments(self.step.is_whole(), &[self.own.t0], &[self.own.sample])?;
        let function = &self.events.list[event].function;
        let (g, pullback) = function.linearize(event, &t, &y, self.rows())?;
        let Motion { rate, noise, .. } = Motion::new(&pullback.apply(&g.ones_like()?)?, &slope)?;
        Ok(if rate.abs() > noise { sign(rate * self.own.h()) } else { 0.0 })
    }

    pub(crate) fn crossing(
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

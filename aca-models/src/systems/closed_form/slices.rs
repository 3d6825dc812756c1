//! Closed forms on slices.

use std::iter::repeat;
use std::ops::Range;

use aca_core::kernels::{Element, View};
use aca_core::{Native, NativeField, NativeTime, Time};
use candle_core::{DType, Result, Tensor, Var};

use super::{ClosedForm, Each, Places, System};
use crate::Real;

impl<S: System> ClosedForm<S> {
    /// The field with copies of the parameters, if it works on states like `y`.
    pub(super) fn bound(&self, y: &Tensor) -> Result<Option<Native<'_>>> {
        if !(y.device().is_cpu() && self.theta.device().is_cpu()) {
            return Ok(None);
        }
        let places = self.places(&Time::new(0.0), y)?;
        Ok(match y.dtype() {
            DType::F32 => Some(Native::F32(Box::new(self.bind::<f32>(places)?))),
            DType::F64 => Some(Native::F64(Box::new(self.bind::<f64>(places)?))),
            _ => None,
        })
    }

    fn bind<T: Real>(&self, places: Places) -> Result<Bound<'_, S, T>> {
        let theta = self.theta.as_detached_tensor().contiguous()?;
        let theta = View::new(&theta)?.slice::<T>()?.to_vec();
        Ok(Bound { system: &self.system, var: &self.theta, theta, places })
    }
}

/// A system beside the parameters of one solve.
struct Bound<'a, S, T> {
    system: &'a S,
    var: &'a Var,
    theta: Vec<T>,
    places: Places,
}

impl<S: System, T: Real + Element> Bound<'_, S, T> {
    /// The samples whose states have parameters of their own, and how many states a sample has.
    fn samples<'t>(&self, t: NativeTime<'t>, y: &[T]) -> Option<(&'t [usize], usize)> {
        match &self.places.each {
            Each::State => t.samples().map(|own| (own, y.len() / S::DIM / own.len())),
            _ => None,
        }
    }
}

impl<S: System, T: Real + Element> NativeField<T> for Bound<'_, S, T> {
    fn eval(&mut self, t: NativeTime<'_>, y: &[T], dy: &mut [T]) {
        match self.samples(t, y) {
            Some((samples, count)) => {
                slopes(self.system, &self.theta, of_samples(samples, count), y, dy);
            }
            None => self.places.slopes(self.system, &self.theta, y, dy),
        }
    }

    #[inline]
    fn pull(
        &mut self,
        t: NativeTime<'_>,
        y: &[T],
        lambda: &[T],
        y_bar: &mut [T],
        theta_bar: &mut [T],
        _t_bar: &mut [f64],
    ) {
        let (states, bars) = ([y, lambda], [y_bar, theta_bar]);
        match self.samples(t, y) {
            Some((samples, count)) => {
                pull(self.system, &self.theta, of_samples(samples, count), states, bars);
            }
            None => self.places.pull(self.system, &self.theta, states, bars),
        }
    }

    fn variables(&self) -> Vec<Var> {
        vec![self.var.clone()]
    }
}

impl Places {
    /// Writes the slopes of all states.
    #[inline]
    pub(super) fn slopes<S: System, T: Real>(
        &self,
        system: &S,
        theta: &[T],
        y: &[T],
        dy: &mut [T],
    ) {
        match &self.each {
            Each::Shared => slopes(system, theta, repeat(0), y, dy),
            Each::State => slopes(system, theta, 0.., y, dy),
            Each::Sample(samples, count) => {
                slopes(system, theta, of_samples(samples, *count), y, dy);
            }
        }
    }

    /// Writes the cotangents of all states and adds those of the parameters.
    #[inline]
    pub(super) fn pull<S: System, T: Real>(
        &self,
        system: &S,
        theta: &[T],
        states: [&[T]; 2],
        bars: [&mut [T]; 2],
    ) {
        match &self.each {
            Each::Shared => pull(system, theta, repeat(0), states, bars),
            Each::State => pull(system, theta, 0.., states, bars),
            Each::Sample(samples, count) => {
                pull(system, theta, of_samples(samples, *count), states, bars);
            }
        }
    }
}

/// The rows of parameters of the samples' states, so many each.
#[inline]
fn of_samples(samples: &[usize], count: usize) -> impl Iterator<Item = usize> {
    samples.iter().flat_map(move |sample| sample * count..(sample + 1) * count)
}

/// The numbers of a state's parameters.
#[inline]
fn row(row: usize, params: usize) -> Range<usize> {
    row * params..(row + 1) * params
}

/// Writes the slopes of states whose parameters lie in these rows.
#[inline]
fn slopes<S: System, T: Real>(
    system: &S,
    theta: &[T],
    rows: impl Iterator<Item = usize>,
    y: &[T],
    dy: &mut [T],
) {
    let states = y.chunks_exact(S::DIM).zip(dy.chunks_exact_mut(S::DIM));
    for ((y, dy), i) in states.zip(rows) {
        system.slope(&theta[row(i, S::PARAMS)], y, dy);
    }
}

/// Writes the cotangents of states whose parameters lie in these rows, and adds those of the parameters.
#[inline]
fn pull<S: System, T: Real>(
    system: &S,
    theta: &[T],
    rows: impl Iterator<Item = usize>,
    [y, lambda]: [&[T]; 2],
    [y_bar, theta_bar]: [&mut [T]; 2],
) {
    let states = y.chunks_exact(S::DIM).zip(lambda.chunks_exact(S::DIM));
    let states = states.zip(y_bar.chunks_exact_mut(S::DIM));
    for (((y, lambda), y_bar), i) in states.zip(rows) {
        let range = row(i, S::PARAMS);
        system.pullback(&theta[range.clone()], y, lambda, y_bar, &mut theta_bar[range]);
    }
}

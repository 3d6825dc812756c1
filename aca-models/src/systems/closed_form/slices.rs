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
        let times = (t.rows(), |row| t.of_row(row));
        match self.samples(t, y) {
            Some((samples, count)) => {
                slopes(self.system, &self.theta, of_samples(samples, count), times, y, dy);
            }
            None => self.places.slopes(self.system, &self.theta, times, y, dy),
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
        t_bar: &mut [f64],
    ) {
        let (times, bars) = ((t.rows(), |row| t.of_row(row)), (y_bar, theta_bar, t_bar));
        match self.samples(t, y) {
            Some((samples, count)) => {
                let own = of_samples(samples, count);
                pull(self.system, &self.theta, own, times, [y, lambda], bars);
            }
            None => self.places.pull(self.system, &self.theta, times, [y, lambda], bars),
        }
    }

    fn variables(&self) -> Vec<Var> {
        vec![self.var.clone()]
    }
}

/// Number of rows of a state that have a time each, and the time of each.
type Times<F> = (usize, F);

/// Cotangents: of the states, of the parameters, and of the rows' times.
type Bars<'a, T> = (&'a mut [T], &'a mut [T], &'a mut [f64]);

impl Places {
    /// Writes the slopes of all states.
    #[inline]
    pub(super) fn slopes<S: System, T: Real>(
        &self,
        system: &S,
        theta: &[T],
        times: Times<impl Fn(usize) -> f64>,
        y: &[T],
        dy: &mut [T],
    ) {
        match &self.each {
            Each::Shared => slopes(system, theta, repeat(0), times, y, dy),
            Each::State => slopes(system, theta, 0.., times, y, dy),
            Each::Sample(samples, count) => {
                slopes(system, theta, of_samples(samples, *count), times, y, dy);
            }
        }
    }

    /// Writes the cotangents of all states, and adds those of the parameters and times.
    #[inline]
    pub(super) fn pull<S: System, T: Real>(
        &self,
        system: &S,
        theta: &[T],
        times: Times<impl Fn(usize) -> f64>,
        states: [&[T]; 2],
        bars: Bars<'_, T>,
    ) {
        match &self.each {
            Each::Shared => pull(system, theta, repeat(0), times, states, bars),
            Each::State => pull(system, theta, 0.., times, states, bars),
            Each::Sample(samples, count) => {
                pull(system, theta, of_samples(samples, *count), times, states, bars);
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
    mut params: impl Iterator<Item = usize>,
    (rows, t): Times<impl Fn(usize) -> f64>,
    y: &[T],
    dy: &mut [T],
) {
    let mut slopes_at = |t: f64, y: &[T], dy: &mut [T]| {
        let states = y.chunks_exact(S::DIM).zip(dy.chunks_exact_mut(S::DIM));
        for ((y, dy), i) in states.zip(&mut params) {
            system.slope(t, &theta[row(i, S::PARAMS)], y, dy);
        }
    };
    if S::AUTONOMOUS {
        return slopes_at(f64::NAN, y, dy);
    }
    let length = (y.len() / rows).max(1);
    let states = y.chunks_exact(length).zip(dy.chunks_exact_mut(length));
    states.enumerate().for_each(|(row, (y, dy))| slopes_at(t(row), y, dy));
}

/// Writes the cotangents of states whose parameters lie in these rows, and adds those of the parameters and times.
#[inline]
fn pull<S: System, T: Real>(
    system: &S,
    theta: &[T],
    mut params: impl Iterator<Item = usize>,
    (rows, t): Times<impl Fn(usize) -> f64>,
    [y, lambda]: [&[T]; 2],
    (y_bar, theta_bar, t_bar): Bars<'_, T>,
) {
    let mut pull_at = |t: f64, [y, lambda]: [&[T]; 2], y_bar: &mut [T]| {
        let states = y.chunks_exact(S::DIM).zip(lambda.chunks_exact(S::DIM));
        let states = states.zip(y_bar.chunks_exact_mut(S::DIM));
        let mut moved = T::zero();
        for (((y, lambda), y_bar), i) in states.zip(&mut params) {
            let range = row(i, S::PARAMS);
            let own = &mut theta_bar[range.clone()];
            moved += system.pullback(t, &theta[range], y, lambda, y_bar, own);
        }
        moved.to_f64()
    };
    if S::AUTONOMOUS {
        pull_at(f64::NAN, [y, lambda], y_bar);
        return;
    }
    let length = (y.len() / rows).max(1);
    let states = y.chunks_exact(length).zip(lambda.chunks_exact(length));
    let states = states.zip(y_bar.chunks_exact_mut(length)).zip(t_bar);
    for (row, (((y, lambda), y_bar), t_bar)) in states.enumerate() {
        *t_bar += pull_at(t(row), [y, lambda], y_bar);
    }
}

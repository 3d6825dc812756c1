//! Closed forms on slices.

use aca_core::kernels::{Element, View};
use aca_core::{OnSlices, SliceField, Time};
use candle_core::{DType, Result, Tensor, Var};

use super::{ClosedForm, Places, System};
use crate::Real;

impl<S: System> ClosedForm<S> {
    /// The field with copies of the parameters, if it works on states like `y`.
    pub(super) fn bound(&self, y: &Tensor) -> Result<Option<OnSlices<'_>>> {
        if !(y.device().is_cpu() && self.theta.device().is_cpu()) {
            return Ok(None);
        }
        let places = self.places(&Time::new(0.0), y)?;
        Ok(match y.dtype() {
            DType::F32 => Some(OnSlices::F32(Box::new(self.bind::<f32>(places)?))),
            DType::F64 => Some(OnSlices::F64(Box::new(self.bind::<f64>(places)?))),
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

impl<S: System, T: Real + Element> SliceField<T> for Bound<'_, S, T> {
    fn eval(&mut self, _: f64, y: &[T], dy: &mut [T]) {
        self.places.slopes(self.system, &self.theta, y, dy);
    }

    fn pull(&mut self, _: f64, y: &[T], lambda: &[T], y_bar: &mut [T], theta_bar: &mut [T]) {
        self.places.pull(self.system, &self.theta, [y, lambda], [y_bar, theta_bar]);
    }

    fn variables(&self) -> Vec<Var> {
        vec![self.var.clone()]
    }
}

impl Places {
    /// Writes the slopes of all states.
    pub(super) fn slopes<S: System, T: Real>(
        &self,
        system: &S,
        theta: &[T],
        y: &[T],
        dy: &mut [T],
    ) {
        let rows = y.chunks_exact(S::DIM).zip(dy.chunks_exact_mut(S::DIM));
        for (state, (y, dy)) in rows.enumerate() {
            system.slope(&theta[self.range(state, S::PARAMS)], y, dy);
        }
    }

    /// Writes the cotangents of all states and adds those of the parameters.
    pub(super) fn pull<S: System, T: Real>(
        &self,
        system: &S,
        theta: &[T],
        [y, lambda]: [&[T]; 2],
        [y_bar, theta_bar]: [&mut [T]; 2],
    ) {
        let rows = y.chunks_exact(S::DIM).zip(lambda.chunks_exact(S::DIM));
        for (state, ((y, lambda), y_bar)) in rows.zip(y_bar.chunks_exact_mut(S::DIM)).enumerate() {
            let range = self.range(state, S::PARAMS);
            let theta_bar = &mut theta_bar[range.clone()];
            system.pullback(&theta[range], y, lambda, y_bar, theta_bar);
        }
    }
}

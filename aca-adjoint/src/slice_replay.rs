//! The replay of a step on slices, for fields that offer them.

use aca_core::kernels::{self, Element, View};
use aca_core::{Method, OnSlices, Result, SliceField, VectorField};
use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};
use smallvec::SmallVec;

use crate::params::Accumulator;
use crate::replay::{Outputs, Replay};

/// A weighted slice of a sum.
type Terms<'a, T> = SmallVec<[(T, &'a [T]); 16]>;

/// Pulls cotangents back through steps in buffers that every step uses again; what
/// [`Replay::pull`] does, with cotangents of the parameters summed until the end.
pub(crate) trait SliceReplay {
    /// Maps the cotangents of a step's end and outputs to that of its start.
    fn pull(&mut self, step: &Replay<'_>, a: &Tensor, outputs: Option<&Outputs>) -> Result<Tensor>;

    /// Hands over the cotangents of the parameters.
    fn finish(&mut self, theta: &mut Accumulator<'_>) -> Result<()>;
}

/// The replay on slices of states like `y0`, if the field has it and they are small.
pub(crate) fn on_slices<'a>(
    field: &'a dyn VectorField,
    y0: &Tensor,
    method: &Method,
) -> Option<Box<dyn SliceReplay + 'a>> {
    Some(match OnSlices::of(field, y0)? {
        OnSlices::F32(field) => Box::new(Buffers::new(field, y0.elem_count(), method)),
        OnSlices::F64(field) => Box::new(Buffers::new(field, y0.elem_count(), method)),
    })
}

/// A field with what a step needs.
struct Buffers<'a, T> {
    field: Box<dyn SliceField<T> + 'a>,
    size: usize,
    /// States of the stages, one after the other.
    states: Vec<T>,
    /// Slopes of the stages.
    k: Vec<T>,
    /// Cotangents of the states.
    mu: Vec<T>,
    /// Whether anything depends on the stage.
    reached: Vec<bool>,
    lambda: Vec<T>,
    theta: Vec<T>,
}

impl<'a, T: Element> Buffers<'a, T> {
    fn new(field: Box<dyn SliceField<T> + 'a>, size: usize, method: &Method) -> Self {
        let stages = method.tableau().stages().max(method.interpolant().stages());
        let theta = field.variables().iter().map(|var| var.elem_count()).sum();
        let zeros = |count: usize| vec![T::zero(); count];
        Self {
            field,
            size,
            states: zeros(stages * size),
            k: zeros(stages * size),
            mu: zeros(stages * size),
            reached: vec![false; stages],
            lambda: zeros(size),
            theta: zeros(theta),
        }
    }

    /// Evaluates the stages again: the same states as in the forward solve, bit for bit.
    fn evaluate(&mut self, step: &Replay<'_>, y0: &[T], count: usize) {
        let (size, method) = (self.size, step.method);
        for i in 0..count {
            let state = &mut self.states[i * size..][..size];
            method.write_stage_state(i, y0, step.h(), &self.k, state);
            // No state needs the slope of the last stage.
            if i + 1 < count {
                let t = method.stage_time(step.t0, step.t1, i);
                self.field.eval(t, state, &mut self.k[i * size..][..size]);
            }
        }
    }

    /// Writes the cotangent of stage `i`'s slope; `false` when nothing depends on it.
    fn write_lambda(
        &mut self,
        step: &Replay<'_>,
        i: usize,
        a: &[T],
        rows: Option<(&[f64], &[T])>,
    ) -> bool {
        let (size, h) = (self.size, step.h());
        let mut terms = Terms::new();
        if let Some(&b) = step.method.tableau().b().get(i).filter(|b| **b != 0.0) {
            terms.push((T::from_f64(h * b), a));
        }
        for j in (i + 1..self.reached.len()).filter(|j| self.reached[*j]) {
            let weight = step.method.a_row(j)[i];
            if weight != 0.0 {
                terms.push((T::from_f64(h * weight), row(&self.mu, j, size)));
            }
        }
        let rows = rows.filter(|(weights, _)| weights.iter().any(|&w| w != 0.0));
        if let Some((weights, rows)) = rows {
            let weights = weights.iter().map(|&w| T::from_f64(w));
            terms.extend(weights.zip(rows.chunks_exact(size)));
        }
        if !terms.is_empty() {
            kernels::combine_slices(&mut self.lambda, None, &terms);
        }
        !terms.is_empty()
    }

    fn pull_slices(
        &mut self,
        step: &Replay<'_>,
        [y0, a]: [&[T]; 2],
        outputs: Option<(&Outputs, &[T])>,
    ) -> Vec<T> {
        let (size, count) = (self.size, step.method.stages_with_weight(outputs.is_some()));
        self.evaluate(step, y0, count);
        step.field.count(count);
        self.reached.fill(false);
        let weights = outputs.map(|(outputs, _)| step.output_weights(outputs, count));
        for i in (0..count).rev() {
            let rows = outputs.zip(weights.as_ref()).map(|((_, rows), w)| (&w[i][..], rows));
            self.reached[i] = self.write_lambda(step, i, a, rows);
            if self.reached[i] {
                let t = step.method.stage_time(step.t0, step.t1, i);
                let (state, mu) = (row(&self.states, i, size), &mut self.mu[i * size..][..size]);
                self.field.pull(t, state, &self.lambda, mu, &mut self.theta);
            }
        }
        let reached = (0..count).filter(|i| self.reached[*i]);
        let mut terms: Terms<'_, T> = reached.map(|i| (T::one(), row(&self.mu, i, size))).collect();
        let rows = outputs.iter().flat_map(|(_, rows)| rows.chunks_exact(size));
        terms.extend(rows.map(|row| (T::one(), row)));
        let mut start = vec![T::zero(); size];
        kernels::combine_slices(&mut start, Some(a), &terms);
        start
    }
}

/// Row `i` of a buffer of rows.
fn row<T>(buffer: &[T], i: usize, size: usize) -> &[T] {
    &buffer[i * size..][..size]
}

impl<T: Element> SliceReplay for Buffers<'_, T> {
    fn pull(&mut self, step: &Replay<'_>, a: &Tensor, outputs: Option<&Outputs>) -> Result<Tensor> {
        let (y0, a) = (step.y0.contiguous()?, a.contiguous()?);
        let rows = outputs.map(|outputs| outputs.cotangents.contiguous()).transpose()?;
        let (y0_view, a_view) = (View::new(&y0)?, View::new(&a)?);
        let rows = rows.as_ref().map(View::new).transpose()?;
        let rows = rows.as_ref().map(View::slice).transpose()?;
        let slices = [y0_view.slice()?, a_view.slice()?];
        let start = self.pull_slices(step, slices, outputs.zip(rows));
        Ok(Tensor::from_vec(start, a.shape(), &Device::Cpu)?)
    }

    fn finish(&mut self, theta: &mut Accumulator<'_>) -> Result<()> {
        let (mut store, mut rest) = (GradStore::default(), &self.theta[..]);
        for var in self.field.variables() {
            let (own, others) = rest.split_at(var.elem_count());
            store.insert(&var, Tensor::from_slice(own, var.shape(), &Device::Cpu)?);
            rest = others;
        }
        theta.add(&store)
    }
}

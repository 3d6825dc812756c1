//! The replay of a step on slices, for fields that offer them.

use std::iter::repeat;

use aca_core::kernels::{self, Element, View};
use aca_core::{Method, OnSlices, Result, SliceField, SliceStep};
use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};
use smallvec::SmallVec;

use crate::params::Accumulator;
use crate::replay::{Outputs, Replay};
use crate::sample_replay::{RowOutputs, SampleReplay};
use crate::slice_pull::{Inside, Pull};

/// A weighted slice of a sum.
type Terms<'a, T> = SmallVec<[(f64, &'a [T]); 16]>;

/// Pulls cotangents back through steps in buffers that every step uses again; what
/// [`Replay::pull`] does, with cotangents of the parameters summed until the end.
pub(crate) trait SliceReplay {
    /// Maps the cotangents of a step's end and outputs to that of its start.
    fn pull(&mut self, step: &Replay<'_>, a: &Tensor, outputs: Option<&Outputs>) -> Result<Tensor>;

    /// The same of a step of every row.
    fn pull_rows(
        &mut self,
        step: &SampleReplay<'_>,
        a: &Tensor,
        outputs: &RowOutputs<'_>,
    ) -> Result<Tensor>;

    /// Hands over the cotangents of the parameters.
    fn finish(&mut self, theta: &mut Accumulator<'_>) -> Result<()>;
}

/// The replay on slices of states of `size` numbers.
pub(crate) fn replay<'a>(
    field: OnSlices<'a>,
    size: usize,
    method: &Method,
) -> Box<dyn SliceReplay + 'a> {
    match field {
        OnSlices::F32(field) => Box::new(Buffers::new(field, size, method)),
        OnSlices::F64(field) => Box::new(Buffers::new(field, size, method)),
    }
}

/// A field with what a step needs.
struct Buffers<'a, T> {
    field: Box<dyn SliceField<T> + 'a>,
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
            states: zeros(stages * size),
            k: zeros(stages * size),
            mu: zeros(stages * size),
            reached: vec![false; stages],
            lambda: zeros(size),
            theta: zeros(theta),
        }
    }

    /// Evaluates the stages again: the same states as in the forward solve, bit for bit.
    fn evaluate(&mut self, pull: &Pull<'_, T>) {
        let size = pull.size();
        for i in 0..pull.count {
            let state = &mut self.states[i * size..][..size];
            pull.step_of(i).write_stage_state(pull.method, i, state, pull.y0, &self.k);
            // No state needs the slope of the last stage.
            if i + 1 < pull.count {
                let t = pull.step_of(i).time(pull.method, i);
                self.field.eval(t, state, &mut self.k[i * size..][..size]);
            }
        }
    }

    /// Writes the cotangent of stage `i`'s slope; `false` when nothing depends on it.
    fn write_lambda(&mut self, pull: &Pull<'_, T>, i: usize) -> bool {
        let size = pull.size();
        let mut terms = Terms::new();
        if let Some(&b) = pull.method.tableau().b().get(i).filter(|b| **b != 0.0) {
            terms.push((b, pull.a));
        }
        for j in (i + 1..self.reached.len()).filter(|j| self.reached[*j]) {
            let weight = pull.method.a_row(j)[i];
            if weight != 0.0 {
                terms.push((weight, row(&self.mu, j, size)));
            }
        }
        let weights = pull.weights(i);
        terms.extend(weights.clone().into_iter().flat_map(|weights| pull.shared(weights)));
        if terms.is_empty() && weights.is_none() {
            return false;
        }
        let lambda = &mut self.lambda[..size];
        pull.step.write_sum(lambda, None, &terms);
        if let Some(weights) = weights {
            pull.add_each(lambda, weights, |h, w| h * w);
        }
        true
    }

    /// Returns the cotangent of the step's start.
    fn pull_back(&mut self, pull: &Pull<'_, T>) -> Vec<T> {
        let size = pull.size();
        self.evaluate(pull);
        self.reached.fill(false);
        for i in (0..pull.count).rev() {
            self.reached[i] = self.write_lambda(pull, i);
            if self.reached[i] {
                let t = pull.step_of(i).time(pull.method, i);
                let (state, mu) = (row(&self.states, i, size), &mut self.mu[i * size..][..size]);
                self.field.pull(t, state, &self.lambda[..size], mu, &mut self.theta);
            }
        }
        let reached = (0..pull.count).filter(|i| self.reached[*i]);
        let terms = reached.map(|i| (1.0, row(&self.mu, i, size))).chain(pull.shared(repeat(1.0)));
        let terms: SmallVec<[_; 16]> = terms.map(|(w, x)| (T::from_f64(w), x)).collect();
        let mut start = vec![T::zero(); size];
        kernels::combine_slices(&mut start, Some(pull.a), &terms);
        pull.add_each(&mut start, repeat(1.0), |_, w| w);
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
        let cotangents = outputs.map(|outputs| outputs.cotangents.contiguous()).transpose()?;
        let (y0_view, a_view) = (View::new(&y0)?, View::new(&a)?);
        let cotangents = cotangents.as_ref().map(View::new).transpose()?;
        let cotangents = cotangents.as_ref().map(View::slice).transpose()?;
        let s = outputs.map_or(&[][..], |outputs| &outputs.s);
        let inside = Inside::Shared(s, cotangents.unwrap_or(&[]));
        let (t0, t1) = (step.t0, step.t1);
        let states = [y0_view.slice()?, a_view.slice()?];
        let pull = Pull::new(step.method, SliceStep::Shared { t0, t1 }, states, inside);
        step.field.count(pull.count);
        Ok(Tensor::from_vec(self.pull_back(&pull), a.shape(), &Device::Cpu)?)
    }

    fn pull_rows(
        &mut self,
        step: &SampleReplay<'_>,
        a: &Tensor,
        outputs: &RowOutputs<'_>,
    ) -> Result<Tensor> {
        let (y0, a) = (step.y0.contiguous()?, a.contiguous()?);
        let cotangents = outputs.cotangents.contiguous()?;
        let (y0_view, a_view) = (View::new(&y0)?, View::new(&a)?);
        let cotangents = View::new(&cotangents)?;
        let inside = Inside::Each(&outputs.outputs, cotangents.slice()?);
        let states = [y0_view.slice()?, a_view.slice()?];
        let pull = Pull::new(step.method, SliceStep::Each(step.rows), states, inside);
        step.field.count(pull.count);
        Ok(Tensor::from_vec(self.pull_back(&pull), a.shape(), &Device::Cpu)?)
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

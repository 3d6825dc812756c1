//! The replay of a step on slices, for fields that offer them.

use std::iter::repeat;

use aca_core::kernels::{self, Element, View};
use aca_core::{Evaluator, Method, OnSlices, Result, SliceField, SliceStep};
use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};
use smallvec::SmallVec;

use crate::finding::Known;
use crate::params::Accumulator;
use crate::replay::{Outputs, Replay};
use crate::report::RowFinding;
use crate::sample_replay::{RowOutputs, SampleReplay};
use crate::slice_finding::Found;
use crate::slice_pull::{Inside, Pull};

/// A weighted slice of a sum.
type Terms<'a, T> = SmallVec<[(f64, &'a [T]); 16]>;

/// Pulls cotangents back through steps in buffers that every step uses again; what
/// [`Replay::pull`] does, with cotangents of the parameters summed until the end.
pub(crate) trait SliceReplay {
    /// Maps the cotangents of a step's end and outputs to that of its start.
    fn pull(
        &mut self,
        step: &Replay<'_>,
        a: &Tensor,
        outputs: Option<&Outputs>,
        known: &Known<'_>,
    ) -> Result<(Tensor, RowFinding)>;

    /// The same of a step of every row.
    fn pull_rows(
        &mut self,
        step: &SampleReplay<'_>,
        a: &Tensor,
        outputs: &RowOutputs<'_>,
        known: &Known<'_>,
    ) -> Result<(Tensor, Vec<RowFinding>)>;

    /// Keeps these rows of what the last step left for the next, in their order.
    fn keep(&mut self, rows: &[usize]);

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
pub(crate) struct Buffers<'a, T> {
    field: Box<dyn SliceField<T> + 'a>,
    /// States of the stages, one after the other.
    pub(crate) states: Vec<T>,
    /// Slopes of the stages.
    pub(crate) k: Vec<T>,
    /// Cotangents of the states.
    mu: Vec<T>,
    /// Whether anything depends on the stage.
    reached: Vec<bool>,
    lambda: Vec<T>,
    theta: Vec<T>,
    /// The step replayed last: slopes at its start, and where each row of it started.
    later: Later<T>,
    /// For sums that a step is measured by.
    pub(crate) scratch: Vec<T>,
}

/// What a replayed step leaves for the one before it.
struct Later<T> {
    k1: Vec<T>,
    t: Vec<f64>,
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
            later: Later { k1: zeros(size), t: Vec::new() },
            scratch: zeros(size),
        }
    }

    /// Evaluates the stages again: the same states as in the forward solve, bit for bit. Returns how many there are,
    /// those of the error estimate included.
    fn evaluate(&mut self, pull: &Pull<'_, T>, slope: Option<&Tensor>) -> Result<usize> {
        let (size, method) = (pull.size(), pull.method);
        let count = pull.count.max(method.error_weights().len());
        if let Some(slope) = slope {
            self.later.k1[..size].copy_from_slice(View::new(&slope.contiguous()?)?.slice()?);
        }
        let known = slope.is_some() || pull.starts_at(&self.later.t);
        let end = method.fsal_stage().filter(|_| known);
        for i in 0..count {
            let state = &mut self.states[i * size..][..size];
            pull.step_of(i).write_stage_state(method, i, state, pull.y0, &self.k);
            let k = &mut self.k[i * size..][..size];
            match end == Some(i) {
                true => k.copy_from_slice(&self.later.k1[..size]),
                false => self.field.eval(pull.step_of(i).time(method, i), state, k),
            }
        }
        // One linearization a stage that anything depends on; those of the error estimate alone are evaluations.
        let copied = usize::from(end.is_some_and(|end| (pull.count..count).contains(&end)));
        Ok(count - copied)
    }

    /// Replays a step and goes back through it.
    fn run(
        &mut self,
        pull: &Pull<'_, T>,
        known: &Known<'_>,
        field: &Evaluator<'_>,
    ) -> Result<(Vec<T>, Found)> {
        let count = self.evaluate(pull, known.slope)?;
        field.count(count);
        let start = self.pull_back(pull);
        let found = self.find(pull, &start, known)?;
        self.later.k1[..pull.size()].copy_from_slice(row(&self.k, 0, pull.size()));
        self.later.t.clear();
        self.later.t.extend(pull.starts());
        Ok((start, found))
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
        if let Some(weights) = weights.clone() {
            // Adapters of iterators are not inlined here in every profile.
            for term in pull.shared(weights) {
                terms.push(term);
            }
        }
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

impl<T: Copy> Later<T> {
    /// Moves rows that stay towards the front, none over one that has yet to move.
    fn keep(&mut self, rows: &[usize]) {
        if self.t.is_empty() {
            return;
        }
        let length = self.k1.len() / self.t.len();
        for (to, &from) in rows.iter().enumerate() {
            self.k1.copy_within(from * length..(from + 1) * length, to * length);
            self.t[to] = self.t[from];
        }
        self.k1.truncate(rows.len() * length);
        self.t.truncate(rows.len());
    }
}

/// Row `i` of a buffer of rows.
pub(crate) fn row<T>(buffer: &[T], i: usize, size: usize) -> &[T] {
    &buffer[i * size..][..size]
}

impl<T: Element> SliceReplay for Buffers<'_, T> {
    fn pull(
        &mut self,
        step: &Replay<'_>,
        a: &Tensor,
        outputs: Option<&Outputs>,
        known: &Known<'_>,
    ) -> Result<(Tensor, RowFinding)> {
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
        let (start, found) = self.run(&pull, known, step.field)?;
        let found = found.into_iter().next().unwrap_or_default();
        Ok((Tensor::from_vec(start, a.shape(), &Device::Cpu)?, found))
    }

    fn pull_rows(
        &mut self,
        step: &SampleReplay<'_>,
        a: &Tensor,
        outputs: &RowOutputs<'_>,
        known: &Known<'_>,
    ) -> Result<(Tensor, Vec<RowFinding>)> {
        let (y0, a) = (step.y0.contiguous()?, a.contiguous()?);
        let cotangents = outputs.cotangents.contiguous()?;
        let (y0_view, a_view) = (View::new(&y0)?, View::new(&a)?);
        let cotangents = View::new(&cotangents)?;
        let inside = Inside::Each(&outputs.outputs, cotangents.slice()?);
        let states = [y0_view.slice()?, a_view.slice()?];
        let pull = Pull::new(step.method, SliceStep::Each(step.rows), states, inside);
        let (start, found) = self.run(&pull, known, step.field)?;
        Ok((Tensor::from_vec(start, a.shape(), &Device::Cpu)?, found.into_vec()))
    }

    fn keep(&mut self, rows: &[usize]) {
        self.later.keep(rows);
    }

    fn finish(&mut self, theta: &mut Accumulator<'_>) -> Result<()> {
        let (mut store, mut rest) = (GradStore::default(), &self.theta[..]);
        for var in self.field.variables() {
            let (own, others) = rest.split_at(var.elem_count());
            store.insert(&var, Tensor::from_slice(own, var.shape(), &Device::Cpu)?);
            rest = others;
        }
        theta.add_store(&store)
    }
}

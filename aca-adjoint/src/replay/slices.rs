//! The replay of a step on slices, for fields that offer them.

use aca_core::kernels::{self, Element, View};
use aca_core::{Halves, NativeField, NewtonState, Result, SliceStages};
use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};

use super::{Arriving, Known, Replay, ReplayStep, Replayed, meets};
use crate::params::Accumulator;

mod measures;
mod pull;

use pull::{Entering, Pull, Terms, row};

/// Replays steps in buffers that every step uses again, with cotangents of the parameters summed until the end.
pub(crate) struct OnSlices<'a, T> {
    field: Box<dyn NativeField<T> + 'a>,
    /// States of the stages, one after the other.
    states: Vec<T>,
    /// Slopes of the stages.
    k: Vec<T>,
    /// The halves that slopes were cut down to.
    halves: Halves,
    /// Where in the step a scheme of the user's evaluated its slopes.
    nodes: Vec<f64>,
    /// Cotangents of the states.
    mu: Vec<T>,
    /// Whether anything depends on the stage.
    reached: Vec<bool>,
    lambda: Vec<T>,
    theta: Vec<T>,
    /// Cotangents of the stages' times, one per row, one stage after the other.
    dt: Vec<f64>,
    /// The step replayed last: slopes at its start, and where each row of it started.
    later: Later<T>,
    /// For sums that a step is measured by.
    scratch: Vec<T>,
}

/// What a replayed step leaves for the one before it.
struct Later<T> {
    k1: Vec<T>,
    t: Vec<f64>,
}

impl<'a, T: Element> OnSlices<'a, T> {
    pub(crate) fn new(field: Box<dyn NativeField<T> + 'a>, size: usize, stages: usize) -> Self {
        let theta = field.variables().iter().map(|var| var.elem_count()).sum();
        let zeros = |count: usize| vec![T::zero(); count];
        Self {
            field,
            states: zeros(stages * size),
            k: zeros(stages * size),
            halves: Halves::new(),
            nodes: Vec::new(),
            mu: zeros(stages * size),
            reached: vec![false; stages],
            lambda: zeros(size),
            theta: zeros(theta),
            dt: Vec::new(),
            later: Later { k1: zeros(size), t: Vec::new() },
            scratch: zeros(size),
        }
    }

    /// Evaluates the stages again: the same states as in the forward solve, bit for bit; those of the error estimate
    /// included.
    fn evaluate(
        &mut self,
        step: &ReplayStep<'_>,
        entering: &Entering<'_, T>,
        slope: Option<&Tensor>,
    ) -> Result<()> {
        let (size, method) = (entering.size(), entering.method);
        let count = entering.count.max(method.error_weights().len());
        if let Some(slope) = slope {
            self.later.k1[..size].copy_from_slice(View::new(&slope.contiguous()?)?.slice()?);
        }
        let known = slope.is_some() || meets(method, entering.steps, &self.later.t);
        let first = step.k1.map(|k1| k1.contiguous()).transpose()?;
        let first = first.as_ref().map(View::new).transpose()?;
        let end = method.fsal_stage().filter(|end| known && *end < count);
        let given = match &first {
            Some(first) => Some((0, first.slice()?)),
            None => end.map(|end| (end, &self.later.k1[..size])),
        };
        let mut stages = SliceStages {
            method,
            field: &mut *self.field,
            counter: step.field,
            steps: entering.steps,
            y0: entering.y0,
            states: &mut self.states,
            k: &mut self.k,
            known: 0,
            given,
            wanted: entering.count,
            end: None,
            dims: entering.dims,
            halves: std::mem::take(&mut self.halves),
            nodes: std::mem::take(&mut self.nodes),
            newton: NewtonState::default(),
        };
        stages.halves.clear();
        stages.nodes.clear();
        stages.fill(count.min(method.stages()))?;
        if let Some(looked_into) = &entering.looked_into {
            stages.steps = looked_into;
        }
        stages.fill(count)?;
        (self.halves, self.nodes) = (stages.halves, stages.nodes);
        // One linearization per stage that anything depends on, though its value may be known.
        step.field.count(usize::from(given.is_some_and(|(given, _)| given < entering.count)));
        Ok(())
    }

    /// Returns the cotangent of the step's start.
    fn pull_back(&mut self, entering: &Entering<'_, T>) -> Result<Vec<T>> {
        let size = entering.size();
        self.reached.fill(false);
        self.dt.clear();
        self.dt.resize(self.reached.len() * entering.steps.rows(), 0.0);
        let mut pull = Pull {
            entering,
            field: &mut *self.field,
            states: &self.states,
            halves: &self.halves,
            nodes: &self.nodes,
            mu: &mut self.mu,
            reached: &mut self.reached,
            lambda: &mut self.lambda[..size],
            theta: &mut self.theta,
            dt: &mut self.dt,
        };
        entering.method.pull(&mut pull, entering.count)?;
        let mut terms = Terms::new();
        for i in 0..entering.count {
            if self.reached[i] {
                terms.push((1.0, row(&self.mu, i, size)));
            }
        }
        entering.push_outputs(&mut terms, |_| 1.0);
        let mut start = vec![T::zero(); size];
        kernels::combine_slices(&mut start, Some(entering.a), &[1.0], &terms);
        entering.add_outputs(&mut start, |_, _| 1.0);
        Ok(start)
    }
}

impl<T: Element> Replay for OnSlices<'_, T> {
    fn replay(
        &mut self,
        step: &ReplayStep<'_>,
        arriving: &Arriving<'_>,
        known: &Known<'_>,
        _theta: &mut Accumulator<'_>,
    ) -> Result<Replayed> {
        let tensors = [step.y0.contiguous()?, arriving.a.contiguous()?, arriving.g.contiguous()?];
        let [y0, a, g] = &tensors;
        let (y0, a, g) = (View::new(y0)?, View::new(a)?, View::new(g)?);
        let numbers = [y0.slice()?, a.slice()?, g.slice()?];
        let entering = Entering::new(step, numbers, arriving.inside, arriving.before);
        self.evaluate(step, &entering, known.slope)?;
        let start = self.pull_back(&entering)?;
        let found = self.find(&entering, &start, known)?;
        let times = known.want_times.then(|| self.times(&entering));
        self.later.k1[..entering.size()].copy_from_slice(row(&self.k, 0, entering.size()));
        self.later.t.clear();
        self.later.t.extend((0..step.steps.rows()).map(|row| step.steps.ends(row).0));
        let start = Tensor::from_vec(start, arriving.a.shape(), &Device::Cpu)?;
        Ok(Replayed { start, found, times })
    }

    fn keep(&mut self, rows: &[usize]) -> Result<()> {
        let Later { k1, t } = &mut self.later;
        if t.is_empty() {
            return Ok(());
        }
        let length = k1.len() / t.len();
        // Rows move towards the front, none over one that has yet to move.
        for (to, &from) in rows.iter().enumerate() {
            k1.copy_within(from * length..(from + 1) * length, to * length);
            t[to] = t[from];
        }
        k1.truncate(rows.len() * length);
        t.truncate(rows.len());
        Ok(())
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

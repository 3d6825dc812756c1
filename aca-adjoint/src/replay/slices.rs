//! The replay of a step on slices, for fields that offer them.

use aca_core::kernels::{self, Element, View};
use aca_core::{
    Evaluator, Halves, NativeField, NativeTime, NewtonState, Result, SliceStages, StageCotangents,
    StageMatrices, Stepper, Steps, half_of, systems,
};
use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};
use smallvec::SmallVec;

use super::{
    Arriving, Known, Refinement, Replay, ReplayStep, Replayed, looked_into, meets, output_weights,
};
use crate::GradientError;
use crate::outputs::RowOutput;
use crate::params::Accumulator;

mod measures;

/// Replays steps in buffers that every step uses again, with cotangents of the parameters summed until the end.
pub(crate) struct OnSlices<'a, T> {
    field: Box<dyn NativeField<T> + 'a>,
    /// States of the stages, one after the other.
    states: Vec<T>,
    /// Slopes of the stages.
    k: Vec<T>,
    /// The halves that slopes were cut down to.
    halves: Halves,
    /// Cotangents of the states.
    mu: Vec<T>,
    /// Whether anything depends on the stage.
    reached: Vec<bool>,
    lambda: Vec<T>,
    theta: Vec<T>,
    /// Cotangents of the stages' times, one a row, one stage after the other.
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

/// What enters a step, as slices.
struct Entering<'a, T> {
    method: &'a Stepper,
    steps: &'a Steps,
    looked_into: Option<Steps>,
    y0: &'a [T],
    a: &'a [T],
    inside: &'a [RowOutput],
    before: &'a [RowOutput],
    /// Cotangents of all outputs of the solve.
    g: &'a [T],
    /// Number of stages that anything depends on.
    count: usize,
    /// `b_i(s_m)`, the weights of one output after the other.
    weights: Vec<f64>,
    /// Dimensions of the state.
    dims: &'a [usize],
    counter: &'a Evaluator<'a>,
}

impl<'a, T: Element> Entering<'a, T> {
    fn new(
        step: &ReplayStep<'a>,
        [y0, a, g]: [&'a [T]; 3],
        inside: &'a [RowOutput],
        before: &'a [RowOutput],
    ) -> Self {
        let &ReplayStep { method, steps, .. } = step;
        let count = method.stages_with_weight(!inside.is_empty());
        let weights = output_weights(method, inside, count);
        let looked_into = looked_into(steps, inside);
        let (dims, counter) = (step.y0.dims(), step.field);
        Self { method, steps, looked_into, y0, a, inside, before, g, count, weights, dims, counter }
    }

    fn size(&self) -> usize {
        self.y0.len()
    }

    /// Numbers in a row.
    fn length(&self) -> usize {
        self.y0.len() / self.steps.rows()
    }

    /// The step as stage `i` sees it.
    fn steps_of(&self, i: usize) -> &Steps {
        match &self.looked_into {
            Some(steps) if i >= self.method.stages() => steps,
            _ => self.steps,
        }
    }

    /// The cotangent of an output.
    fn output(&self, output: &RowOutput) -> &'a [T] {
        let length = self.length();
        &self.g[output.index * length..][..length]
    }

    /// The outputs' cotangents as weighted slices of the whole state, where it is one row.
    fn push_outputs(&self, terms: &mut Terms<'a, T>, weight: impl Fn(usize) -> f64) {
        for (m, output) in self.inside.iter().enumerate().filter(|_| self.steps.is_whole()) {
            terms.push((weight(m), self.output(output)));
        }
    }

    /// Adds the outputs' cotangents to the rows that they belong to, where there are several.
    fn add_outputs(&self, out: &mut [T], weight: impl Fn(usize, f64) -> f64) {
        if self.steps.is_whole() || self.inside.is_empty() {
            return;
        }
        let h = self.steps.h();
        let terms = self.inside.iter().enumerate();
        let terms = terms.map(|(m, output)| output.term(weight(m, h[output.row])));
        kernels::add_slice_rows(out, h.len(), terms.filter(|term| term.weight != 0.0), self.g);
    }
}

/// A weighted list of slices.
type Terms<'a, T> = SmallVec<[(f64, &'a [T]); 16]>;

/// Row `i` of a buffer of rows.
#[inline]
fn row<T>(buffer: &[T], i: usize, size: usize) -> &[T] {
    &buffer[i * size..][..size]
}

/// Cotangents under way back through one step.
struct Pull<'p, 'e, 'f, T> {
    entering: &'p Entering<'e, T>,
    field: &'p mut (dyn NativeField<T> + 'f),
    states: &'p [T],
    halves: &'p Halves,
    mu: &'p mut [T],
    reached: &'p mut [bool],
    lambda: &'p mut [T],
    theta: &'p mut [T],
    dt: &'p mut [f64],
}

impl<T: Element> Pull<'_, '_, '_, T> {
    /// Writes the cotangent of slope `i`; `false` when nothing depends on it.
    #[inline]
    fn write_lambda(&mut self, i: usize, weights: &[f64]) -> bool {
        let (entering, size) = (self.entering, self.entering.size());
        let mut terms = Terms::new();
        if let Some(&b) = entering.method.b().get(i).filter(|b| **b != 0.0) {
            terms.push((b, entering.a));
        }
        let mut add = |j: usize, w: f64| {
            if w != 0.0 && self.reached[j] {
                terms.push((w, row(self.mu, j, size)));
            }
        };
        weights.iter().enumerate().skip(i).for_each(|(j, &w)| add(j, w));
        // A scheme of the user's knows nothing of the slopes that only the interpolant needs.
        for j in weights.len()..entering.count {
            add(j, entering.method.column(i)[j]);
        }
        let output = |m: usize| entering.weights[m * entering.count + i];
        let outputs = (0..entering.inside.len()).any(|m| output(m) != 0.0);
        if terms.is_empty() && !outputs {
            return false;
        }
        if outputs {
            entering.push_outputs(&mut terms, output);
        }
        kernels::combine_slices(self.lambda, None, entering.steps.h(), &terms);
        if outputs {
            entering.add_outputs(self.lambda, |m, h| h * output(m));
        }
        if let Some(half) = half_of(self.halves, i) {
            let width = entering.dims.last().copied().unwrap_or(1);
            kernels::keep_half_of_slice(self.lambda, width, half);
        }
        true
    }

    /// Pulls the cotangent of slope `i` back through the field.
    #[inline]
    fn pull_lambda(&mut self, i: usize) {
        let (entering, size) = (self.entering, self.entering.size());
        let t = NativeTime::of(entering.method, entering.steps_of(i), entering.method.c(i));
        let rows = entering.steps.rows();
        let (state, mu) = (row(self.states, i, size), &mut self.mu[i * size..][..size]);
        let dt = &mut self.dt[i * rows..][..rows];
        self.field.pull(t, state, self.lambda, mu, self.theta, dt);
    }
}

impl<T: Element> Pull<'_, '_, '_, T> {
    /// Writes the cotangent that solves `(I - h gamma J)^T lambda = right` at stage `i`, refined by the field's pullback
    /// until that says that nothing is left; `false` if it never does.
    fn solve_transposed(
        &mut self,
        i: usize,
        gamma: f64,
        right: &[f64],
        blocks: usize,
    ) -> Result<bool> {
        let (entering, size) = (self.entering, self.entering.size());
        let (steps, length) = (entering.steps, size / entering.steps.rows());
        let t = NativeTime::of(entering.method, entering.steps_of(i), entering.method.c(i));
        let state = row(self.states, i, size);
        let mut matrices = StageMatrices::on_slices(&mut *self.field, t, state, blocks)?;
        if !matrices.factor(steps.h(), gamma) {
            return Ok(false);
        }
        let norms = |x: &[f64]| -> Vec<f64> {
            let of = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
            x.chunks_exact(size / blocks).map(of).collect()
        };
        let mut refinement =
            Refinement::new(entering.counter.epsilon(), norms(right), matrices.norms());
        let mut lambda = right.to_vec();
        matrices.solve_transposed_slice(&mut lambda);
        // What parameters and times get waits for the last word.
        let (mut theta, mut dt) = (self.theta.to_vec(), vec![0.0; t.rows()]);
        let mut mu = vec![T::zero(); size];
        loop {
            self.lambda.iter_mut().zip(&lambda).for_each(|(own, x)| *own = T::from_f64(*x));
            self.field.pull(t, state, self.lambda, &mut mu, &mut theta, &mut dt);
            let h = |i: usize| steps.h()[i / length];
            let terms = right.iter().zip(&lambda).zip(&mu).enumerate();
            let left = terms.map(|(i, ((r, x), mu))| r - x + gamma * h(i) * mu.to_f64());
            let mut left: Vec<f64> = left.collect();
            if let Some(solved) = refinement.judge(&norms(&left), &norms(&lambda)) {
                return Ok(solved);
            }
            matrices.solve_transposed_slice(&mut left);
            lambda.iter_mut().zip(left).for_each(|(x, left)| *x += left);
        }
    }
}

impl<T: Element> StageCotangents for Pull<'_, '_, '_, T> {
    #[inline]
    fn pull(&mut self, i: usize, weights: &[f64]) -> Result<()> {
        self.reached[i] = self.write_lambda(i, weights);
        if self.reached[i] {
            self.pull_lambda(i);
        }
        Ok(())
    }

    fn solve(&mut self, i: usize, gamma: f64, weights: &[f64]) -> Result<()> {
        let entering = self.entering;
        if !self.write_lambda(i, weights) {
            self.reached[i] = false;
            return Ok(());
        }
        let (steps, method) = (entering.steps, entering.method);
        let blocks = systems(
            entering.counter,
            steps,
            entering.dims,
            || method.times(steps, 0.0),
            || Ok(Tensor::from_slice(entering.y0, entering.dims, &Device::Cpu)?),
        )?;
        let right: Vec<f64> = self.lambda.iter().map(|x| x.to_f64()).collect();
        let mut solved = self.solve_transposed(i, gamma, &right, blocks)?;
        if !solved && steps.is_whole() && blocks > 1 {
            // Rows that seemed apart may be joined here.
            solved = self.solve_transposed(i, gamma, &right, 1)?;
        }
        if !solved {
            return Err(GradientError::StageUnsolved.into());
        }
        self.reached[i] = true;
        self.pull_lambda(i);
        Ok(())
    }

    fn settle(&mut self, i: usize, weights: &[f64]) -> Result<f64> {
        let (size, rows) = (self.entering.size(), self.entering.steps.rows());
        let before = self.reached[i].then(|| row(self.mu, i, size).to_vec());
        self.reached[i] = self.write_lambda(i, weights);
        if !self.reached[i] {
            return Ok(0.0);
        }
        // What parameters and times get waits for the last word.
        let (theta, dt) = (self.theta.to_vec(), self.dt[i * rows..][..rows].to_vec());
        self.pull_lambda(i);
        self.theta.copy_from_slice(&theta);
        self.dt[i * rows..][..rows].copy_from_slice(&dt);
        let mu = row(self.mu, i, size);
        Ok(before
            .map_or(f64::INFINITY, |before| kernels::largest_move_of_slices(rows, &before, mu)))
    }
}

impl<'a, T: Element> OnSlices<'a, T> {
    pub(crate) fn new(field: Box<dyn NativeField<T> + 'a>, size: usize, method: &Stepper) -> Self {
        let stages = method.stages().max(method.interpolant().stages());
        let theta = field.variables().iter().map(|var| var.elem_count()).sum();
        let zeros = |count: usize| vec![T::zero(); count];
        Self {
            field,
            states: zeros(stages * size),
            k: zeros(stages * size),
            halves: Halves::new(),
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
            end: None,
            dims: entering.dims,
            halves: std::mem::take(&mut self.halves),
            newton: NewtonState::default(),
        };
        stages.halves.clear();
        stages.fill(count.min(method.stages()))?;
        if let Some(looked_into) = &entering.looked_into {
            stages.steps = looked_into;
        }
        stages.fill(count)?;
        self.halves = stages.halves;
        // One linearization a stage that anything depends on, though its value may be known.
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

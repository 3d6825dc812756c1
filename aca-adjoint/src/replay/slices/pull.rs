//! The way of cotangents back through one step on slices.

use aca_core::kernels::{self, Element};
use aca_core::{
    Evaluator, Halves, NativeField, NativeTime, Result, StageCotangents, Stepper, Steps, Structure,
    TransposedSystems, half_of, products_on_slices, systems,
};
use candle_core::{Device, Tensor};
use smallvec::SmallVec;

use crate::GradientError;
use crate::outputs::RowOutput;
use crate::replay::{ReplayStep, looked_into, output_weights};

/// What enters a step, as slices.
pub(super) struct Entering<'a, T> {
    pub(super) method: &'a Stepper,
    pub(super) steps: &'a Steps,
    pub(super) looked_into: Option<Steps>,
    pub(super) y0: &'a [T],
    pub(super) a: &'a [T],
    pub(super) inside: &'a [RowOutput],
    pub(super) before: &'a [RowOutput],
    /// Cotangents of all outputs of the solve.
    pub(super) g: &'a [T],
    /// Number of stages that anything depends on.
    pub(super) count: usize,
    /// `b_i(s_m)`, the weights of one output after the other.
    pub(super) weights: Vec<f64>,
    /// Dimensions of the state.
    pub(super) dims: &'a [usize],
    pub(super) counter: &'a Evaluator<'a>,
}

impl<'a, T: Element> Entering<'a, T> {
    pub(super) fn new(
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

    pub(super) fn size(&self) -> usize {
        self.y0.len()
    }

    /// Numbers in a row.
    pub(super) fn length(&self) -> usize {
        self.y0.len() / self.steps.rows()
    }

    /// The step as stage `i` sees it.
    pub(super) fn steps_of(&self, i: usize) -> &Steps {
        match &self.looked_into {
            Some(steps) if i >= self.method.stages() => steps,
            _ => self.steps,
        }
    }

    /// The cotangent of an output.
    pub(super) fn output(&self, output: &RowOutput) -> &'a [T] {
        let length = self.length();
        &self.g[output.index * length..][..length]
    }

    /// The outputs' cotangents as weighted slices of the whole state, where it is one row.
    pub(super) fn push_outputs(&self, terms: &mut Terms<'a, T>, weight: impl Fn(usize) -> f64) {
        for (m, output) in self.inside.iter().enumerate().filter(|_| self.steps.is_whole()) {
            terms.push((weight(m), self.output(output)));
        }
    }

    /// Adds the outputs' cotangents to the rows that they belong to, where there are several.
    pub(super) fn add_outputs(&self, out: &mut [T], weight: impl Fn(usize, f64) -> f64) {
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
pub(super) type Terms<'a, T> = SmallVec<[(f64, &'a [T]); 16]>;

/// Row `i` of a buffer of rows.
#[inline]
pub(super) fn row<T>(buffer: &[T], i: usize, size: usize) -> &[T] {
    &buffer[i * size..][..size]
}

/// Cotangents under way back through one step.
pub(super) struct Pull<'p, 'e, 'f, T> {
    pub(super) entering: &'p Entering<'e, T>,
    pub(super) field: &'p mut (dyn NativeField<T> + 'f),
    pub(super) states: &'p [T],
    pub(super) halves: &'p Halves,
    pub(super) nodes: &'p [f64],
    pub(super) mu: &'p mut [T],
    pub(super) reached: &'p mut [bool],
    pub(super) lambda: &'p mut [T],
    pub(super) theta: &'p mut [T],
    pub(super) dt: &'p mut [f64],
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

    /// The fraction of the step at which slope `i` was evaluated.
    #[inline]
    fn node(&self, i: usize) -> f64 {
        self.nodes.get(i).copied().unwrap_or_else(|| self.entering.method.c(i))
    }

    /// Pulls the cotangent of slope `i` back through the field.
    #[inline]
    fn pull_lambda(&mut self, i: usize) {
        let (entering, size) = (self.entering, self.entering.size());
        let t = NativeTime::of(entering.method, entering.steps_of(i), self.node(i));
        let rows = entering.steps.rows();
        let (state, mu) = (row(self.states, i, size), &mut self.mu[i * size..][..size]);
        let dt = &mut self.dt[i * rows..][..rows];
        self.field.pull(t, state, self.lambda, mu, self.theta, dt);
    }
}

impl<T: Element> Pull<'_, '_, '_, T> {
    /// The cotangents that solve `(I - h gamma J)^T lambda = right` at stage `i`, for so many systems.
    fn solve_transposed(
        &mut self,
        (i, gamma): (usize, f64),
        right: &[f64],
        (blocks, structure): (usize, &Structure),
    ) -> Result<Option<Vec<f64>>> {
        let (entering, size) = (self.entering, self.entering.size());
        let (steps, c) = (entering.steps_of(i), self.node(i));
        let state = row(self.states, i, size);
        let point = || {
            let y = Tensor::from_slice(state, entering.dims, &Device::Cpu)?;
            Ok((entering.method.times(steps, c)?, y))
        };
        let epsilon = entering.counter.epsilon();
        let systems = TransposedSystems { structure, blocks, steps, gamma, epsilon, point: &point };
        let t = NativeTime::of(entering.method, steps, c);
        systems.solve(right, products_on_slices(&mut *self.field, t, state))
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
        let structure = entering.counter.structure(None, right.len() / blocks)?;
        let solved = self.solve_transposed((i, gamma), &right, (blocks, &structure))?;
        let lambda = solved.ok_or(GradientError::StageUnsolved)?;
        self.lambda.iter_mut().zip(lambda).for_each(|(own, x)| *own = T::from_f64(x));
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

//! The slopes of a step on slices: what solves and replays are made of.

use candle_core::{Device, Tensor};

use crate::implicit::{
    NewtonState, Preconditioner, Sparsity, StageField, StageMatrices, StagePoint, Structure, like,
    numbers, products_on_slices, solve_stage, systems,
};
use crate::kernels::{self, Element};
use crate::native::{NativeField, NativeTime};
use crate::scheme::{Half, Halves, MixedStages, Stages, check_weights, half_of};
use crate::{Error, Evaluator, Method, Part, Result, Stepper, Steps, Time};

/// The slopes of a step on slices, in buffers that every step uses again.
pub struct SliceStages<'s, 'f, T> {
    /// The method.
    pub method: &'s Stepper,
    /// The field.
    pub field: &'s mut (dyn NativeField<T> + 'f),
    /// Counts evaluations.
    pub counter: &'s Evaluator<'s>,
    /// Where the step starts and ends.
    pub steps: &'s Steps,
    /// Its start.
    pub y0: &'s [T],
    /// States at which slopes are evaluated, one after the other; or the last alone, where there is no place for more.
    pub states: &'s mut [T],
    /// Slopes, one after the other.
    pub k: &'s mut [T],
    /// How many of them there are.
    pub known: usize,
    /// A slope that need not be evaluated, with its number.
    pub given: Option<(usize, &'s [T])>,
    /// Number of slopes whose states are wanted; of a given one beyond, the state is not computed.
    pub wanted: usize,
    /// The state at the end, where it is known, for the slope there.
    pub end: Option<&'s [T]>,
    /// Dimensions of the state.
    pub dims: &'s [usize],
    /// The halves that slopes were cut down to.
    pub halves: Halves,
    /// The fractions of the step at which a scheme of the user's evaluated its slopes; other methods know theirs.
    pub nodes: Vec<f64>,
    /// What Newton's iterations keep from stage to stage.
    pub newton: NewtonState,
}

impl<T: Element> SliceStages<'_, '_, T> {
    /// Appends slopes until there are `count`.
    #[inline]
    pub fn fill(&mut self, count: usize) -> Result<()> {
        let method = self.method;
        method.fill(self, count)
    }

    #[inline]
    fn note_node(&mut self, c: f64) {
        if matches!(self.method.method(), Method::Custom(_)) && self.known < self.method.stages() {
            self.nodes.push(c);
        }
    }
}

impl<T: Element> Stages for SliceStages<'_, '_, T> {
    #[inline]
    fn known(&self) -> usize {
        self.known
    }

    #[inline]
    fn evaluate(&mut self, c: f64, weights: &[f64], half: Option<Half>) -> Result<()> {
        let (size, i) = (self.y0.len(), self.known);
        check_weights(weights, i)?;
        let start = if self.states.len() > size { i * size } else { 0 };
        let state = &mut self.states[start..][..size];
        let (k, rest) = self.k.split_at_mut(i * size);
        let given = self.given.filter(|(given, _)| *given == i);
        match self.end {
            _ if given.is_some() && i >= self.wanted => {}
            Some(end) if i == self.method.interpolant().end_stage() => state.copy_from_slice(end),
            _ => kernels::combine_slopes(state, Some(self.y0), self.steps.h(), weights, k),
        }
        match given {
            Some((_, slope)) => rest[..size].copy_from_slice(slope),
            None => {
                let t = NativeTime::of(self.method, self.steps, c);
                self.field.eval(t, state, &mut rest[..size]);
                self.counter.count(1);
            }
        }
        if let Some(half) = half {
            kernels::keep_half_of_slice(&mut rest[..size], width(self.dims), half);
            self.halves.push((i, half));
        }
        self.note_node(c);
        self.known += 1;
        Ok(())
    }

    fn solve(&mut self, c: f64, gamma: f64, weights: &[f64], guess: &[f64]) -> Result<()> {
        let (size, i, h) = (self.y0.len(), self.known, self.steps.h());
        check_weights(weights, i)?;
        check_weights(guess, i)?;
        let t = NativeTime::of(self.method, self.steps, c);
        let blocks = systems(
            self.counter,
            self.steps,
            self.dims,
            || self.method.times(self.steps, c),
            || Ok(Tensor::from_slice(self.y0, self.dims, &Device::Cpu)?),
        )?;
        let start = if self.states.len() > size { i * size } else { 0 };
        let state = &mut self.states[start..][..size];
        let (before, rest) = self.k.split_at_mut(i * size);
        kernels::combine_slopes(state, Some(self.y0), h, weights, before);
        let base: Vec<f64> = state.iter().map(|x| x.to_f64()).collect();
        if guess.is_empty() {
            state.fill(T::zero());
            let last = &before[before.len().saturating_sub(size)..];
            state[..last.len()].copy_from_slice(last);
        } else {
            kernels::combine_slopes(state, None, &[1.0], guess, before);
        }
        let mut k: Vec<f64> = state.iter().map(|x| x.to_f64()).collect();
        let field = &mut FieldOnSlices {
            field: &mut *self.field,
            t,
            t0: NativeTime::of(self.method, self.steps, 0.0),
            y0: self.y0,
            counter: self.counter,
            time: &|| self.method.times(self.steps, c),
            dims: self.dims,
            y: vec![T::zero(); size],
            f: vec![T::zero(); size],
        };
        let system = self.method.stage_system(&base, h, gamma);
        let apart = || {
            let y0 = Tensor::from_slice(self.y0, self.dims, &Device::Cpu)?;
            self.counter.seem_rows_apart(&self.method.times(self.steps, 0.0)?, &y0)
        };
        let whole = self.steps.is_whole();
        solve_stage(&mut self.newton, &system, &mut k, (field, blocks, whole), apart)?;
        let length = size / h.len();
        for (j, (out, k)) in rest[..size].iter_mut().zip(&k).enumerate() {
            *out = T::from_f64(*k);
            state[j] = T::from_f64(base[j] + gamma * h[j / length] * k);
        }
        self.note_node(c);
        self.known += 1;
        Ok(())
    }

    fn select(&mut self, part: Option<Part>) -> Result<()> {
        // Fields on slices are whole.
        if part.is_none() { Ok(()) } else { Err(Error::FieldNotSplit) }
    }

    fn renew(&mut self, i: usize, c: f64, weights: &[f64]) -> Result<f64> {
        let (size, rows) = (self.y0.len(), self.steps.rows());
        check_weights(weights, self.known)?;
        let start = if self.states.len() > size { i * size } else { 0 };
        let state = &mut self.states[start..][..size];
        kernels::combine_slopes(state, Some(self.y0), self.steps.h(), weights, self.k);
        let (own, t) =
            (&mut self.k[i * size..][..size], NativeTime::of(self.method, self.steps, c));
        let before = own.to_vec();
        if let Some(node) = self.nodes.get_mut(i) {
            *node = c;
        }
        self.field.eval(t, state, own);
        self.counter.count(1);
        if let Some(half) = half_of(&self.halves, i) {
            kernels::keep_half_of_slice(own, width(self.dims), half);
        }
        Ok(kernels::largest_move_of_slices(rows, &before, own))
    }
}

/// Numbers along the last dimension of a state.
fn width(dims: &[usize]) -> usize {
    dims.last().copied().unwrap_or(1)
}

/// A field at a time, on flat numbers.
struct FieldOnSlices<'s, 'f, T> {
    field: &'s mut (dyn NativeField<T> + 'f),
    t: NativeTime<'s>,
    /// The start of the step.
    t0: NativeTime<'s>,
    y0: &'s [T],
    counter: &'s Evaluator<'s>,
    /// The time, and dimensions of the state, for what wants tensors.
    time: &'s dyn Fn() -> Result<Time>,
    dims: &'s [usize],
    y: Vec<T>,
    f: Vec<T>,
}

impl<T: Element> FieldOnSlices<'_, '_, T> {
    fn set(&mut self, y: &[f64]) {
        self.y.iter_mut().zip(y).for_each(|(own, y)| *own = T::from_f64(*y));
    }
}

impl<T: Element> StageField for FieldOnSlices<'_, '_, T> {
    fn eval(&mut self, y: &[f64], f: &mut [f64]) -> Result<()> {
        self.set(y);
        self.field.eval(self.t, &self.y, &mut self.f);
        self.counter.count(1);
        f.iter_mut().zip(&self.f).for_each(|(f, own)| *f = own.to_f64());
        Ok(())
    }

    fn structure(&self, size: usize) -> Result<Structure> {
        self.counter.structure(None, size)
    }

    fn jacobians(
        &mut self,
        y: Option<&[f64]>,
        systems: (usize, usize, Option<&Sparsity>),
        out: &mut [f64],
    ) -> Result<()> {
        self.counter.count(1);
        let (t, y) = match y {
            Some(y) => {
                self.set(y);
                (self.t, &self.y[..])
            }
            None => (self.t0, self.y0),
        };
        StageMatrices::find(systems, products_on_slices(&mut *self.field, t, y), out)
    }

    fn precondition(
        &mut self,
        own: &dyn Preconditioner,
        y: &[f64],
        reach: &[f64],
        b: &[f64],
    ) -> Result<Vec<f64>> {
        self.set(y);
        let y = Tensor::from_slice(&self.y, self.dims, &Device::Cpu)?;
        let at = StagePoint { t: &(self.time)()?, y: &y, reach };
        numbers(&own.apply(&at, &like(b.to_vec(), &y)?, false)?)
    }
}

impl<T: Element> MixedStages for SliceStages<'_, '_, T> {
    fn mix(&mut self, weights: &[f64]) -> Result<()> {
        let (size, i) = (self.y0.len(), self.known);
        let (k, rest) = self.k.split_at_mut(i * size);
        kernels::combine_slopes(&mut rest[..size], None, &[1.0], weights, k);
        self.known += 1;
        Ok(())
    }
}

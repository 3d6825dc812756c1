//! The stages of a step on slices.

use candle_core::{Device, Shape, Tensor};
use smallvec::SmallVec;

use crate::kernels::{self, Element, View};
use crate::rules::{Ends, Rules};
use crate::sink::SliceStages;
use crate::slice_step::SliceStep;
use crate::slices::SliceField;
use crate::stability::{Probe, Reach};
use crate::{Method, Result, RowSteps};

/// A step from `y` to `y1`, in buffers that every step uses again.
pub(crate) struct Stages<'a, T> {
    field: Box<dyn SliceField<T> + 'a>,
    shape: Shape,
    pub(crate) y: Vec<T>,
    pub(crate) y1: Vec<T>,
    /// The state of the stage under way.
    state: Vec<T>,
    /// Slopes, one after the other.
    k: Vec<T>,
    /// How many of them are this step's.
    pub(crate) known: usize,
}

impl<'a, T: Element> Stages<'a, T> {
    pub(crate) fn new(
        field: Box<dyn SliceField<T> + 'a>,
        method: &Method,
        y: &Tensor,
    ) -> Result<Self> {
        let y1 = View::new(y)?.slice::<T>()?.to_vec();
        let count = method.tableau().stages().max(method.interpolant().stages());
        let (state, k) = (y1.clone(), vec![T::zero(); count * y1.len()]);
        let shape = y.shape().clone();
        Ok(Self { field, shape, y: y1.clone(), y1, state, k, known: 0 })
    }

    fn size(&self) -> usize {
        self.y.len()
    }

    /// Slope of stage `i`.
    pub(crate) fn k(&self, i: usize) -> &[T] {
        &self.k[i * self.size()..][..self.size()]
    }

    /// Slopes of the stages evaluated so far.
    fn slopes(&self) -> SmallVec<[&[T]; 16]> {
        (0..self.known).map(|i| self.k(i)).collect()
    }

    /// Evaluates the stages up to number `count`.
    pub(crate) fn extend(&mut self, rules: &Rules<'_>, step: SliceStep<'_>, count: usize) {
        let size = self.size();
        for i in self.known..count {
            step.write_stage_state(&rules.method, i, &mut self.state, &self.y, &self.k);
            let t = step.time(&rules.method, i);
            self.field.eval(t, &self.state, &mut self.k[i * size..][..size]);
        }
        rules.field.count(count.saturating_sub(self.known));
        self.known = count.max(self.known);
    }

    /// Tries a step whose first slope is known.
    pub(crate) fn attempt(&mut self, rules: &Rules<'_>, step: SliceStep<'_>) {
        let tableau = rules.method.tableau();
        self.known = 1;
        self.extend(rules, step, tableau.stages());
        match tableau.is_fsal() {
            // The last stage was evaluated at y1 itself.
            true => std::mem::swap(&mut self.y1, &mut self.state),
            false => step.write_state(&mut self.y1, &self.y, tableau.b(), &self.k),
        }
    }

    /// Lets rows that do not move end where they start.
    pub(crate) fn hold(&mut self, moved: &[bool]) {
        let length = self.size() / moved.len();
        let rows = self.y1.chunks_exact_mut(length).zip(self.y.chunks_exact(length));
        for ((y1, y), _) in rows.zip(moved).filter(|(_, moved)| !**moved) {
            y1.copy_from_slice(y);
        }
    }

    /// Moves to the end of the step, where stage `end` has the slope if any has; `moved` tells of rows
    /// that stay, with the slope that they have.
    pub(crate) fn advance(&mut self, end: Option<usize>, moved: Option<&[bool]>) {
        std::mem::swap(&mut self.y, &mut self.y1);
        self.known = usize::from(end.is_some());
        let Some(end) = end else { return };
        let size = self.size();
        let (start, rest) = self.k.split_at_mut(size);
        let end = match end {
            0 => return,
            end => &rest[(end - 1) * size..][..size],
        };
        let Some(moved) = moved else { return start.copy_from_slice(end) };
        let length = size / moved.len();
        let rows = start.chunks_exact_mut(length).zip(end.chunks_exact(length));
        for ((start, end), _) in rows.zip(moved).filter(|(_, moved)| **moved) {
            start.copy_from_slice(end);
        }
    }

    /// Norms of the error estimates of the whole state.
    pub(crate) fn norms(
        &self,
        method: &Method,
        scale: &kernels::Scale,
    ) -> Result<SmallVec<[f64; 2]>> {
        let slopes = self.slopes();
        kernels::scaled_norms_slices(&self.y, &self.y1, scale, &slopes, method.b_error())
    }

    /// Norms of the error estimates of every row.
    pub(crate) fn norms_each(
        &self,
        method: &Method,
        rows: usize,
        scale: &kernels::Scale,
    ) -> Result<Vec<SmallVec<[f64; 2]>>> {
        let states = (&self.y[..], &self.y1[..]);
        kernels::scaled_norms_slices_each(rows, states, scale, &self.slopes(), method.b_error())
    }

    /// Estimates how far the step reached, unless the slope at its end would have to be evaluated for that alone.
    pub(crate) fn reach(
        &mut self,
        rules: &Rules<'_>,
        ends: Ends,
        probe: &Probe<'_>,
    ) -> Result<Option<Reach>> {
        let (method, Ends { t0, t1, last, .. }) = (&rules.method, ends);
        let Some(weights) = method.difference() else { return Ok(None) };
        let count = method.stages_with_end();
        if self.known < count {
            if last || method.is_jump(t1) {
                return Ok(None);
            }
            self.extend(rules, SliceStep::Shared { t0, t1 }, count);
        }
        let rows = if self.shape.rank() < 2 { 1 } else { self.shape.dims()[0] };
        let squares = self.difference_squares(rows, (count, weights), probe.scale())?;
        Ok(Some(probe.join(ends.h(), self.size() / rows, &squares)))
    }

    /// Estimates how far the step of every row reached.
    pub(crate) fn reaches(
        &mut self,
        rules: &Rules<'_>,
        steps: &RowSteps,
        probe: &Probe<'_>,
    ) -> Result<Vec<f64>> {
        let Some(weights) = rules.method.difference() else { return Ok(Vec::new()) };
        let count = rules.method.stages_with_end();
        if self.known < count {
            self.extend(rules, SliceStep::Each(steps), count);
        }
        let rows = steps.h().len();
        let squares = self.difference_squares(rows, (count, weights), probe.scale())?;
        Ok(probe.reaches(steps.h(), self.size() / rows, &squares))
    }

    /// Squares of weighted sums of the first slopes of every row.
    fn difference_squares(
        &self,
        rows: usize,
        (count, weights): (usize, [&[f64]; 2]),
        scale: &kernels::Scale,
    ) -> Result<kernels::Differences> {
        let (slopes, states) = (self.slopes(), (&self.y[..], &self.y1[..]));
        kernels::difference_squares_slices(rows, states, scale, &slopes[..count], weights)
    }

    /// Keeps these rows alone, with their slopes at the start if those are known; `y` holds them.
    pub(crate) fn gather(&mut self, rows: &[usize], y: &Tensor) -> Result<()> {
        let length = y.elem_count() / rows.len();
        let (stages, size) = (self.k.len() / self.size(), y.elem_count());
        // Rows move towards the front, none over one that has yet to move.
        for (to, &from) in rows.iter().enumerate() {
            self.k.copy_within(from * length..(from + 1) * length, to * length);
        }
        self.k.truncate(stages * size);
        self.y.truncate(size);
        self.y.copy_from_slice(View::new(y)?.slice()?);
        self.y1.truncate(size);
        self.state.truncate(size);
        self.known = self.known.min(1);
        self.shape = y.shape().clone();
        Ok(())
    }

    pub(crate) fn tensor(&self, numbers: &[T]) -> Result<Tensor> {
        Ok(Tensor::from_slice(numbers, &self.shape, &Device::Cpu)?)
    }
}

impl<T: Element> SliceStages for Stages<'_, T> {
    fn complete(&mut self, rules: &Rules<'_>, step: SliceStep<'_>) {
        self.extend(rules, step, rules.method.interpolant().stages());
    }

    fn known(&self) -> usize {
        self.known
    }

    fn tensors(&self) -> Result<Vec<Tensor>> {
        self.slopes().iter().map(|k| self.tensor(k)).collect()
    }

    fn tensor_of(&self, stage: usize) -> Result<Tensor> {
        self.tensor(self.k(stage))
    }

    fn combine_rows(&self, weights: &[f64]) -> Result<Tensor> {
        let rows = weights.len() / self.known.max(1);
        let mut out = vec![T::zero(); rows * self.size()];
        for (out, weights) in out.chunks_mut(self.size()).zip(weights.chunks(self.known)) {
            let terms = weights.iter().enumerate().map(|(i, w)| (T::from_f64(*w), self.k(i)));
            kernels::combine_slices(out, Some(&self.y), &terms.collect::<SmallVec<[_; 16]>>());
        }
        let shape: Vec<_> = [&[rows], self.shape.dims()].concat();
        Ok(Tensor::from_vec(out, shape, &Device::Cpu)?)
    }

    fn combine_picked(&self, rows: &[usize], weights: &[f64]) -> Result<Tensor> {
        let length = self.size() / self.shape.dims()[0];
        let slopes = self.slopes();
        let out = kernels::combine_slices_picked(&self.y, length, rows, weights, &slopes);
        let shape = [&[rows.len()], &self.shape.dims()[1..]].concat();
        Ok(Tensor::from_vec(out, shape, &Device::Cpu)?)
    }
}

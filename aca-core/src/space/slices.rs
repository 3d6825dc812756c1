//! Steps on slices, for fields that offer them.

use candle_core::{Device, Shape, Tensor};
use smallvec::SmallVec;

use super::{Register, Space, Trial};
use crate::implicit::NewtonState;
use crate::kernels::{self, Differences, Element, Scale, View};
use crate::native::NativeField;
use crate::scheme::Halves;
use crate::{Result, Stepper};

mod stages;

pub use stages::SliceStages;

/// A run's state and slopes as slices.
pub(crate) struct SliceSpace<'a, T> {
    field: Box<dyn NativeField<T> + 'a>,
    shape: Shape,
    y: Vec<T>,
    y1: Vec<T>,
    /// The state of the stage under way.
    state: Vec<T>,
    /// Slopes, one after the other.
    k: Vec<T>,
    known: usize,
    newton: NewtonState,
}

impl<'a, T: Element> SliceSpace<'a, T> {
    pub(crate) fn new(
        field: Box<dyn NativeField<T> + 'a>,
        stages: usize,
        y: &Tensor,
    ) -> Result<Self> {
        let numbers = View::new(y)?.slice::<T>()?.to_vec();
        let (state, k) = (numbers.clone(), vec![T::zero(); stages * numbers.len()]);
        let shape = y.shape().clone();
        Ok(Self {
            field,
            shape,
            y: numbers.clone(),
            y1: numbers,
            state,
            k,
            known: 0,
            newton: NewtonState::default(),
        })
    }

    fn size(&self) -> usize {
        self.y.len()
    }

    /// Slope `i`.
    fn k(&self, i: usize) -> &[T] {
        &self.k[i * self.size()..][..self.size()]
    }

    /// The first `count` slopes.
    fn slopes(&self, count: usize) -> SmallVec<[&[T]; 16]> {
        (0..count).map(|i| self.k(i)).collect()
    }

    fn register(&self, register: Register) -> &[T] {
        match register {
            Register::Slope(i) => self.k(i),
            Register::End => &self.y1,
        }
    }

    fn tensor(&self, numbers: &[T]) -> Result<Tensor> {
        Ok(Tensor::from_slice(numbers, &self.shape, &Device::Cpu)?)
    }

    /// Goes on with the slopes of the step, which was `tried` or not.
    #[inline]
    fn with_stages(
        &mut self,
        trial: Trial<'_>,
        tried: bool,
        work: impl FnOnce(&mut SliceStages<'_, '_, T>) -> Result<()>,
    ) -> Result<()> {
        let mut stages = SliceStages {
            method: &trial.rules.method,
            field: &mut *self.field,
            counter: &trial.rules.field,
            steps: trial.steps,
            y0: &self.y,
            states: &mut self.state,
            k: &mut self.k,
            known: self.known,
            given: None,
            wanted: usize::MAX,
            end: Some(&self.y1[..]).filter(|_| tried),
            dims: self.shape.dims(),
            halves: Halves::new(),
            nodes: Vec::new(),
            newton: std::mem::take(&mut self.newton),
        };
        let worked = work(&mut stages);
        self.known = stages.known;
        self.newton = stages.newton;
        worked
    }
}

impl<T: Element> Space for SliceSpace<'_, T> {
    fn known(&self) -> usize {
        self.known
    }

    fn fill(&mut self, trial: Trial<'_>, count: usize) -> Result<()> {
        self.with_stages(trial, self.known > 1, |stages| stages.fill(count))
    }

    fn start(&mut self, trial: Trial<'_>) -> Result<()> {
        self.with_stages(trial, false, |stages| trial.rules.method.start(stages))
    }

    fn attempt(&mut self, trial: Trial<'_>) -> Result<()> {
        let method = &trial.rules.method;
        self.newton.begin();
        self.known = self.known.min(usize::from(method.knows_first()));
        self.with_stages(trial, false, |stages| stages.fill(method.stages()))?;
        match method.fsal_stage().is_some() {
            // The last stage was evaluated at y1 itself.
            true => std::mem::swap(&mut self.y1, &mut self.state),
            false => {
                let (h, b) = (trial.steps.h(), method.b());
                kernels::combine_slopes(&mut self.y1, Some(&self.y), h, b, &self.k);
            }
        }
        Ok(())
    }

    fn ratios(
        &self,
        trial: Trial<'_>,
        scale: &Scale,
        weights: &[Vec<f64>],
        out: &mut SmallVec<[f64; 1]>,
    ) -> Result<()> {
        let h = trial.steps.h();
        let ends = (&self.y[..], &self.y1[..]);
        if let [h] = *h {
            let norms = kernels::scaled_norms_slopes(ends, scale, &self.k, weights)?;
            out.push(h.abs() * Stepper::ratio(&norms));
            return Ok(());
        }
        let k = self.slopes(trial.rules.method.stages());
        let norms = kernels::scaled_norms_slices_each(h.len(), ends, scale, &k, weights)?;
        out.extend(h.iter().zip(&norms).map(|(h, norms)| h.abs() * Stepper::ratio(norms)));
        Ok(())
    }

    fn differences(
        &self,
        _trial: Trial<'_>,
        rows: usize,
        weights: [&[f64]; 2],
        scale: &Scale,
    ) -> Result<Differences> {
        let (k, ends) = (self.slopes(weights[0].len()), (&self.y[..], &self.y1[..]));
        kernels::difference_squares_slices(rows, ends, scale, &k, weights)
    }

    fn first_non_finite(&self, register: Register, row: Option<usize>) -> Result<Option<usize>> {
        let numbers = self.register(register);
        let numbers = match row {
            None => numbers,
            Some(row) => {
                let length = numbers.len() / self.shape.dims()[0];
                &numbers[row * length..][..length]
            }
        };
        Ok(numbers.iter().position(|x| !x.to_f64().is_finite()))
    }

    fn ends(&mut self, _trial: Trial<'_>, moved: Option<&[bool]>) -> Result<Tensor> {
        if let Some(moved) = moved {
            copy_rows(&mut self.y1, &self.y, moved, false);
        }
        self.tensor(&self.y1)
    }

    fn slope(&self, i: usize) -> Result<Tensor> {
        self.tensor(self.k(i))
    }

    fn combine(
        &self,
        trial: Trial<'_>,
        rows: &[usize],
        weights: &[f64],
        from_start: bool,
    ) -> Result<Tensor> {
        let (slopes, dims) = (self.slopes(self.known), self.shape.dims());
        let (length, state) = match trial.steps.is_whole() {
            true => (self.size(), dims),
            false => (self.size() / dims[0], &dims[1..]),
        };
        let nothing = if from_start { Vec::new() } else { vec![T::zero(); self.size()] };
        let start = if from_start { &self.y } else { &nothing };
        let out = kernels::combine_slices_picked(start, length, rows, weights, &slopes);
        Ok(Tensor::from_vec(out, [&[rows.len()], state].concat(), &Device::Cpu)?)
    }

    fn set_end(&mut self, row: Option<usize>, y: &Tensor) -> Result<()> {
        let (y, view) = (y.contiguous()?, row.unwrap_or(0));
        let numbers = View::new(&y)?;
        let numbers = numbers.slice::<T>()?;
        self.y1[view * numbers.len()..][..numbers.len()].copy_from_slice(numbers);
        Ok(())
    }

    fn advance(&mut self, end: Option<usize>, moved: Option<&[bool]>) -> Result<()> {
        self.newton.forget();
        std::mem::swap(&mut self.y, &mut self.y1);
        self.known = usize::from(end.is_some());
        let Some(end) = end.filter(|end| *end > 0) else { return Ok(()) };
        let size = self.size();
        let (start, rest) = self.k.split_at_mut(size);
        let end = &rest[(end - 1) * size..][..size];
        match moved {
            Some(moved) => copy_rows(start, end, moved, true),
            None => start.copy_from_slice(end),
        }
        Ok(())
    }

    fn begin_anew(&mut self) {
        self.known = 0;
        self.newton.forget();
    }

    fn jacobian_norm(&self) -> Option<f64> {
        self.newton.jacobian_norm()
    }

    fn keep(&mut self, rows: &[usize], y: &Tensor) -> Result<()> {
        self.newton.forget();
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
}

/// Copies the rows where `mask` says `which`.
fn copy_rows<T: Copy>(to: &mut [T], from: &[T], mask: &[bool], which: bool) {
    let length = to.len() / mask.len();
    let rows = to.chunks_exact_mut(length).zip(from.chunks_exact(length)).zip(mask);
    for ((to, from), _) in rows.filter(|(_, mask)| **mask == which) {
        to.copy_from_slice(from);
    }
}

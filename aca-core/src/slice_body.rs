//! A run over slices, for fields that offer them.

use candle_core::{Device, Shape, Tensor};
use smallvec::SmallVec;

use crate::body::Body;
use crate::kernels::{self, Element, Scale, View};
use crate::method::write_weighted;
use crate::rules::{Ends, Rules};
use crate::sink::{SliceStages, Slopes};
use crate::slices::SliceField;
use crate::{Error, Method, Result, Step, StepSink};

/// The state and the stages of a step as slices, in buffers that every step uses again.
pub(crate) struct SliceBody<'a, T> {
    /// The state as its sinks get it.
    y: Tensor,
    stages: Stages<'a, T>,
    y1: Vec<T>,
}

/// The stages of a step from `y`.
struct Stages<'a, T> {
    field: Box<dyn SliceField<T> + 'a>,
    shape: Shape,
    y: Vec<T>,
    state: Vec<T>,
    /// Slopes, one after the other.
    k: Vec<T>,
    /// How many of them are this step's.
    known: usize,
}

impl<'a, T: Element> SliceBody<'a, T> {
    pub(crate) fn new(
        field: Box<dyn SliceField<T> + 'a>,
        method: &Method,
        y: Tensor,
    ) -> Result<Self> {
        let numbers = View::new(&y)?.slice::<T>()?.to_vec();
        let count = method.tableau().stages().max(method.interpolant().stages());
        let stages = Stages {
            field,
            shape: y.shape().clone(),
            state: numbers.clone(),
            k: vec![T::zero(); count * numbers.len()],
            y: numbers.clone(),
            known: 0,
        };
        Ok(Self { y, stages, y1: numbers })
    }
}

impl<T: Element> Stages<'_, T> {
    fn size(&self) -> usize {
        self.y.len()
    }

    /// Slope of stage `i`.
    fn k(&self, i: usize) -> &[T] {
        &self.k[i * self.size()..][..self.size()]
    }

    /// Evaluates the stages up to number `count`.
    fn extend(&mut self, rules: &Rules<'_>, (t0, t1): (f64, f64), count: usize) {
        let (method, size) = (&rules.method, self.size());
        for i in self.known..count {
            method.write_stage_state(i, &self.y, t1 - t0, &self.k, &mut self.state);
            let slope = &mut self.k[i * size..][..size];
            self.field.eval(method.stage_time(t0, t1, i), &self.state, slope);
        }
        rules.field.count(count.saturating_sub(self.known));
        self.known = count.max(self.known);
    }

    fn tensor(&self, numbers: &[T]) -> Result<Tensor> {
        Ok(Tensor::from_slice(numbers, &self.shape, &Device::Cpu)?)
    }
}

impl<T: Element> SliceStages for Stages<'_, T> {
    fn complete(&mut self, rules: &Rules<'_>, ends: (f64, f64)) {
        self.extend(rules, ends, rules.method.interpolant().stages());
    }

    fn tensors(&self) -> Result<Vec<Tensor>> {
        (0..self.known).map(|i| self.tensor(self.k(i))).collect()
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
}

impl<T: Element> Body for SliceBody<'_, T> {
    fn y(&self) -> &Tensor {
        &self.y
    }

    fn slope(&mut self, rules: &Rules<'_>, t: f64) -> Result<Tensor> {
        let stages = &mut self.stages;
        if stages.known == 0 {
            let size = stages.size();
            stages.field.eval(t, &stages.y, &mut stages.k[..size]);
            stages.known = 1;
            rules.field.count(1);
        }
        stages.tensor(stages.k(0))
    }

    fn attempt(&mut self, rules: &Rules<'_>, ends: Ends, judged: bool) -> Result<()> {
        let Ends { t0, t1, .. } = ends;
        let (stages, tableau) = (&mut self.stages, rules.method.tableau());
        if stages.known == 0 {
            stages.extend(rules, (t0, t1), 1);
            check(stages.k(0), "field", (t0, 0.0))?;
        }
        stages.known = 1;
        stages.extend(rules, (t0, t1), tableau.stages());
        match tableau.is_fsal() {
            // The last stage was evaluated at y1 itself.
            true => std::mem::swap(&mut self.y1, &mut stages.state),
            false => write_weighted(&stages.y, ends.h(), tableau.b(), &stages.k, &mut self.y1),
        }
        if judged { Ok(()) } else { check(&self.y1, "state", (t0, ends.h())) }
    }

    fn error_ratio(&self, rules: &Rules<'_>, h: f64, scale: &Scale) -> Result<f64> {
        let (stages, method) = (&self.stages, &rules.method);
        let k: SmallVec<[&[T]; 16]> = (0..stages.known).map(|i| stages.k(i)).collect();
        let norms = kernels::scaled_norms_slices(&stages.y, &self.y1, scale, &k, method.b_error())?;
        Ok(h.abs() * Method::ratio(&norms))
    }

    fn accept(&mut self, rules: &Rules<'_>, ends: Ends, sink: &mut dyn StepSink) -> Result<()> {
        let y1 = self.stages.tensor(&self.y1)?;
        let slopes = Slopes::Slices(&mut self.stages);
        sink.accept(&mut Step::new(ends, [&self.y, &y1], slopes, rules))?;
        let stages = &mut self.stages;
        let end = rules.method.end_stage(stages.known);
        let end = end.filter(|_| rules.method.carries(ends.t1, false));
        stages.known = usize::from(end.is_some());
        if let Some(i) = end {
            let size = stages.size();
            stages.k.copy_within(i * size..(i + 1) * size, 0);
        }
        std::mem::swap(&mut stages.y, &mut self.y1);
        self.y = y1;
        Ok(())
    }

    fn reject(&mut self, _: &Rules<'_>, ends: Ends, finite: bool) -> Result<Option<Error>> {
        if finite {
            return Ok(None);
        }
        let (stages, place) = (&self.stages, (ends.t0, ends.h()));
        let slopes = (0..stages.known).map(|i| (stages.k(i), "field"));
        let mut checks = slopes.chain([(&self.y1[..], "state")]);
        Ok(checks.find_map(|(x, what)| check(x, what, place).err()))
    }
}

/// Refuses numbers that are not finite, of a step of size `h` from `t`.
fn check<T: Element>(x: &[T], what: &'static str, (t, h): (f64, f64)) -> Result<()> {
    match x.iter().position(|x| !x.to_f64().is_finite()) {
        Some(index) => Err(Error::NonFinite { what, t, h, index }),
        None => Ok(()),
    }
}

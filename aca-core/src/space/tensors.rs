//! Steps on tensors, of any device.

use candle_core::Tensor;
use smallvec::SmallVec;

use super::{Register, Space, Trial};
use crate::implicit::{
    NewtonState, Preconditioner, Sparsity, StageField, StageMatrices, StagePoint, Structure, like,
    numbers, products, solve_stage, systems,
};
use crate::kernels::{self, Differences, Scale, Terms};
use crate::scheme::{Half, Halves, MixedStages, Stages, check_weights, half_of};
use crate::{Error, Evaluator, Part, Pullback, Result, Stepper, Steps, Time};

/// The slopes of a step on tensors, wherever it starts: what solves and replays are made of.
pub struct TensorStages<'a> {
    method: &'a Stepper,
    field: &'a Evaluator<'a>,
    steps: &'a Steps,
    y0: &'a Tensor,
    /// The slopes so far, and the state of the last that was evaluated.
    pub k: Vec<Tensor>,
    state: Option<Tensor>,
    /// The state at the end, where it is known, for the slope there.
    end: Option<Tensor>,
    /// The first slope, where it is known and its pullback is not.
    given: Option<Tensor>,
    /// The pullback of every slope that was evaluated, with its time, where they are kept.
    points: Option<Vec<Option<Point<'a>>>>,
    halves: Halves,
    newton: NewtonState,
    /// The part of the field that slopes are those of.
    part: Option<Part>,
}

/// Where a slope was evaluated.
pub struct Point<'a> {
    /// The time.
    pub t: Time,
    /// The state.
    pub y: Tensor,
    /// The pullback of the field there.
    pub pullback: Pullback<'a>,
    /// The part of the field.
    pub part: Option<Part>,
}

impl<'a> TensorStages<'a> {
    /// Starts a step from `y0`, `[..state]` or `[rows, ..state]`, with the slopes `k` that are known.
    pub fn new(
        method: &'a Stepper,
        field: &'a Evaluator<'a>,
        (steps, y0): (&'a Steps, &'a Tensor),
        k: Vec<Tensor>,
    ) -> Self {
        Self {
            method,
            field,
            steps,
            y0,
            k,
            state: None,
            end: None,
            given: None,
            points: None,
            halves: Halves::new(),
            newton: NewtonState::default(),
            part: None,
        }
    }

    /// Keeps the pullbacks of all slopes; a first one that is known keeps its value.
    pub fn linearizing(mut self) -> Self {
        Self { given: self.k.pop(), points: Some(Vec::new()), ..self }
    }

    /// Goes on with other steps of the same rows: those of rows whose inside is looked at.
    pub fn with_steps(&mut self, steps: &'a Steps) {
        self.steps = steps;
    }

    /// Appends slopes until there are `count`.
    pub fn fill(&mut self, count: usize) -> Result<()> {
        let method = self.method;
        method.fill(self, count)
    }

    /// The end of the step, `y0 + h sum(b_i k_i)`.
    pub fn end(&mut self) -> Result<Tensor> {
        let last = self.method.fsal_stage() == self.k.len().checked_sub(1);
        match self.state.take() {
            // The last stage of a FSAL tableau is evaluated at y1 itself.
            Some(state) if last => Ok(state),
            _ => self.sum(Some(self.y0), self.steps.h(), self.method.b()),
        }
    }

    /// The field at `t0 + c h` and a state, and its pullback where those are kept.
    fn slope(&self, c: f64, state: &Tensor) -> Result<(Tensor, Option<Point<'a>>)> {
        let t = self.method.times(self.steps, c)?;
        match self.points.is_some() {
            true => {
                let (slope, pullback) = self.field.linearize_part(self.part, &t, state)?;
                let y = state.clone();
                Ok((slope, Some(Point { t, y, pullback, part: self.part })))
            }
            false => Ok((self.field.eval_part(self.part, &t, state)?, None)),
        }
    }

    /// The slopes, the pullbacks that were kept, and the halves that slopes were cut down to.
    pub fn into_parts(self) -> (Vec<Tensor>, Vec<Option<Point<'a>>>, Halves) {
        (self.k, self.points.unwrap_or_default(), self.halves)
    }

    /// `base + h sum(w_i k_i)` over the weights that are not zero.
    fn sum(&self, base: Option<&Tensor>, h: &[f64], weights: &[f64]) -> Result<Tensor> {
        let terms = weights.iter().zip(&self.k).filter(|(w, _)| **w != 0.0);
        let terms: Terms<'_> = terms.map(|(&w, k)| (w, k)).collect();
        kernels::combine_steps(base, h, &terms)
    }
}

impl Stages for TensorStages<'_> {
    fn known(&self) -> usize {
        self.k.len()
    }

    fn evaluate(&mut self, c: f64, weights: &[f64], half: Option<Half>) -> Result<()> {
        check_weights(weights, self.k.len())?;
        self.state = None;
        let at_end = self.k.len() == self.method.interpolant().end_stage();
        let state = match self.end.take().filter(|_| at_end) {
            Some(end) => end,
            None if weights.is_empty() => self.y0.clone(),
            None => self.sum(Some(self.y0), self.steps.h(), weights)?,
        };
        let (slope, point) = self.slope(c, &state)?;
        let slope = self.given.take().unwrap_or(slope);
        if let Some(points) = &mut self.points {
            points.resize_with(self.k.len(), || None);
            points.push(point);
        }
        self.halves.extend(half.map(|half| (self.k.len(), half)));
        self.k.push(cut(slope, half)?);
        self.state = Some(state);
        Ok(())
    }

    fn solve(&mut self, c: f64, gamma: f64, weights: &[f64], guess: &[f64]) -> Result<()> {
        check_weights(weights, self.k.len())?;
        check_weights(guess, self.k.len())?;
        if self.field.traces() {
            let method = self.method.method().name().to_owned();
            return Err(Error::TracedImplicit { method });
        }
        let t = self.method.times(self.steps, c)?;
        let (h, whole) = (self.steps.h(), self.steps.is_whole());
        let base = self.sum(Some(self.y0), h, weights)?;
        let (now, start) = (|| self.method.times(self.steps, c), || Ok(self.y0.clone()));
        let blocks = systems(self.field, self.steps, self.y0.dims(), now, start)?;
        let mut k = match self.k.last() {
            Some(k) if guess.is_empty() => numbers(k)?,
            Some(_) => numbers(&self.sum(None, &[1.0], guess)?)?,
            None => vec![0.0; base.elem_count()],
        };
        let t0 = self.method.times(self.steps, 0.0)?;
        let (field, part) = (self.field, self.part);
        let field = &mut FieldOnTensors { field, part, t: &t, t0: &t0, y0: self.y0 };
        let base_numbers = numbers(&base)?;
        let system = self.method.stage_system(&base_numbers, h, gamma);
        let apart = || self.field.seem_rows_apart(&t0, self.y0);
        solve_stage(&mut self.newton, &system, &mut k, (field, blocks, whole), apart)?;
        let k = like(k, self.y0)?;
        let state = kernels::combine_steps(Some(&base), h, &[(gamma, &k)])?;
        if let Some(points) = &mut self.points {
            points.resize_with(self.k.len(), || None);
            let (_, pullback) = self.field.linearize_part(part, &t, &state)?;
            points.push(Some(Point { t, y: state.clone(), pullback, part }));
        }
        self.k.push(k);
        self.state = Some(state);
        Ok(())
    }

    fn select(&mut self, part: Option<Part>) -> Result<()> {
        self.field.part(part)?;
        self.part = part;
        Ok(())
    }

    fn renew(&mut self, i: usize, c: f64, weights: &[f64]) -> Result<f64> {
        check_weights(weights, self.k.len())?;
        self.state = None;
        let state = self.sum(Some(self.y0), self.steps.h(), weights)?;
        let (slope, point) = self.slope(c, &state)?;
        let slope = cut(slope, half_of(&self.halves, i))?;
        if let Some(points) = &mut self.points {
            points[i] = point;
        }
        let moved = kernels::largest_move(self.steps.rows(), &self.k[i], &slope)?;
        self.k[i] = slope;
        Ok(moved)
    }
}

/// A field at a time, on flat numbers.
struct FieldOnTensors<'a, 'f> {
    field: &'a Evaluator<'f>,
    part: Option<Part>,
    t: &'a Time,
    /// The start of the step.
    t0: &'a Time,
    y0: &'a Tensor,
}

impl StageField for FieldOnTensors<'_, '_> {
    fn eval(&mut self, y: &[f64], f: &mut [f64]) -> Result<()> {
        let slope = self.field.eval_part(self.part, self.t, &like(y.to_vec(), self.y0)?)?;
        f.copy_from_slice(&numbers(&slope)?);
        Ok(())
    }

    fn structure(&self, size: usize) -> Result<Structure> {
        self.field.structure(self.part, size)
    }

    fn jacobians(
        &mut self,
        y: Option<&[f64]>,
        systems: (usize, usize, Option<&Sparsity>),
        out: &mut [f64],
    ) -> Result<()> {
        let (t, y) = match y {
            Some(y) => (self.t, like(y.to_vec(), self.y0)?),
            None => (self.t0, self.y0.clone()),
        };
        let (_, pullback) = self.field.linearize_part(self.part, t, &y)?;
        StageMatrices::find(systems, products(&pullback, &y), out)
    }

    fn precondition(
        &mut self,
        own: &dyn Preconditioner,
        y: &[f64],
        reach: &[f64],
        b: &[f64],
    ) -> Result<Vec<f64>> {
        let y = like(y.to_vec(), self.y0)?;
        let at = StagePoint { t: self.t, y: &y, reach };
        numbers(&own.apply(&at, &like(b.to_vec(), &y)?, false)?)
    }
}

impl MixedStages for TensorStages<'_> {
    fn mix(&mut self, weights: &[f64]) -> Result<()> {
        self.k.push(self.sum(None, &[1.0], weights)?);
        Ok(())
    }
}

/// A slope cut down to a half.
fn cut(slope: Tensor, half: Option<Half>) -> Result<Tensor> {
    match half {
        Some(half) => kernels::keep_half(&slope, half),
        None => Ok(slope),
    }
}

/// A run's state and slopes as tensors.
#[derive(Default)]
pub(crate) struct TensorSpace {
    k: Vec<Tensor>,
    y1: Option<Tensor>,
    newton: NewtonState,
}

impl TensorSpace {
    fn y1(&self) -> Result<&Tensor> {
        self.y1.as_ref().ok_or_else(untried)
    }

    fn register(&self, register: Register) -> Result<&Tensor> {
        match register {
            Register::Slope(i) => self.k.get(i).ok_or_else(untried),
            Register::End => self.y1(),
        }
    }
}

/// A run tries a step before it looks at one.
fn untried() -> Error {
    candle_core::Error::msg("no step was tried").into()
}

impl Trial<'_> {
    /// Goes on with the slopes `k` of the step.
    fn stages(&self, k: Vec<Tensor>) -> TensorStages<'_> {
        TensorStages::new(&self.rules.method, &self.rules.field, (self.steps, self.y0), k)
    }
}

impl Space for TensorSpace {
    fn known(&self) -> usize {
        self.k.len()
    }

    fn fill(&mut self, trial: Trial<'_>, count: usize) -> Result<()> {
        let mut stages = trial.stages(std::mem::take(&mut self.k));
        stages.end = self.y1.clone();
        let filled = stages.fill(count);
        self.k = stages.k;
        filled
    }

    fn start(&mut self, trial: Trial<'_>) -> Result<()> {
        let mut stages = trial.stages(Vec::new());
        trial.rules.method.start(&mut stages)?;
        self.k = stages.k;
        Ok(())
    }

    fn attempt(&mut self, trial: Trial<'_>) -> Result<()> {
        self.y1 = None;
        self.k.truncate(usize::from(trial.rules.method.knows_first()));
        let mut stages = trial.stages(std::mem::take(&mut self.k));
        self.newton.begin();
        std::mem::swap(&mut stages.newton, &mut self.newton);
        let end = stages.fill(trial.rules.method.stages()).and_then(|()| stages.end());
        std::mem::swap(&mut stages.newton, &mut self.newton);
        self.k = stages.k;
        self.y1 = Some(end?);
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
        let k: SmallVec<[&Tensor; 8]> = self.k[..trial.rules.method.stages()].iter().collect();
        let ends = (trial.y0, self.y1()?);
        let norms = kernels::norms(h.len(), ends, scale, &k, weights)?;
        out.extend(h.iter().zip(&norms).map(|(h, norms)| h.abs() * Stepper::ratio(norms)));
        Ok(())
    }

    fn differences(
        &self,
        trial: Trial<'_>,
        rows: usize,
        weights: [&[f64]; 2],
        scale: &Scale,
    ) -> Result<Differences> {
        let k = &self.k[..weights[0].len()];
        kernels::difference_squares(rows, (trial.y0, self.y1()?), scale, k, weights)
    }

    fn first_non_finite(&self, register: Register, row: Option<usize>) -> Result<Option<usize>> {
        let x = self.register(register)?;
        match row {
            None => kernels::first_non_finite(x),
            Some(row) => kernels::first_non_finite(&x.get(row)?),
        }
    }

    fn ends(&mut self, trial: Trial<'_>, moved: Option<&[bool]>) -> Result<Tensor> {
        let y1 = self.y1.take().ok_or_else(untried)?;
        let y1 = match moved {
            Some(moved) => kernels::choose_rows(moved, &y1, trial.y0)?,
            None => y1,
        };
        self.y1 = Some(y1.clone());
        Ok(y1)
    }

    fn slope(&self, i: usize) -> Result<Tensor> {
        self.register(Register::Slope(i)).cloned()
    }

    fn combine(
        &self,
        trial: Trial<'_>,
        rows: &[usize],
        weights: &[f64],
        from_start: bool,
    ) -> Result<Tensor> {
        let k: SmallVec<[&Tensor; 8]> = self.k.iter().collect();
        let start = if from_start { trial.y0.clone() } else { trial.y0.zeros_like()? };
        match trial.steps.is_whole() {
            true => kernels::combine_rows(&start, weights, &k),
            false => kernels::combine_picked(&start, rows, weights, &k),
        }
    }

    fn set_end(&mut self, row: Option<usize>, y: &Tensor) -> Result<()> {
        let y1 = self.y1.take().ok_or_else(untried)?;
        self.y1 = Some(match row {
            None => y.clone(),
            Some(row) => {
                let rows = y1.dims()[0];
                let sources = (0..rows).map(|i| if i == row { (y, 0) } else { (&y1, i) });
                kernels::gather_rows(&sources.collect::<Vec<_>>())?
            }
        });
        Ok(())
    }

    fn advance(&mut self, end: Option<usize>, moved: Option<&[bool]>) -> Result<()> {
        self.y1 = None;
        self.newton.forget();
        let end = end.map(|end| self.slope(end)).transpose()?;
        let start = self.k.first().cloned();
        self.k.clear();
        self.k.extend(match (end, start, moved) {
            (Some(end), Some(start), Some(moved)) => {
                Some(kernels::choose_rows(moved, &end, &start)?)
            }
            (end, ..) => end,
        });
        Ok(())
    }

    fn begin_anew(&mut self) {
        self.k.clear();
        self.newton.forget();
    }

    fn jacobian_norm(&self) -> Option<f64> {
        self.newton.jacobian_norm()
    }

    fn keep(&mut self, rows: &[usize], _y: &Tensor) -> Result<()> {
        self.newton.forget();
        self.k.truncate(1);
        for k in &mut self.k {
            *k = kernels::pick_rows(k, rows)?;
        }
        Ok(())
    }
}

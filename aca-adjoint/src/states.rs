//! The states that a backward pass asks for, from the newest to the oldest.

use std::sync::Arc;

use aca_core::{Evaluator, Result, Stepper, Steps, TensorStages, kernels};
use candle_core::{DType, Tensor};
use smallvec::SmallVec;

use crate::GradientError;
use crate::checkpoints::{Checkpoints, SampleSteps, Start};

/// Where a row stands before a step of its sample.
struct Place<'a> {
    step: usize,
    start: (&'a Start, usize),
}

/// The kept states during one backward pass, which moves those of a budget.
pub(crate) enum States<'a> {
    All(&'a Checkpoints),
    Budget(Checkpoints),
    Undone(Undone<'a>),
}

/// A walk back over steps of which nothing but the times is kept.
pub(crate) struct Undone<'a> {
    times: &'a Checkpoints,
    /// States at the ends of the next steps.
    y1: Tensor,
    /// The largest magnitude of each entry on the way.
    largest: Tensor,
}

impl<'a> States<'a> {
    /// Starts where the solve ended, in `y1`.
    pub(crate) fn new(checkpoints: &'a Checkpoints, y1: Tensor) -> Result<Self> {
        Ok(match checkpoints.capacity {
            usize::MAX => Self::All(checkpoints),
            0 => Self::Undone(Undone { times: checkpoints, largest: y1.abs()?, y1 }),
            _ => Self::Budget(checkpoints.clone()),
        })
    }

    /// Refuses a walk back over undone steps that found another start of a row, after so many, than the solve's.
    ///
    /// # Errors
    /// [`GradientError::LeapfrogDrift`].
    pub(crate) fn check_drift(
        &self,
        row: usize,
        steps: usize,
        found: &Tensor,
        y0: &Tensor,
    ) -> Result<()> {
        match self {
            Self::Undone(walk) => walk.check_drift(row, steps, found, y0),
            _ => Ok(()),
        }
    }

    /// Keeps these rows of what the walk back stands on.
    pub(crate) fn keep(&mut self, rows: &[usize]) -> Result<()> {
        if let Self::Undone(Undone { y1, largest, .. }) = self {
            (*y1, *largest) = (kernels::pick_rows(y1, rows)?, kernels::pick_rows(largest, rows)?);
        }
        Ok(())
    }

    /// Returns the steps of rows that hold `samples`, each its own of that number or none, and where they
    /// start; other rows rest. Those of a budget are asked for from the newest to the oldest, and computed again from
    /// the latest that is kept.
    pub(crate) fn restore(
        &mut self,
        samples: &Arc<[usize]>,
        wanted: &[Option<usize>],
        rules: (&[Stepper], &Evaluator<'_>),
    ) -> Result<(Steps, Start)> {
        let goes = |row: usize| wanted[row].is_some();
        let budget = match self {
            Self::All(all) => return all.at(samples, &all.latest(samples, wanted)?, goes),
            Self::Undone(walk) => return walk.undo((samples, wanted), rules),
            Self::Budget(budget) => budget,
        };
        budget.forget_beyond(samples, wanted);
        let places = budget.latest(samples, wanted)?;
        let mut reached: Vec<usize> = places.iter().map(|place| place.step).collect();
        let (_, mut start) = budget.at(samples, &places, |_| false)?;
        drop(places);
        while let Some(next) = budget.advance(samples, (wanted, &mut reached), &start, rules)? {
            start = next;
        }
        let place = |(row, &step): (usize, &usize)| Place { step, start: (&start, row) };
        budget.at(samples, &reached.iter().enumerate().map(place).collect::<Vec<_>>(), goes)
    }
}

/// How far the start that a walk back found may be off, relative to its scale.
pub(crate) fn drift_bound(dtype: DType) -> f64 {
    if dtype == DType::F32 { 1e-4 } else { 1e-6 }
}

/// Refuses a walk back whose start is off the solve's by more than `bound`, relative to the scale beside it.
pub(crate) fn check_drift(
    bound: f64,
    off_and_scale: impl Iterator<Item = (f64, f64)>,
) -> Result<()> {
    for (off, scale) in off_and_scale.filter(|(off, _)| *off != 0.0) {
        let drift = off / scale;
        if drift > bound || drift.is_nan() {
            return Err(GradientError::LeapfrogDrift { drift, bound }.into());
        }
    }
    Ok(())
}

impl Undone<'_> {
    /// Undoes the steps that end where the walk stands, each by one of the opposite size, and moves to where they started.
    fn undo(
        &mut self,
        (samples, wanted): (&Arc<[usize]>, &[Option<usize>]),
        (methods, field): (&[Stepper], &Evaluator<'_>),
    ) -> Result<(Steps, Start)> {
        let method = &methods[0];
        let end = Start::from(self.y1.clone());
        let place = |step: &Option<usize>| Place { step: step.unwrap_or(0), start: (&end, 0) };
        let places: Vec<Place<'_>> = wanted.iter().map(place).collect();
        let steps = self.times.steps_of(samples, &places, |row| wanted[row].is_some())?;
        let back = steps.reversed();
        let mut stages = TensorStages::new(method, field, (&back, &self.y1), Vec::new());
        stages.fill(method.stages())?;
        let y0 = stages.end()?;
        drop(stages);
        self.largest = self.largest.maximum(&y0.abs()?)?;
        self.y1 = y0.clone();
        Ok((steps, y0.into()))
    }

    /// Refuses a walk back through `steps` steps that `found` another start of a row than `y0`. Each entry is judged
    /// by the largest that it was on the way, lest a large one hides another; entries that stayed near zero may be off
    /// by what rounding passes on from the largest of all.
    fn check_drift(&self, row: usize, steps: usize, found: &Tensor, y0: &Tensor) -> Result<()> {
        let largest =
            if self.times.whole { self.largest.clone() } else { self.largest.get(row)? };
        let numbers = |x: Tensor| x.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
        let off = numbers(kernels::combine(Some(found), &[(-1.0, y0)])?)?;
        let bound = drift_bound(y0.dtype());
        let epsilon = if y0.dtype() == DType::F32 { f64::from(f32::EPSILON) } else { f64::EPSILON };
        let largest = numbers(largest)?;
        let floor =
            4.0 * steps as f64 * epsilon / bound * largest.iter().copied().fold(0.0, f64::max);
        let scales = largest.into_iter().map(|largest| largest + floor);
        check_drift(bound, off.into_iter().map(f64::abs).zip(scales))
    }
}

impl Checkpoints {
    /// The trail of a sample, or of another where it has no steps: where a row rests that has none to go.
    fn trail(&self, sample: usize) -> Result<&SampleSteps> {
        let own = self.samples.get(sample).filter(|trail| !trail.steps.is_empty());
        let any = own.or_else(|| self.samples.iter().find(|trail| !trail.steps.is_empty()));
        Ok(any.ok_or_else(|| candle_core::Error::msg("there are no steps to replay"))?)
    }

    /// Returns the steps from `places` of the rows that go, and what starts there; other rows rest.
    fn at(
        &self,
        samples: &Arc<[usize]>,
        places: &[Place<'_>],
        goes: impl Fn(usize) -> bool,
    ) -> Result<(Steps, Start)> {
        let steps = self.steps_of(samples, places, goes)?;
        if let ([place], true) = (places, self.whole) {
            return Ok((steps, place.start.0.clone()));
        }
        let starts: Vec<_> = places.iter().map(|place| place.start).collect();
        Ok((steps, Start::gather(&starts)?))
    }

    /// The steps from `places` of the rows that go; other rows rest.
    fn steps_of(
        &self,
        samples: &Arc<[usize]>,
        places: &[Place<'_>],
        goes: impl Fn(usize) -> bool,
    ) -> Result<Steps> {
        let ends = |row: usize| -> Result<(f64, f64)> {
            let (trail, step) = (self.trail(samples[row])?, places[row].step);
            let t0 = trail.start(step);
            Ok((t0, if goes(row) { trail.steps[step].t1 } else { t0 }))
        };
        if self.whole {
            let (t0, t1) = ends(0)?;
            return Ok(Steps::whole(t0, t1));
        }
        let (mut t0, mut t1) = (Vec::with_capacity(places.len()), Vec::with_capacity(places.len()));
        for row in 0..places.len() {
            let ends = ends(row)?;
            t0.push(ends.0);
            t1.push(ends.1);
        }
        Ok(Steps::of_samples(samples.clone(), t0, t1))
    }

    /// The steps of all rows, from the initial states of a batch.
    pub(crate) fn starts(
        &self,
        samples: &Arc<[usize]>,
        wanted: &[Option<usize>],
        y0: &Tensor,
    ) -> Result<(Steps, Start)> {
        let y0 = Start::from(y0.clone());
        let place = |(&sample, step): (&usize, &Option<usize>)| Place {
            step: step.unwrap_or(0),
            start: (&y0, sample),
        };
        let places: Vec<Place<'_>> = samples.iter().zip(wanted).map(place).collect();
        self.at(samples, &places, |row| wanted[row].is_some())
    }

    /// Where rows stand that hold `samples`: before the latest step whose start is kept and that is not beyond the one
    /// they want; those that want none rest at the start, where the field was finite.
    fn latest(
        &self,
        samples: &[usize],
        wanted: &[Option<usize>],
    ) -> Result<SmallVec<[Place<'_>; 1]>> {
        let place = |(&sample, step): (&usize, &Option<usize>)| {
            let trail = self.trail(sample)?;
            let step = match step {
                Some(step) if self.capacity == usize::MAX => *step,
                Some(step) => {
                    trail.kept.iter().rev().map(|kept| kept.step).find(|s| s <= step).unwrap_or(0)
                }
                None => 0,
            };
            Ok(Place { step, start: self.states.get(&trail.steps[step])? })
        };
        samples.iter().zip(wanted).map(place).collect()
    }

    /// Forgets the starts of steps beyond those that rows want, which a budget has room for no longer.
    fn forget_beyond(&mut self, samples: &[usize], wanted: &[Option<usize>]) {
        for (&sample, step) in samples.iter().zip(wanted) {
            let (Some(trail), Some(step)) = (self.samples.get_mut(sample), step) else { continue };
            let first = trail.kept.partition_point(|kept| kept.step <= *step);
            for kept in trail.kept.drain(first..) {
                self.states.free(&mut trail.steps[kept.step]);
            }
        }
    }

    /// Takes one step of every row that is before the one it wants, and keeps where it comes to as the budget allows;
    /// returns whether there was any, and where all rows are now. Rows that rest keep their place.
    fn advance(
        &mut self,
        samples: &Arc<[usize]>,
        (wanted, reached): (&[Option<usize>], &mut [usize]),
        start: &Start,
        (methods, field): (&[Stepper], &Evaluator<'_>),
    ) -> Result<Option<Start>> {
        let behind = |row: usize| wanted[row].is_some_and(|step| reached[row] < step);
        let behind: Vec<bool> = (0..wanted.len()).map(behind).collect();
        if !behind.contains(&true) {
            return Ok(None);
        }
        let whole = self.whole;
        let places: Vec<Place<'_>> = reached
            .iter()
            .enumerate()
            .map(|(row, &step)| Place { step, start: (start, row) })
            .collect();
        let (steps, start) = self.at(samples, &places, |row| behind[row])?;
        // Only a whole state has steps by several methods.
        let scheme = |row: usize, step| self.samples[samples[row]].scheme(step);
        let method = &methods[scheme(0, reached[0])];
        let known: Vec<Tensor> = start.k1.iter().cloned().collect();
        let mut stages = TensorStages::new(method, field, (&steps, &start.y), known);
        stages.fill(method.stages())?;
        let y = stages.end()?;
        let hands_on = (0..behind.len()).filter(|row| behind[*row]);
        let hands_on = method.begins_with_solved_slope()
            && hands_on.into_iter().all(|row| {
                let stays = scheme(row, reached[row]) == scheme(row, reached[row] + 1);
                stays && method.hands_on_slope(whole, steps.ends(row).1)
            });
        let k1 = match (stages.k.pop().filter(|_| hands_on), &start.k1) {
            (Some(end), Some(first)) if !whole => Some(kernels::choose_rows(&behind, &end, first)?),
            (end, _) => end,
        };
        let end = Start { y, k1 };
        for row in (0..behind.len()).filter(|row| behind[*row]) {
            reached[row] += 1;
            let own = match whole {
                true => end.clone(),
                false => end.map(|x| kernels::pick_rows(x, &[row]))?,
            };
            self.keep_within(samples[row], reached[row], own);
        }
        Ok(Some(end))
    }
}

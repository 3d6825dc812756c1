//! Checkpoints of accepted steps, all of them or within a budget.

use std::sync::Arc;

use aca_core::{
    Error, Evaluator, Method, Result, Step, StepSink, Steps, TensorStages, kernels, pays_to_gather,
};
use candle_core::Tensor;
use smallvec::SmallVec;

/// An accepted step as a tape keeps it: its times and the state at its start.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Where the step starts.
    pub t0: f64,
    /// Where it ends.
    pub t1: f64,
    /// State at `t0`: a shared pointer to what the solve held anyway.
    pub y0: Tensor,
}

/// The sink that keeps the starts of accepted steps and nothing of rejected ones: of a whole state, or of each sample of
/// a batch; all of them, or at most `capacity` a sample.
///
/// With a budget the states are chosen while the solve runs without knowing its length, so that as few steps as
/// possible are repeated; times are kept whole. A kept state is dispensable when a later one has a higher level. A new
/// state takes a free place, or that of a dispensable one; else it takes its predecessor's and rises one level above it.
/// The repetitions are those of the binomial schedule, the fewest possible.
///
/// # Source
/// Wang, Moin, Iaccarino, "Minimal repetition dynamic checkpointing algorithm for unsteady adjoint
/// calculation", SIAM Journal on Scientific Computing 31 (2009), algorithms 1 and 2.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    capacity: usize,
    /// One for a whole state; for a batch as many as samples took steps so far.
    samples: Vec<Trail>,
    whole: bool,
}

/// The steps of one sample.
#[derive(Clone, Debug, Default)]
struct Trail {
    /// The times between them.
    grid: Vec<f64>,
    /// By rising step; the first is the initial state.
    kept: Vec<Kept>,
}

/// A kept state and how dear it is: the higher the level, the longer it stays.
#[derive(Clone, Debug)]
struct Kept {
    step: usize,
    level: usize,
    at: At,
}

/// Where a kept state lies: a tensor, and its row where that holds states of several samples.
type At = (Tensor, usize);

impl Default for Checkpoints {
    fn default() -> Self {
        Self { capacity: usize::MAX, samples: Vec::new(), whole: true }
    }
}

impl Checkpoints {
    /// Prepares to keep at most `capacity` states of a sample.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] without room for one.
    pub(crate) fn within(capacity: usize) -> Result<Self> {
        let (name, value, range) = ("checkpoints", 0.0, "at least 1");
        match capacity {
            0 => Err(Error::InvalidSetting { name, value, range }),
            _ => Ok(Self { capacity, ..Self::default() }),
        }
    }

    /// The kept steps of a whole state, or of a sample of a batch.
    pub fn of_sample(&self, sample: usize) -> Result<Vec<Checkpoint>> {
        let trail = self.samples.get(sample);
        let kept = trail.iter().flat_map(|trail| &trail.kept);
        let checkpoint = |kept: &Kept| {
            let grid = trail.map_or(&[][..], |trail| &trail.grid);
            let y0 = if self.whole { kept.at.0.clone() } else { kept.at.0.get(kept.at.1)? };
            Ok(Checkpoint { t0: grid[kept.step], t1: grid[kept.step + 1], y0 })
        };
        kept.map(checkpoint).collect()
    }

    /// Number of accepted steps of a sample.
    pub(crate) fn steps(&self, sample: usize) -> usize {
        self.samples.get(sample).map_or(0, |trail| trail.grid.len().saturating_sub(1))
    }

    /// Where a sample's solve started and ended; `None` without steps.
    pub(crate) fn ends(&self, sample: usize) -> Option<(f64, f64)> {
        let grid = &self.samples.get(sample)?.grid;
        grid.first().copied().zip(grid.last().copied())
    }

    /// The state after a step of a whole state, if it is kept as the start of the next.
    pub(crate) fn after(&self, step: usize) -> Option<Tensor> {
        let kept = &self.samples.first()?.kept;
        let place = kept.binary_search_by_key(&(step + 1), |kept| kept.step).ok()?;
        Some(kept[place].at.0.clone())
    }

    /// Whether it pays to leave rows out of `samples`, of which `under_way` have steps to go. One without any
    /// steps of its own has no place to rest, and always leaves.
    pub(crate) fn pay_to_gather(&self, under_way: usize, samples: &[usize]) -> bool {
        under_way < samples.len()
            && (pays_to_gather(under_way, samples.len())
                || samples.iter().any(|&sample| self.steps(sample) == 0))
    }

    /// Returns the steps of rows that hold `samples`, each its own of that number or none, and the states where they
    /// start, where all states are kept.
    fn look_up(&self, samples: &Arc<[usize]>, wanted: &[Option<usize>]) -> Result<(Steps, Tensor)> {
        let mut places = Places::new();
        for (&sample, step) in samples.iter().zip(wanted) {
            places.push(match (step, self.samples.get(sample)) {
                (Some(step), Some(trail)) => {
                    Place { step: *step, at: trail.kept[*step].at.clone() }
                }
                _ => self.rest(sample)?,
            });
        }
        Ok((self.steps_of(samples, &places, |row| wanted[row].is_some()), self.states_of(&places)?))
    }

    /// As [`Checkpoints::look_up`] within a budget. Later states are forgotten; those that must be computed again are
    /// kept by the same rule.
    fn compute(
        &mut self,
        samples: &Arc<[usize]>,
        wanted: &[Option<usize>],
        (method, field): (&Method, &Evaluator<'_>),
    ) -> Result<(Steps, Tensor)> {
        let mut places = Places::new();
        for (&sample, step) in samples.iter().zip(wanted) {
            places.push(self.latest(sample, *step)?);
        }
        let is_behind =
            |places: &[Place], row: usize| wanted[row].is_some_and(|w| places[row].step < w);
        while (0..places.len()).any(|row| is_behind(&places, row)) {
            // Rows that are where they should be rest.
            let steps = self.steps_of(samples, &places, |row| is_behind(&places, row));
            let y0 = self.states_of(&places)?;
            let mut stages = TensorStages::new(method, field, (&steps, &y0), Vec::new());
            stages.fill(method.stages())?;
            let y1 = stages.end()?;
            let behind: Vec<usize> =
                (0..places.len()).filter(|row| is_behind(&places, *row)).collect();
            for row in behind {
                let step = places[row].step + 1;
                places[row] = Place { step, at: (y1.clone(), row) };
                self.keep(samples[row], step, &places[row].at.clone())?;
            }
        }
        Ok((self.steps_of(samples, &places, |row| wanted[row].is_some()), self.states_of(&places)?))
    }

    /// The latest kept state of a sample that is not beyond `step`, after which all are forgotten.
    fn latest(&mut self, sample: usize, step: Option<usize>) -> Result<Place> {
        if let (Some(trail), Some(step)) = (self.samples.get_mut(sample), step) {
            trail.kept.truncate(trail.kept.partition_point(|kept| kept.step <= step));
            if let Some(kept) = trail.kept.last() {
                return Ok(Place { step: kept.step, at: kept.at.clone() });
            }
        }
        self.rest(sample)
    }

    /// Where a row rests whose sample has no step to go: at the sample's own start, where the field was finite, or at
    /// that of another.
    fn rest(&self, sample: usize) -> Result<Place> {
        let own = self.samples.get(sample).and_then(|trail| trail.kept.first());
        let kept = own.or_else(|| self.samples.iter().find_map(|trail| trail.kept.first()));
        let kept =
            kept.ok_or_else(|| candle_core::Error::msg("checkpoints keep initial states"))?;
        Ok(Place { step: kept.step, at: kept.at.clone() })
    }

    /// The steps from these places of the rows that go; the others rest.
    fn steps_of(
        &self,
        samples: &Arc<[usize]>,
        places: &[Place],
        goes: impl Fn(usize) -> bool,
    ) -> Steps {
        let grid = |row: usize| match self.samples.get(samples[row]) {
            Some(trail) if !trail.grid.is_empty() => &trail.grid[..],
            _ => self
                .samples
                .iter()
                .map(|trail| &trail.grid[..])
                .find(|g| !g.is_empty())
                .unwrap_or(&[0.0]),
        };
        let t0 = |row: usize| grid(row)[places[row].step];
        let t1 = |row: usize| if goes(row) { grid(row)[places[row].step + 1] } else { t0(row) };
        if self.whole {
            return Steps::whole(t0(0), t1(0));
        }
        let rows = 0..places.len();
        let (t0, t1): (Vec<f64>, Vec<f64>) = rows.map(|row| (t0(row), t1(row))).unzip();
        Steps::of_samples(samples.clone(), &t0, &t1)
    }

    fn states_of(&self, places: &[Place]) -> Result<Tensor> {
        match places {
            [place] if self.whole => Ok(place.at.0.clone()),
            _ => {
                let rows = places.iter().map(|place| (&place.at.0, place.at.1));
                kernels::gather_rows(&rows.collect::<Vec<_>>())
            }
        }
    }

    /// Keeps the state where a step starts, as the capacity allows.
    fn keep(&mut self, sample: usize, step: usize, (y0, row): &At) -> Result<()> {
        let (capacity, whole) = (self.capacity, self.whole);
        let trail = &mut self.samples[sample];
        let level = if trail.kept.len() < capacity {
            0
        } else if let Some(place) = trail.dispensable() {
            trail.kept.remove(place);
            0
        } else {
            // The initial state stays whatever happens: all others can be computed from it.
            match trail.kept.len() {
                1 => return Ok(()),
                _ => trail.kept.pop().map_or(0, |previous| previous.level + 1),
            }
        };
        // Nothing that comes later may make the initial state dispensable.
        let level = if step == 0 { usize::MAX } else { level };
        // A row of a budget must not hold on to the whole batch.
        let at = match whole || capacity == usize::MAX {
            true => (y0.clone(), *row),
            false => (kernels::pick_rows(y0, &[*row])?, 0),
        };
        trail.kept.push(Kept { step, level, at });
        Ok(())
    }
}

/// The kept states during one backward pass, which moves those of a budget.
pub(crate) enum States<'a> {
    All(&'a Checkpoints),
    Budget(Checkpoints),
}

impl<'a> States<'a> {
    pub(crate) fn new(checkpoints: &'a Checkpoints) -> Self {
        match checkpoints.capacity {
            usize::MAX => Self::All(checkpoints),
            _ => Self::Budget(checkpoints.clone()),
        }
    }

    /// Returns the steps of rows that hold `samples`, each its own of that number or none, and the states where they
    /// start; other rows rest. Those of a budget are asked for from the newest to the oldest.
    pub(crate) fn restore(
        &mut self,
        samples: &Arc<[usize]>,
        wanted: &[Option<usize>],
        rules: (&Method, &Evaluator<'_>),
    ) -> Result<(Steps, Tensor)> {
        match self {
            Self::All(checkpoints) => checkpoints.look_up(samples, wanted),
            Self::Budget(checkpoints) => checkpoints.compute(samples, wanted, rules),
        }
    }
}

/// One a row.
type Places = SmallVec<[Place; 1]>;

/// Where a row stands: before a step of its sample, in a state.
struct Place {
    step: usize,
    at: At,
}

impl Trail {
    fn dispensable(&self) -> Option<usize> {
        let (mut highest, mut oldest) = (0, None);
        for (place, kept) in self.kept.iter().enumerate().rev() {
            oldest = if kept.level < highest { Some(place) } else { oldest };
            highest = highest.max(kept.level);
        }
        oldest
    }
}

impl StepSink for Checkpoints {
    fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
        self.whole = step.is_whole();
        let all = self.whole || step.accepted.len() == step.steps().rows();
        // Rows that rested or were rejected are not kept.
        let y0 = match all || self.capacity < usize::MAX {
            true => step.y0.clone(),
            false => {
                let rows: Vec<usize> = step.accepted.iter().map(|own| own.row).collect();
                kernels::pick_rows(step.y0, &rows)?
            }
        };
        for (position, own) in step.accepted.iter().enumerate() {
            if self.samples.len() <= own.sample {
                self.samples.resize_with(own.sample + 1, Trail::default);
            }
            let grid = &mut self.samples[own.sample].grid;
            if grid.is_empty() {
                grid.push(own.t0);
            }
            grid.push(own.t1);
            let row = if all || self.capacity < usize::MAX { own.row } else { position };
            self.keep(own.sample, own.index, &(y0.clone(), row))?;
        }
        Ok(())
    }
}

/// The sink that keeps the times between the accepted steps of a whole state alone.
#[derive(Clone, Debug, Default)]
pub struct Grid(pub Vec<f64>);

impl StepSink for Grid {
    fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
        if self.0.is_empty() {
            self.0.push(step.t0);
        }
        self.0.push(step.t1);
        Ok(())
    }
}

/// The sink that keeps the slope at the end of the span of a whole state, where the method has it.
#[derive(Clone, Debug, Default)]
pub(crate) struct EndSlope(pub(crate) Option<Tensor>);

impl StepSink for EndSlope {
    fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
        if step.is_whole() && step.accepted.iter().any(|own| own.is_last) {
            self.0 = step.fsal_slope()?.map(|slope| slope.detach());
        }
        Ok(())
    }
}

//! Checkpoints of accepted steps, all of them or within a budget.

use aca_core::{Error, Result, Step, StepSink, kernels, pays_to_gather};
use candle_core::Tensor;

/// An accepted step: its times and the state at its start.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Where the step starts.
    pub t0: f64,
    /// Where it ends.
    pub t1: f64,
    /// State at `t0`: shared with the solve, not a copy.
    pub y0: Tensor,
    /// The slope there, where the step began with that of an implicit stage (`Stepper::begins_with_solved_slope`).
    pub k1: Option<Tensor>,
}

/// What a step starts from: the state, and the slope there where a replay cannot find it again.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub(crate) y: Tensor,
    pub(crate) k1: Option<Tensor>,
}

impl From<Tensor> for Start {
    fn from(y: Tensor) -> Self {
        Self { y, k1: None }
    }
}

impl Start {
    /// Applies an operation to state and slope.
    pub(crate) fn map(&self, work: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(Self { y: work(&self.y)?, k1: self.k1.as_ref().map(work).transpose()? })
    }

    /// The rows of several starts.
    pub(crate) fn gather(rows: &[(&Self, usize)]) -> Result<Self> {
        let slopes = rows.iter().map(|(start, row)| Some((start.k1.as_ref()?, *row)));
        let k1 = slopes.collect::<Option<Vec<_>>>().map(|rows| kernels::gather_rows(&rows));
        let states: Vec<_> = rows.iter().map(|(start, row)| (&start.y, *row)).collect();
        Ok(Self { y: kernels::gather_rows(&states)?, k1: k1.transpose()? })
    }
}

/// The sink that keeps the states at the starts of accepted steps, and nothing of rejected ones. It keeps all of them,
/// or at most `capacity` for each sample (a whole state is one sample).
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
    pub(crate) capacity: usize,
    /// One for a whole state; for a batch as many as samples took steps so far.
    pub(crate) samples: Vec<SampleSteps>,
    pub(crate) states: Slots,
    pub(crate) whole: bool,
    /// Whether rows of a whole state are systems of their own, as far as the solve found that out: a replay must not find
    /// otherwise.
    pub(crate) known_rows: Option<bool>,
}

/// Kept starts: each of the whole state, or of rows of several samples.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slots {
    starts: Vec<Option<Start>>,
    free: Vec<u32>,
}

impl Slots {
    /// Keeps a start; returns its place.
    fn keep(&mut self, start: Start) -> u32 {
        match self.free.pop() {
            Some(slot) => {
                self.starts[slot as usize] = Some(start);
                slot
            }
            None => {
                self.starts.push(Some(start));
                (self.starts.len() - 1) as u32
            }
        }
    }

    /// Lets the start of a step go.
    pub(crate) fn free(&mut self, step: &mut Taken) {
        self.starts[step.slot as usize] = None;
        self.free.push(std::mem::replace(&mut step.slot, FORGOTTEN));
    }

    /// What holds the start of a step, and its row there.
    pub(crate) fn get(&self, step: &Taken) -> Result<(&Start, usize)> {
        match self.starts.get(step.slot as usize) {
            Some(Some(start)) => Ok((start, step.row as usize)),
            _ => Err(candle_core::Error::msg("the start of a step was let go").into()),
        }
    }
}

/// The steps of one sample.
#[derive(Clone, Debug, Default)]
pub(crate) struct SampleSteps {
    t0: f64,
    pub(crate) steps: Vec<Taken>,
    /// Within a budget, the steps whose starts are kept, by rising number; the first is the initial state.
    pub(crate) kept: Vec<Kept>,
    /// The number of each step's method among those that the solve switched between, up to the last that is not 0.
    schemes: Vec<u8>,
}

/// A step that was taken: where it ended, and where the state lies that it started from, if that is kept: a slot, and
/// its row where that holds states of several samples.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) t1: f64,
    slot: u32,
    row: u32,
}

/// No slot.
const FORGOTTEN: u32 = u32::MAX;

/// A step whose start is kept, and how dear that is: the higher the level, the longer it stays.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    pub(crate) step: usize,
    level: usize,
}

impl SampleSteps {
    /// Where a step starts.
    pub(crate) fn start(&self, step: usize) -> f64 {
        step.checked_sub(1).map_or(self.t0, |before| self.steps[before].t1)
    }

    /// The number of a step's method among those that the solve switched between.
    pub(crate) fn scheme(&self, step: usize) -> usize {
        self.schemes.get(step).copied().map_or(0, usize::from)
    }

    fn dispensable(&self) -> Option<usize> {
        let (mut highest, mut oldest) = (0, None);
        for (place, kept) in self.kept.iter().enumerate().rev() {
            oldest = if kept.level < highest { Some(place) } else { oldest };
            highest = highest.max(kept.level);
        }
        oldest
    }
}

impl Default for Checkpoints {
    fn default() -> Self {
        let (samples, states) = Default::default();
        Self { capacity: usize::MAX, samples, states, whole: true, known_rows: None }
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

    /// Keeps times alone, for methods whose steps can be undone.
    pub(crate) fn of_times() -> Self {
        Self { capacity: 0, ..Self::default() }
    }

    /// Whether times alone are kept.
    pub(crate) fn are_times(&self) -> bool {
        self.capacity == 0
    }

    /// The kept steps of a whole state (sample 0), or of a sample of a batch.
    ///
    /// # Errors
    /// Only if candle cannot take rows of a batch.
    pub fn of_sample(&self, sample: usize) -> Result<Vec<Checkpoint>> {
        let Some(trail) = self.samples.get(sample) else { return Ok(Vec::new()) };
        let kept = trail.steps.iter().enumerate().filter(|(_, step)| step.slot != FORGOTTEN);
        let checkpoint = |(step, taken): (usize, &Taken)| {
            let (start, row) = self.states.get(taken)?;
            let own = |x: &Tensor| if self.whole { Ok(x.clone()) } else { Ok(x.get(row)?) };
            let Start { y, k1 } = start.map(own)?;
            Ok(Checkpoint { t0: trail.start(step), t1: taken.t1, y0: y, k1 })
        };
        kept.map(checkpoint).collect()
    }

    /// Number of accepted steps of a sample.
    pub(crate) fn steps(&self, sample: usize) -> usize {
        self.samples.get(sample).map_or(0, |trail| trail.steps.len())
    }

    /// The number of the method of a whole state's step among those that the solve switched between.
    pub(crate) fn scheme(&self, step: usize) -> usize {
        self.samples.first().map_or(0, |trail| trail.scheme(step))
    }

    /// Where a sample's solve started and ended; `None` without steps.
    pub(crate) fn ends(&self, sample: usize) -> Option<(f64, f64)> {
        let trail = self.samples.get(sample)?;
        Some((trail.t0, trail.steps.last()?.t1))
    }

    /// The state after a step of a whole state, if it is kept as the start of the next.
    pub(crate) fn after(&self, step: usize) -> Option<Tensor> {
        let next = self.samples.first()?.steps.get(step + 1)?;
        self.states.get(next).ok().map(|(start, _)| start.y.clone())
    }

    /// Whether it pays to leave rows out of `samples`, of which `under_way` have steps to go. One without any
    /// steps of its own has no place to rest, and always leaves.
    pub(crate) fn pay_to_gather(&self, under_way: usize, samples: &[usize]) -> bool {
        under_way < samples.len()
            && (pays_to_gather(under_way, samples.len())
                || samples.iter().any(|&sample| self.steps(sample) == 0))
    }

    /// Keeps the start of a step as the budget allows.
    pub(crate) fn keep_within(&mut self, sample: usize, step: usize, start: Start) {
        let trail = &mut self.samples[sample];
        let level = if trail.kept.len() < self.capacity {
            0
        } else if let Some(place) = trail.dispensable() {
            let kept = trail.kept.remove(place);
            self.states.free(&mut trail.steps[kept.step]);
            0
        } else if let (Some(previous), true) = (trail.kept.last().copied(), trail.kept.len() > 1) {
            trail.kept.pop();
            self.states.free(&mut trail.steps[previous.step]);
            previous.level + 1
        } else {
            // The initial state stays whatever happens: all others can be computed from it.
            return;
        };
        // Nothing that comes later may make the initial state dispensable.
        let level = if step == 0 { usize::MAX } else { level };
        trail.kept.push(Kept { step, level });
        trail.steps[step].slot = self.states.keep(start);
        trail.steps[step].row = 0;
    }
}

impl StepSink for Checkpoints {
    fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
        self.whole = step.is_whole();
        self.known_rows = step.known_rows();
        let all = self.whole || step.accepted.len() == step.steps().rows();
        let budget = self.capacity < usize::MAX;
        let start = match self.capacity {
            0 => Start::from(step.y0.clone()),
            _ => Start { y: step.y0.clone(), k1: step.solved_slope()? },
        };
        let slot = match (all, budget) {
            (_, true) => FORGOTTEN,
            (true, false) => self.states.keep(start.clone()),
            // Rows that rested or were rejected are not kept.
            (false, false) => {
                let rows: Vec<usize> = step.accepted.iter().map(|own| own.row).collect();
                self.states.keep(start.map(|x| kernels::pick_rows(x, &rows))?)
            }
        };
        for (position, own) in step.accepted.iter().enumerate() {
            if self.samples.len() <= own.sample {
                self.samples.resize_with(own.sample + 1, SampleSteps::default);
            }
            let trail = &mut self.samples[own.sample];
            if own.index == 0 {
                trail.t0 = own.t0;
            }
            let row = if all { own.row } else { position } as u32;
            if step.scheme() > 0 {
                trail.schemes.resize(trail.steps.len(), 0);
                trail.schemes.push(step.scheme() as u8);
            }
            trail.steps.push(Taken { t1: own.t1, slot, row });
            if budget && self.capacity > 0 {
                let own_start = match self.whole {
                    true => start.clone(),
                    false => start.map(|x| kernels::pick_rows(x, &[own.row]))?,
                };
                self.keep_within(own.sample, own.index, own_start);
            }
        }
        Ok(())
    }
}

/// The sink that keeps only the times at which the accepted steps of a whole state start and end.
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

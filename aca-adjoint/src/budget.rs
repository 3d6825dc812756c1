//! Checkpoints within a budget.

use aca_core::{Error, Evaluator, Method, Result, Step, StepSink};
use candle_core::Tensor;

use crate::tape::{Checkpoint, Grid};

/// A kept state and how dear it is: the higher the level, the longer it stays.
#[derive(Clone)]
struct Kept {
    step: usize,
    level: usize,
    y0: Tensor,
}

/// At most `capacity` states of a solve, chosen while it runs without knowing its length, so that as
/// few steps as possible are repeated; the grid is kept whole.
///
/// A kept state is dispensable when a later one has a higher level. A new state takes a free place,
/// or that of a dispensable one; else it takes its predecessor's and rises one level above it. The
/// repetitions are those of the binomial schedule, the fewest possible.
///
/// # Source
/// Wang, Moin, Iaccarino, "Minimal repetition dynamic checkpointing algorithm for unsteady adjoint
/// calculation", SIAM Journal on Scientific Computing 31 (2009), algorithms 1 and 2.
#[derive(Clone)]
pub(crate) struct Budget {
    capacity: usize,
    grid: Grid,
    /// By rising step; the first is the initial state.
    kept: Vec<Kept>,
}

impl Budget {
    /// Prepares to keep at most `capacity` states.
    pub(crate) fn new(capacity: usize) -> Result<Self> {
        if capacity == 0 {
            return Err(Error::InvalidSetting {
                name: "checkpoints",
                value: 0.0,
                range: "at least 1",
            });
        }
        Ok(Self { capacity, grid: Grid::default(), kept: Vec::new() })
    }

    /// Number of accepted steps.
    pub(crate) fn steps(&self) -> usize {
        self.grid.0.len().saturating_sub(1)
    }

    /// The ends of the span; `None` without steps.
    pub(crate) fn ends(&self) -> Option<(f64, f64)> {
        self.grid.0.first().copied().zip(self.grid.0.last().copied())
    }

    /// Returns the state before step `index`; those of later steps are forgotten, and states on the
    /// way there are kept by the same rule.
    pub(crate) fn restore(
        &mut self,
        index: usize,
        method: &Method,
        field: &Evaluator<'_>,
    ) -> Result<Checkpoint> {
        self.kept.truncate(self.kept.partition_point(|kept| kept.step <= index));
        let (mut step, mut y) = match self.kept.last() {
            Some(kept) => (kept.step, kept.y0.clone()),
            None => return Err(candle_core::Error::msg("a budget keeps the initial state").into()),
        };
        while step < index {
            y = method.step(field, (self.grid.0[step], self.grid.0[step + 1]), &y, None)?.1;
            step += 1;
            self.keep(step, &y);
        }
        Ok(Checkpoint { t0: self.grid.0[index], t1: self.grid.0[index + 1], y0: y })
    }

    fn keep(&mut self, step: usize, y0: &Tensor) {
        let level = if self.kept.len() < self.capacity {
            0
        } else if let Some(place) = self.dispensable() {
            self.kept.remove(place);
            0
        } else {
            // The initial state stays whatever happens: all others can be computed from it.
            match self.kept.len() {
                1 => return,
                _ => self.kept.pop().map_or(0, |previous| previous.level + 1),
            }
        };
        // Nothing that comes later may make the initial state dispensable.
        let level = if step == 0 { usize::MAX } else { level };
        self.kept.push(Kept { step, level, y0: y0.clone() });
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

impl StepSink for Budget {
    fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
        self.grid.accept(step)?;
        self.keep(step.index, step.y0);
        Ok(())
    }
}

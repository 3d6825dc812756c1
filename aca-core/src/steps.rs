//! The times of one step.

use std::sync::Arc;

use smallvec::SmallVec;

/// One number per row.
type PerRow = SmallVec<[f64; 1]>;

/// Where one step of a state starts and ends: one step of the whole state, which is then one row, or one of
/// each row of a batch, whose samples have steps of their own. A row that rests ends where it starts.
#[derive(Clone, Debug)]
pub struct Steps {
    /// The samples that the rows hold; `None` where the state steps as a whole.
    samples: Option<Arc<[usize]>>,
    t0: PerRow,
    t1: PerRow,
    h: PerRow,
}

impl Steps {
    /// A step of the whole state.
    #[inline]
    pub fn whole(t0: f64, t1: f64) -> Self {
        Self { samples: None, t0: [t0].into(), t1: [t1].into(), h: [t1 - t0].into() }
    }

    /// A step of every row, given where each starts and ends; the rows hold these samples.
    pub fn of_samples(samples: Arc<[usize]>, t0: Vec<f64>, t1: Vec<f64>) -> Self {
        let h = t0.iter().zip(&t1).map(|(t0, t1)| t1 - t0).collect();
        Self { samples: Some(samples), t0: t0.into(), t1: t1.into(), h }
    }

    /// The samples that the rows hold; `None` where the state steps as a whole.
    #[inline]
    pub fn samples(&self) -> Option<&Arc<[usize]>> {
        self.samples.as_ref()
    }

    /// Whether the state steps as a whole.
    #[inline]
    pub fn is_whole(&self) -> bool {
        self.samples.is_none()
    }

    /// Number of rows, 1 for the whole state.
    #[inline]
    pub fn rows(&self) -> usize {
        self.h.len()
    }

    /// Where a row's step starts and ends.
    #[inline]
    pub fn ends(&self, row: usize) -> (f64, f64) {
        (self.t0[row], self.t1[row])
    }

    /// Signed sizes of the steps, one per row.
    #[inline]
    pub fn h(&self) -> &[f64] {
        &self.h
    }

    /// Sets the step of a row.
    #[inline]
    pub(crate) fn set(&mut self, row: usize, t0: f64, t1: f64) {
        (self.t0[row], self.t1[row], self.h[row]) = (t0, t1, t1 - t0);
    }

    /// The steps back, from where these end to where they start.
    pub fn reversed(&self) -> Self {
        let mut steps = self.clone();
        for row in 0..self.rows() {
            steps.set(row, self.t1[row], self.t0[row]);
        }
        steps
    }

    /// The same steps of the rows that `goes` names; the others rest.
    pub fn resting_unless(&self, goes: impl Fn(usize) -> bool) -> Self {
        let mut steps = self.clone();
        for row in (0..self.rows()).filter(|row| !goes(*row)) {
            steps.set(row, self.t0[row], self.t0[row]);
        }
        steps
    }
}

/// Whether it pays to gather the rows under way, so that the others are not evaluated: below three quarters a
/// gather is cheaper than the evaluations that it saves.
pub fn pays_to_gather(under_way: usize, rows: usize) -> bool {
    4 * under_way < 3 * rows
}

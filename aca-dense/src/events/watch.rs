//! What is remembered of each sample's functions from step to step.

/// What is remembered of a sample.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    /// One for each event.
    pub(crate) marks: Vec<Mark>,
    /// Events so far.
    pub(crate) total: usize,
    /// Whether an event ended the present piece.
    pub(crate) acted: bool,
}

/// What is remembered of a function.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mark {
    /// Its value at the end of the last step; unknown at the start of a piece.
    pub(crate) value: Option<f64>,
    /// The magnitude that counts as zero at the start of a piece.
    pub(crate) surface: f64,
    /// The sign before the crossing that ended the last piece, or 0.
    pub(crate) before: f64,
    /// How often the event happened.
    pub(crate) count: usize,
}

impl Watch {
    pub(crate) fn new(events: usize) -> Self {
        Self { marks: vec![Mark::default(); events], total: 0, acted: false }
    }

    /// Prepares for a piece that starts anew.
    pub(crate) fn start(&mut self) {
        self.acted = false;
        self.marks.iter_mut().for_each(|mark| mark.value = None);
    }

    /// Counts an event; returns how often it has happened.
    pub(crate) fn count(&mut self, event: usize) -> usize {
        self.total += 1;
        self.marks[event].count += 1;
        self.marks[event].count
    }
}

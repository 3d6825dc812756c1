//! The solve as a list of pieces, each from one change to the next.

use candle_core::{Tensor, Var};

use super::Crossing;
use crate::Placement;

/// One piece of a solve with events: an ordinary solve of all samples that were still under way, each from its own
/// time; the others rest.
#[derive(Clone, Debug)]
pub struct Piece<T> {
    /// What the solve of the piece returned beside its solution.
    pub kept: T,
    /// What happened in it, one sample's after the other's, in the order of time.
    pub crossings: Vec<Crossing>,
    /// For each sample, its outputs: their places among those of the whole solve, and where they lie.
    pub outputs: Vec<Vec<(usize, Placement)>>,
    /// For each sample, the place of the output that is where an event ended the piece, and moves with it.
    pub moving: Vec<Option<usize>>,
    /// Where each sample's end lies.
    pub ends: Vec<Placement>,
    /// The event whose jump each sample makes at the end, and when.
    pub jumps: Vec<Option<(usize, f64)>>,
    /// States before the jumps.
    pub y1: Tensor,
}

/// The samples that make one event's jump at the end of a piece, given what each does there, and when.
pub fn jumping(jumps: &[Option<(usize, f64)>], event: usize) -> (Vec<usize>, Vec<f64>) {
    let own = jumps.iter().enumerate().filter_map(|(i, jump)| Some((i, (*jump)?)));
    own.filter(|(_, jump)| jump.0 == event).map(|(i, jump)| (i, jump.1)).unzip()
}

/// A whole solve with events.
#[derive(Debug)]
pub struct Pieces<T> {
    /// The pieces, oldest first.
    pub list: Vec<Piece<T>>,
    /// Which samples failed.
    pub failed: Vec<bool>,
    /// The variables that functions and jumps were seen to read.
    pub variables: Vec<Var>,
}

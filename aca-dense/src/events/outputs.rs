//! The outputs of one piece.

use aca_core::Result;

use super::rounds::Rounds;
use crate::{Placement, Solution};

/// The outputs that a piece came to.
pub(crate) struct Reached {
    /// For each sample, their places among its outputs, and where they lie.
    pub(crate) outputs: Vec<Vec<(usize, Placement)>>,
    /// For each sample, the place of the one that moves with the event which ends the piece: the end of a step that was kept.
    pub(crate) moving: Vec<Option<usize>>,
}

impl<T> Rounds<'_, T> {
    /// Takes the outputs of piece `number`, given where it ends.
    pub(crate) fn take_outputs(
        &mut self,
        (number, ends): (usize, &[Placement]),
        sol: &Solution,
    ) -> Result<Reached> {
        let mut placements = sol.placements().iter();
        let (mut outputs, mut moving) = (Vec::new(), vec![None; self.samples.len()]);
        for (i, own) in self.samples.iter_mut().enumerate() {
            let (ts, mut reached) = (sol.sample_ts(i)?, Vec::new());
            for (row, &t) in sol.layout().rows(i).zip(ts) {
                let Some(&placement) = placements.next() else { break };
                if placement.step == usize::MAX || own.done {
                    continue;
                }
                let asked = own.request.times.get(own.served) == Some(&t);
                own.served += usize::from(asked);
                match self.finder.watches[i].acted && !asked && placement == ends[i] {
                    true => moving[i] = Some(own.found.len()),
                    false => reached.push((own.found.len(), placement)),
                }
                own.found.push((t, (number, row)));
            }
            outputs.push(reached);
            if own.request.dense && !own.done {
                own.dense.push(sol.sample_dense(i)?.clone());
            }
        }
        let state = &self.y.dims()[usize::from(!self.whole)..];
        let rows = sol.layout().len();
        self.outputs.push(sol.ys.detach().reshape([&[rows], state].concat())?);
        Ok(Reached { outputs, moving })
    }
}

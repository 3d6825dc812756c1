//! What the outputs of a solve with events weigh in a loss.

use aca_core::Result;
use candle_core::{DType, Tensor};

use super::tape::{Arriving, EventTape};

/// The sum of the norms of the cotangents that arrive from outside, for each sample: those between pieces do not count, which
/// may be as large as a chaotic system makes them.
#[derive(Clone, Debug)]
pub(crate) struct Weight(Vec<f64>);

impl Weight {
    /// The weight of all states.
    pub(crate) fn new(tape: &EventTape, arriving: &Arriving) -> Result<Self> {
        let failed = &tape.pieces.failed;
        let (ys, mut own) = (norms(&arriving.ys)?, norms(&arriving.y1)?);
        let (before, after) = (norms(&arriving.before)?, norms(&arriving.after)?);
        for piece in &tape.pieces.list {
            for (own, (outputs, moving)) in
                own.iter_mut().zip(piece.outputs.iter().zip(&piece.moving))
            {
                let outputs = outputs.iter().map(|(output, _)| output).chain(moving);
                *own += outputs.map(|&output| ys[output]).sum::<f64>();
            }
            for crossing in &piece.crossings {
                own[crossing.sample] += before[crossing.place] + after[crossing.place];
            }
        }
        own.iter_mut().zip(failed).filter(|(_, failed)| **failed).for_each(|(own, _)| *own = 0.0);
        Ok(Self(own))
    }

    /// Adds the norm of the cotangent that an event's time hands on to the state.
    pub(crate) fn add_time(&mut self, sample: usize, norm: f64) {
        self.0[sample] += norm;
    }

    /// The weight of the loss, given the largest norm of each sample's states.
    pub(crate) fn of_loss(&self, sizes: &[f64]) -> f64 {
        self.0.iter().zip(sizes).map(|(own, size)| own * size).sum()
    }
}

/// The norm of each row.
fn norms(rows: &Tensor) -> Result<Vec<f64>> {
    let count = rows.dims()[0];
    let width = rows.elem_count() / count.max(1);
    let all = rows.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    let norm = |row: &[f64]| row.iter().map(|x| x * x).sum::<f64>().sqrt();
    Ok(match width {
        0 => vec![0.0; count],
        width => all.chunks_exact(width).map(norm).collect(),
    })
}

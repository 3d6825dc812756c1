//! The jumps at the end of one piece.

use aca_core::{Result, kernels};
use candle_core::Tensor;

use super::Action;
use super::check::{check_jump, note};
use super::crossing::moments;
use super::pieces::jumping;
use super::rounds::Rounds;
use crate::DenseError;

impl<T> Rounds<'_, T> {
    /// The states after the jumps of one piece's end, `y1` before them; a sample whose jump fails makes none.
    pub(crate) fn jump(
        &mut self,
        y1: &Tensor,
        jumps: &mut [Option<(usize, f64)>],
    ) -> Result<Tensor> {
        let mut sources: Vec<(Tensor, usize)> = (0..jumps.len()).map(|i| (y1.clone(), i)).collect();
        let events = self.events;
        for (event, own) in events.list.iter().enumerate() {
            let Action::Jump(jump) = &own.action else { continue };
            let (samples, ts) = jumping(jumps, event);
            if samples.is_empty() {
                continue;
            }
            let before = if self.whole { y1.clone() } else { kernels::pick_rows(y1, &samples)? };
            let after = jump(&moments(self.whole, &ts, &samples)?, &before)?;
            check_jump(event, &after, &before)?;
            note(&mut self.pieces.variables, &after)?;
            let after = after.detach().contiguous()?;
            let bad = match self.whole {
                true => vec![kernels::first_non_finite(&after)?],
                false => kernels::non_finite_rows(&after)?,
            };
            for (row, (&sample, bad)) in samples.iter().zip(bad).enumerate() {
                match bad {
                    Some(index) => {
                        jumps[sample] = None;
                        let error = DenseError::JumpNotFinite { event, t: ts[row], index };
                        self.fail(sample, error.into())?;
                    }
                    None => sources[sample] = (after.clone(), row),
                }
            }
            if self.whole {
                return Ok(after);
            }
        }
        match self.whole {
            true => Ok(y1.clone()),
            false => {
                kernels::gather_rows(&sources.iter().map(|(y, row)| (y, *row)).collect::<Vec<_>>())
            }
        }
    }
}

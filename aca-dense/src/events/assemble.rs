//! Joins what the pieces found.

use aca_core::{Result, kernels};
use candle_core::Tensor;

use super::crossing::crossings_of;
use super::rounds::Rounds;
use crate::{Layout, Placement};

/// Everything that all pieces found together.
pub(crate) struct Assembled {
    pub(crate) ts: Vec<f64>,
    pub(crate) ys: Tensor,
    pub(crate) layout: Layout,
    pub(crate) happened: Happened,
}

/// The events of all samples, one sample's after the other's.
pub(crate) struct Happened {
    pub(crate) times: Tensor,
    pub(crate) before: Tensor,
    pub(crate) after: Tensor,
    pub(crate) which: Vec<usize>,
    pub(crate) counts: Vec<usize>,
}

impl<T> Rounds<'_, T> {
    /// Joins outputs and events; `ragged` says that samples may have different numbers of outputs.
    pub(crate) fn assemble(&mut self, ragged: bool) -> Result<Assembled> {
        let missing: Vec<Vec<f64>> =
            self.samples.iter().map(|own| own.missing().to_vec()).collect();
        let counts: Vec<usize> =
            self.samples.iter().zip(&missing).map(|(own, m)| own.found.len() + m.len()).collect();
        let layout = match (self.whole, ragged) {
            (true, _) => Layout::Whole(counts[0]),
            (false, true) => Layout::Ragged(counts),
            (false, false) => Layout::Alike { times: counts[0], batch: self.samples.len() },
        };
        let own_ts = |i: usize| {
            let found = self.samples[i].found.iter().map(|found| found.0);
            found.chain(missing[i].iter().copied()).collect::<Vec<f64>>()
        };
        let ts = match &layout {
            Layout::Ragged(_) => (0..self.samples.len()).flat_map(own_ts).collect(),
            _ => own_ts(0),
        };
        let ys = self.gather(&layout)?;
        self.number(&layout);
        Ok(Assembled { ts, ys, layout, happened: self.happened()? })
    }

    /// The state of one sample, or of the whole.
    fn state(&self) -> &[usize] {
        &self.y.dims()[usize::from(!self.whole)..]
    }

    /// All outputs where they belong; NaN where there are none.
    fn gather(&self, layout: &Layout) -> Result<Tensor> {
        let shape = [&layout.dims(), self.state()].concat();
        let nowhere =
            Tensor::zeros([&[1], self.state()].concat(), self.y.dtype(), self.y.device())?;
        let nowhere = nowhere.affine(0.0, f64::NAN)?;
        let mut rows = vec![(&nowhere, 0); layout.len()];
        for (i, own) in self.samples.iter().enumerate() {
            for (place, &(_, (piece, row))) in layout.rows(i).zip(&own.found) {
                rows[place] = (&self.outputs[piece], row);
            }
        }
        match rows.is_empty() {
            true => Ok(Tensor::zeros(shape, self.y.dtype(), self.y.device())?),
            false => Ok(kernels::gather_rows(&rows)?.reshape(shape)?),
        }
    }

    /// Turns places among a sample's outputs into places among all of them, and gives events theirs.
    fn number(&mut self, layout: &Layout) {
        let mut place = 0;
        for i in 0..self.samples.len() {
            for piece in &mut self.pieces.list {
                let range = crossings_of(&piece.crossings, i);
                for crossing in &mut piece.crossings[range] {
                    crossing.place = place;
                    place += 1;
                }
            }
        }
        for piece in &mut self.pieces.list {
            for (i, own) in piece.outputs.iter_mut().enumerate() {
                let places: Vec<usize> = layout.rows(i).collect();
                let numbered = |&(place, at): &(usize, Placement)| (places[place], at);
                *own = own.iter().map(numbered).collect();
                piece.moving[i] = piece.moving[i].map(|place| places[place]);
            }
        }
    }

    fn happened(&self) -> Result<Happened> {
        let (mut times, mut which, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        let (mut before, mut after) = (Vec::new(), Vec::new());
        let row = |y: &Tensor| if self.whole { y.unsqueeze(0) } else { Ok(y.clone()) };
        let starts = self.starts.iter().map(row).collect::<candle_core::Result<Vec<_>>>()?;
        for i in 0..self.samples.len() {
            let start = times.len();
            for (piece, starts) in self.pieces.list.iter().zip(&starts) {
                for crossing in &piece.crossings[crossings_of(&piece.crossings, i)] {
                    times.push(crossing.t);
                    which.push(crossing.event);
                    let jumps = crossing.acts && piece.jumps[i].is_some();
                    after.push(jumps.then_some((starts, i)));
                    before.push(row(&crossing.y)?);
                }
            }
            counts.push(times.len() - start);
        }
        let after = before.iter().zip(after).map(|(y, after)| after.unwrap_or((y, 0)));
        let after = self.join(&after.collect::<Vec<_>>())?;
        let before = self.join(&before.iter().map(|y| (y, 0)).collect::<Vec<_>>())?;
        let count = times.len();
        let times = Tensor::from_vec(times, count, self.y.device())?;
        Ok(Happened { times, before, after, which, counts })
    }

    /// Rows of states one below the other.
    fn join(&self, rows: &[(&Tensor, usize)]) -> Result<Tensor> {
        match rows.is_empty() {
            true => {
                let shape = [&[0], self.state()].concat();
                Ok(Tensor::zeros(shape, self.y.dtype(), self.y.device())?)
            }
            false => kernels::gather_rows(rows),
        }
    }
}

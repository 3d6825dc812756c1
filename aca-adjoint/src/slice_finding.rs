//! What a replayed step tells beside its gradient, on slices.

use aca_core::Result;
use aca_core::kernels::{self, Element, View};
use smallvec::SmallVec;

use crate::finding::Known;
use crate::report::RowFinding;
use crate::slice_pull::Pull;
use crate::slice_replay::{Buffers, row};

/// One finding a row.
pub(crate) type Found = SmallVec<[RowFinding; 1]>;

impl<T: Element> Buffers<'_, T> {
    /// As [`Replay::find`](crate::replay::Replay::find), for one row or many.
    pub(crate) fn find(
        &mut self,
        pull: &Pull<'_, T>,
        start: &[T],
        known: &Known<'_>,
    ) -> Result<Found> {
        let (size, rows) = (pull.size(), pull.rows());
        let length = size / rows;
        let mut found = Found::from_elem(RowFinding::default(), rows);
        if let Some(y1) = known.y1 {
            let y1 = y1.contiguous()?;
            let view = View::new(&y1)?;
            self.compare(pull, view.slice()?, &mut found);
        }
        // The cotangents that arrive: those of the end and of all outputs.
        let arriving = &mut self.scratch[..size];
        arriving.copy_from_slice(pull.a);
        for (row, g) in pull.outputs() {
            let own = &mut arriving[row * length..][..length];
            own.iter_mut().zip(g).for_each(|(a, g)| *a += *g);
            let y0 = &pull.y0[row * length..][..length];
            found[row].weight += norm(g) * norm(y0);
        }
        let weights = pull.method.error_weights();
        for (r, found) in found.iter_mut().enumerate() {
            let (t0, t1) = pull.ends(r);
            let own = r * length..(r + 1) * length;
            let terms = weights.iter().enumerate().filter(|(_, w)| **w != 0.0);
            let terms = terms
                .map(|(i, w)| (T::from_f64((t1 - t0) * w), &row(&self.k, i, size)[own.clone()]));
            let terms: SmallVec<[_; 16]> = terms.collect();
            found.error = kernels::dot_with_sum_slices(&self.scratch[own.clone()], &terms);
            found.arriving = norm(&self.scratch[own.clone()]);
            found.leaving = norm(&start[own]);
        }
        Ok(found)
    }

    /// Compares the replayed ends with those that ran.
    fn compare(&mut self, pull: &Pull<'_, T>, y1: &[T], found: &mut Found) {
        let size = pull.size();
        let end = match pull.method.fsal_stage() {
            Some(i) if i < pull.count => row(&self.states, i, size),
            _ => {
                let b = pull.method.tableau().b();
                pull.step.write_state(&mut self.scratch[..size], pull.y0, b, &self.k);
                &self.scratch[..size]
            }
        };
        if *end == *y1 {
            return;
        }
        let length = size / found.len();
        for (row, found) in found.iter_mut().enumerate() {
            let own = row * length..(row + 1) * length;
            let (end, y1) = (&end[own.clone()], &y1[own]);
            if end != y1 {
                let off = end.iter().zip(y1).map(|(a, b)| (a.to_f64() - b.to_f64()).powi(2));
                found.off = off.sum::<f64>().sqrt() / norm(end).max(norm(y1));
            }
        }
    }
}

fn norm<T: Element>(x: &[T]) -> f64 {
    kernels::dot_slices(x, x).sqrt()
}

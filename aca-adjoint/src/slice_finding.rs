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
    // Out of line, since inlined it takes registers away from the replay around it.
    #[inline(never)]
    pub(crate) fn find(
        &mut self,
        pull: &Pull<'_, T>,
        start: &[T],
        known: &Known<'_>,
    ) -> Result<Found> {
        let (size, rows) = (pull.size(), pull.rows());
        let mut found = Found::from_elem(RowFinding::default(), rows);
        if let Some(y1) = known.y1 {
            let y1 = y1.contiguous()?;
            let view = View::new(&y1)?;
            self.compare(pull, view.slice()?, known.window, &mut found);
        }
        self.arrive(pull, &mut found);
        let mut terms = SmallVec::<[(T, &[T]); 16]>::new();
        for (i, w) in pull.method.error_weights().iter().enumerate() {
            if *w != 0.0 {
                terms.push((T::from_f64(*w), row(&self.k, i, size)));
            }
        }
        let products = kernels::products_slices(rows, &self.scratch[..size], start, &terms);
        for (found, products) in found.iter_mut().zip(products) {
            found.products = products;
        }
        Self::weigh(pull, &mut found);
        Ok(found)
    }

    /// Adds up the cotangents that arrive at the ends, those of all outputs included, and their norms.
    fn arrive(&mut self, pull: &Pull<'_, T>, found: &mut Found) {
        let size = pull.size();
        let length = size / found.len();
        let arriving = &mut self.scratch[..size];
        arriving.copy_from_slice(pull.a);
        for (row, g) in pull.outputs() {
            let own = &mut arriving[row * length..][..length];
            own.iter_mut().zip(g).for_each(|(a, g)| *a += *g);
            found[row].outputs += norm(g);
        }
    }

    /// Bounds what arrived by the norms of its parts, which cannot cancel, and looks at the sizes of states.
    fn weigh(pull: &Pull<'_, T>, found: &mut Found) {
        let length = pull.size() / found.len();
        for (row, found) in found.iter_mut().enumerate() {
            let own = row * length..(row + 1) * length;
            if found.outputs > 0.0 {
                found.products.arriving = (norm(&pull.a[own.clone()]) + found.outputs).powi(2);
            }
            found.size = norm(&pull.y0[own]);
        }
    }

    /// Compares replayed ends with those that ran: of all numbers those in the `window`, which moves on from step to step.
    fn compare(&self, pull: &Pull<'_, T>, y1: &[T], window: usize, found: &mut Found) {
        let (size, rows) = (pull.size(), found.len());
        let length = size / rows;
        // Whole rows, or a part of one that is longer than a window.
        let unit = if length > WINDOW { WINDOW } else { WINDOW / length * length };
        let first = window % size.div_ceil(unit) * unit;
        let own = first..(first + unit).min(size);
        let mut terms = SmallVec::<[(f64, &[T]); 16]>::new();
        for (i, b) in pull.method.tableau().b().iter().enumerate() {
            if *b != 0.0 {
                terms.push((*b, &self.k[i * size..][..size][own.clone()]));
            }
        }
        let (mut end, y0, y1) = ([T::zero(); WINDOW], &pull.y0[own.clone()], &y1[own.clone()]);
        let end = &mut end[..y1.len()];
        pull.write_part(end, own.clone(), y0, &terms);
        if *end == *y1 {
            return;
        }
        for (row, found) in found.iter_mut().enumerate() {
            let part = (row * length).max(own.start)..((row + 1) * length).min(own.end);
            if part.start < part.end {
                let part = part.start - own.start..part.end - own.start;
                let (end, y1, y0) = (&end[part.clone()], &y1[part.clone()], &y0[part]);
                let off = end.iter().zip(y1).map(|(a, b)| (a.to_f64() - b.to_f64()).powi(2));
                let off = off.sum::<f64>().sqrt();
                found.off =
                    if off == 0.0 { 0.0 } else { off / norm(end).max(norm(y1)).max(norm(y0)) };
            }
        }
    }
}

/// Numbers that a step compares.
const WINDOW: usize = 64;

fn norm<T: Element>(x: &[T]) -> f64 {
    kernels::dot_slices(x, x).sqrt()
}

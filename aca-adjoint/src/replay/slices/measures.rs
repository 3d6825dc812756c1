//! What a step on slices tells beside its gradient.

use aca_core::Result;
use aca_core::kernels::{self, Element, View};
use smallvec::SmallVec;

use super::{Entering, OnSlices, Terms, row};
use crate::outputs::RowOutput;
use crate::replay::{Found, Known, RowTimes, Times};
use crate::report::RowFinding;

/// Numbers of a state that a step compares with those that ran.
const WINDOW: usize = 64;

impl<T: Element> OnSlices<'_, T> {
    /// Compares the replayed ends with those that ran, and measures cotangents and error estimates. What is found of
    /// rows that rest means nothing.
    // Out of line, since inlined it takes registers away from the replay around it.
    #[inline(never)]
    pub(super) fn find(
        &mut self,
        entering: &Entering<'_, T>,
        start: &[T],
        known: &Known<'_>,
    ) -> Result<Found> {
        let (size, rows) = (entering.size(), entering.steps.rows());
        let length = entering.length();
        let mut found = Found::from_elem(RowFinding::default(), rows);
        let mut off = SmallVec::<[f64; 1]>::from_elem(0.0, rows);
        if let Some(y1) = known.y1 {
            let y1 = y1.contiguous()?;
            let (view, mut terms) = (View::new(&y1)?, Terms::new());
            for (i, b) in entering.method.b().iter().enumerate() {
                if *b != 0.0 {
                    terms.push((*b, row(&self.k, i, size)));
                }
            }
            let (ends, h) = ((view.slice()?, entering.y0), entering.steps.h());
            kernels::differences_slices::<T, WINDOW>(&mut off, ends, h, &terms, known.window);
        }
        let arriving = &mut self.scratch[..size];
        arriving.copy_from_slice(entering.a);
        for output in entering.inside {
            let (g, own) =
                (entering.output(output), &mut arriving[output.row * length..][..length]);
            own.iter_mut().zip(g).for_each(|(a, g)| *a += *g);
            found[output.row].outputs += norm(g);
        }
        let ends = [&self.scratch[..size], start, entering.y0];
        let weights = entering.method.error_weights();
        let products = kernels::products_slopes(rows, ends, weights, &self.k);
        for (i, (found, products)) in found.iter_mut().zip(products).enumerate() {
            (found.products, found.off) = (products, off[i]);
            if found.outputs > 0.0 {
                // What arrived is bounded by the norms of its parts, which cannot cancel.
                let a = norm(row(entering.a, i, length));
                found.products.arriving = (a + found.outputs).powi(2);
            }
        }
        Ok(found)
    }

    /// How every row's contribution moves with times: the sums of [`super::tensors`], on slices.
    pub(super) fn times(&mut self, entering: &Entering<'_, T>) -> Times {
        let (method, size, length) = (entering.method, entering.size(), entering.length());
        let rows = entering.steps.rows();
        let mut times = Times { rows: vec![RowTimes::default(); rows], ..Times::default() };
        let (k, sum) = (&self.k, &mut self.scratch[..size]);
        let mut add = |x: &[T], weights: &[f64], times: &mut Times| {
            kernels::combine_slopes(sum, None, &[1.0], weights, k);
            for (i, times) in times.rows.iter_mut().enumerate() {
                times.h += kernels::dot_slices(row(x, i, length), row(sum, i, length));
            }
        };
        add(entering.a, method.b(), &mut times);
        for i in (0..entering.count).filter(|i| self.reached[*i]) {
            add(row(&self.mu, i, size), method.a_row(i), &mut times);
            for (times, dt) in times.rows.iter_mut().zip(&self.dt[i * rows..]) {
                times.h += method.c(i) * dt;
                times.t0 += dt;
            }
        }
        // The product of an output's cotangent with weighted slopes of its row.
        let product = |output: &RowOutput, weights: &[f64]| -> f64 {
            let own = |i: usize| row(row(k, i, size), output.row, length);
            let slopes = weights.iter().enumerate().filter(|(_, w)| **w != 0.0);
            let g = entering.output(output);
            slopes.map(|(i, w)| w * kernels::dot_slices(g, own(i))).sum()
        };
        for output in entering.inside {
            let slope = product(output, &method.interpolant().derivative_weights(output.s));
            let value = product(output, &method.interpolant().weights(output.s));
            let row = &mut times.rows[output.row];
            row.h += value - output.s * slope;
            row.t0 -= slope;
            times.inside.push(slope);
        }
        times.before = entering.before.iter().map(|output| product(output, &[1.0])).collect();
        times
    }
}

fn norm<T: Element>(x: &[T]) -> f64 {
    kernels::dot_slices(x, x).sqrt()
}

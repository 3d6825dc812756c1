//! A step on slices that cotangents are to be pulled back through.

use std::ops::Range;

use aca_core::kernels::{self, Element, RowTerm};
use aca_core::{Method, RowSteps, SliceStep};

use crate::sample_replay::{RowOutput, looked_into};

/// Cotangents of outputs inside a step.
#[derive(Clone, Copy)]
pub(crate) enum Inside<'a, T> {
    /// Of the whole state, at fractions `s`, one after the other.
    Shared(&'a [f64], &'a [T]),
    /// Of rows, among those of all outputs of the solve.
    Each(&'a [RowOutput], &'a [T]),
}

impl<T> Inside<'_, T> {
    /// The fractions of the step.
    fn s(&self) -> impl Iterator<Item = f64> {
        let (shared, each): (&[f64], &[RowOutput]) = match self {
            Self::Shared(s, _) => (s, &[]),
            Self::Each(outputs, _) => (&[], outputs),
        };
        shared.iter().copied().chain(each.iter().map(|output| output.s))
    }
}

/// A step with its start, and the cotangents of its end and outputs.
pub(crate) struct Pull<'a, T> {
    pub(crate) method: &'a Method,
    pub(crate) step: SliceStep<'a>,
    /// What stands for it in the stages that only the interpolant needs.
    looked_into: Option<RowSteps>,
    pub(crate) y0: &'a [T],
    pub(crate) a: &'a [T],
    inside: Inside<'a, T>,
    /// Number of stages that anything depends on.
    pub(crate) count: usize,
    /// `b_i(s_m)`, the weights of one output after the other.
    weights: Vec<f64>,
}

impl<'a, T: Element> Pull<'a, T> {
    pub(crate) fn new(
        method: &'a Method,
        step: SliceStep<'a>,
        [y0, a]: [&'a [T]; 2],
        inside: Inside<'a, T>,
    ) -> Self {
        let outputs = inside.s().count();
        let count = method.stages_with_weight(outputs > 0);
        let mut weights = vec![0.0; outputs * count];
        for (weights, s) in weights.chunks_exact_mut(count).zip(inside.s()) {
            method.interpolant().weights_into(s, weights);
        }
        let looked_into = match (step, inside) {
            (SliceStep::Each(rows), Inside::Each(outputs, _)) if !outputs.is_empty() => {
                Some(looked_into(rows, outputs))
            }
            _ => None,
        };
        Self { method, step, looked_into, y0, a, inside, count, weights }
    }

    /// The step as stage `i` sees it.
    pub(crate) fn step_of(&self, i: usize) -> SliceStep<'_> {
        match &self.looked_into {
            Some(rows) if i >= self.method.tableau().stages() => SliceStep::Each(rows),
            _ => self.step,
        }
    }

    /// Where the step of every row starts.
    pub(crate) fn starts(&self) -> impl Iterator<Item = f64> {
        let rows = self.rows();
        (0..rows).map(|row| self.ends(row).0)
    }

    /// Whether every row's step ends where another step starts, at `t`, with the field the same on both sides; rows that
    /// rest do not matter.
    pub(crate) fn starts_at(&self, t: &[f64]) -> bool {
        let meets = |row: usize| {
            let (t0, t1) = self.ends(row);
            t0 == t1 || (t.get(row) == Some(&t1) && !self.method.is_jump(t1))
        };
        (0..self.rows()).all(meets)
    }

    /// Writes `y0 + h sum(w_i x_i)` of the numbers in `part`, whole rows where those have steps of their own.
    pub(crate) fn write_part(
        &self,
        out: &mut [T],
        part: Range<usize>,
        y0: &[T],
        terms: &[(f64, &[T])],
    ) {
        match self.step {
            SliceStep::Shared { .. } => self.step.write_sum(out, Some(y0), terms),
            SliceStep::Each(rows) => {
                let length = self.size() / rows.h().len();
                let h = &rows.h()[part.start / length..part.end / length];
                kernels::combine_slices_each(out, Some(y0), h, terms);
            }
        }
    }

    /// Number of rows with steps of their own.
    pub(crate) fn rows(&self) -> usize {
        match self.step {
            SliceStep::Shared { .. } => 1,
            SliceStep::Each(rows) => rows.h().len(),
        }
    }

    /// Where the step of a row starts and ends.
    pub(crate) fn ends(&self, row: usize) -> (f64, f64) {
        match self.step {
            SliceStep::Shared { t0, t1 } => (t0, t1),
            SliceStep::Each(rows) => rows.ends(row),
        }
    }

    /// The outputs inside, each with its row and its cotangent.
    pub(crate) fn outputs(&self) -> impl Iterator<Item = (usize, &'a [T])> {
        let length = self.size() / self.rows();
        let (shared, each): (&[T], &[RowOutput]) = match self.inside {
            Inside::Shared(_, cotangents) => (cotangents, &[]),
            Inside::Each(outputs, _) => (&[], outputs),
        };
        let all = match self.inside {
            Inside::Shared(_, cotangents) | Inside::Each(_, cotangents) => cotangents,
        };
        let shared = shared.chunks_exact(self.size()).map(|g| (0, g));
        shared.chain(each.iter().map(move |o| (o.row, &all[o.index * length..][..length])))
    }

    pub(crate) fn size(&self) -> usize {
        self.y0.len()
    }

    /// What every output weighs at stage `i`; `None` where none weighs anything.
    pub(crate) fn weights(&self, i: usize) -> Option<impl Iterator<Item = f64> + Clone> {
        let weights = self.weights.iter().skip(i).step_by(self.count).copied();
        weights.clone().any(|w| w != 0.0).then_some(weights)
    }

    /// The outputs' cotangents as weighted slices of the whole state.
    pub(crate) fn shared(
        &self,
        weights: impl Iterator<Item = f64>,
    ) -> impl Iterator<Item = (f64, &'a [T])> {
        let cotangents = match self.inside {
            Inside::Shared(_, cotangents) => cotangents,
            Inside::Each(..) => &[],
        };
        weights.zip(cotangents.chunks_exact(self.size()))
    }

    /// Adds the outputs' cotangents to the rows that they belong to, weighted by `weight(h, w)` with the rows'
    /// step sizes.
    pub(crate) fn add_each(
        &self,
        out: &mut [T],
        weights: impl Iterator<Item = f64>,
        weight: impl Fn(f64, f64) -> f64,
    ) {
        let Inside::Each(outputs, cotangents) = self.inside else { return };
        let SliceStep::Each(rows) = self.step else { return };
        let terms = outputs.iter().zip(weights).filter(|(_, w)| *w != 0.0).map(|(output, w)| {
            let RowOutput { row, index, .. } = *output;
            RowTerm { row, weight: weight(rows.h()[row], w), source: index }
        });
        kernels::add_slice_rows(out, rows.h().len(), terms, cotangents);
    }
}

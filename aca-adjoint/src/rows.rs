//! Cotangents of outputs, handed out step by step from the newest to the oldest.

use std::ops::Range;

use aca_core::{Result, kernels};
use aca_dense::Placement;
use candle_core::Tensor;

use crate::replay::Outputs;

/// The outputs of a solve that a backward pass has not met yet.
pub(crate) struct Rows<'a> {
    placements: &'a [Placement],
    cotangents: &'a Tensor,
    rest: usize,
}

/// The outputs of one step, as rows of the cotangents.
pub(crate) struct StepRows {
    /// The output at the step's end.
    pub(crate) end: Option<usize>,
    /// Those strictly inside.
    pub(crate) inside: Range<usize>,
    /// The output at the start of the span.
    pub(crate) start: Option<usize>,
}

impl<'a> Rows<'a> {
    pub(crate) fn new(placements: &'a [Placement], cotangents: &'a Tensor) -> Self {
        Self { placements, cotangents, rest: placements.len() }
    }

    /// Takes the outputs of step `index`; steps are asked for from the newest to the oldest.
    pub(crate) fn take(&mut self, index: usize) -> StepRows {
        let first =
            self.placements[..self.rest].partition_point(|placement| placement.step < index);
        let mut inside = first..self.rest;
        self.rest = first;
        let fraction = |m: usize| self.placements[m].s;
        let end = (!inside.is_empty() && fraction(inside.end - 1) == 1.0).then(|| inside.end - 1);
        inside.end = end.unwrap_or(inside.end);
        let start = (!inside.is_empty() && fraction(inside.start) == 0.0).then_some(inside.start);
        inside.start += usize::from(start.is_some());
        StepRows { end, inside, start }
    }

    /// The cotangent of output `m`.
    pub(crate) fn row(&self, m: usize) -> Result<Tensor> {
        Ok(self.cotangents.get(m)?)
    }

    /// The cotangents of outputs inside a step; `None` without any.
    pub(crate) fn outputs(&self, inside: Range<usize>) -> Result<Option<Outputs>> {
        if inside.is_empty() {
            return Ok(None);
        }
        let s = self.placements[inside.clone()].iter().map(|placement| placement.s).collect();
        Ok(Some(Outputs { s, cotangents: self.cotangents.narrow(0, inside.start, inside.len())? }))
    }

    /// Adds the cotangent of output `m`, if there is one, to `a`.
    pub(crate) fn add_to(&self, a: Tensor, m: Option<usize>) -> Result<Tensor> {
        match m {
            Some(m) => kernels::combine(Some(&a), &[(1.0, &self.row(m)?)]),
            None => Ok(a),
        }
    }

    /// As [`Rows::add_to`], where `None` stands for a zero `a`.
    pub(crate) fn add(&self, a: Option<Tensor>, m: Option<usize>) -> Result<Option<Tensor>> {
        match a {
            Some(a) => self.add_to(a, m).map(Some),
            None => m.map(|m| self.row(m)).transpose(),
        }
    }

    /// The sum of all cotangents that are left: those of a span without steps.
    pub(crate) fn sum(&self) -> Result<Option<Tensor>> {
        (0..self.rest).try_fold(None, |a, m| self.add(a, Some(m)))
    }
}

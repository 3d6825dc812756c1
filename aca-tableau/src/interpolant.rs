use std::borrow::Cow;
use std::ops::Mul;

use crate::tableau::{Coefficients, Tableau};
use crate::{InterpolantDraft, polynomial, triangle};

/// What a tableau declares of its interpolant: extra stages, and what it adds to the cubic Hermite.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InterpolantTable {
    pub(crate) order: usize,
    /// Extra rows of `a`, continuing the tableau's triangle.
    pub(crate) a: Coefficients,
    pub(crate) c: Coefficients,
    /// Level by level, one number per stage: the factors F3, F4, .. of the nested form.
    pub(crate) d: Coefficients,
}

/// The continuous solution inside one step: `y(t0 + s h) = y0 + h sum(b_i(s) k_i)`, s in [0, 1].
///
/// Every interpolant is continuously differentiable across steps, so its weights have the form
/// `Hermite_i(s) + s^2 (1 - s)^2 (d0_i + s (d1_i + (1 - s) (d2_i + s (d3_i + ..))))`, and are
/// evaluated as such: the ends are exact, where monomials of high degree would cancel.
///
/// # Source
/// The nested form is that of Hairer's codes DOPRI5 and DOP853.
#[derive(Clone, Debug, PartialEq)]
pub struct Interpolant {
    table: InterpolantTable,
    b: Coefficients,
    /// The stage that holds f(t0, y0).
    start_slope: usize,
    pub(crate) end_slope: usize,
}

impl Interpolant {
    pub(crate) fn of(tableau: &Tableau) -> Self {
        if tableau.diagonal(0) != 0.0 {
            // No stage of its own is f(t0, y0).
            return Self::hermite_with_ends(tableau.order, &tableau.b);
        }
        let table = tableau.interpolant.clone().unwrap_or_else(|| hermite(tableau));
        let end_slope = tableau.stages() - usize::from(tableau.is_fsal());
        Self { table, b: tableau.b.clone(), start_slope: 0, end_slope }
    }

    /// The cubic Hermite interpolant of a step `y1 = y0 + h sum(b_i k_i)` of any kind. Slope number `start` is the one
    /// at its start, slope number `end` the one at its end.
    ///
    /// # Panics
    /// If there are no such slopes.
    pub fn hermite(order: usize, b: &[f64], [start, end]: [usize; 2]) -> Self {
        assert!(start.max(end) < b.len(), "slopes at both ends");
        let none = || Cow::Borrowed(&[] as &[f64]);
        let table = InterpolantTable { order: order.min(3), a: none(), c: none(), d: none() };
        Self { table, b: b.to_vec().into(), start_slope: start, end_slope: end }
    }

    /// The cubic Hermite interpolant of a step `y1 = y0 + h sum(b_i k_i)` of any kind, with two extra stages: f(t0, y0)
    /// and f(t1, y1).
    pub fn hermite_with_ends(order: usize, b: &[f64]) -> Self {
        let a = [&vec![0.0; b.len()][..], b, &[0.0]].concat();
        let (c, d) = (vec![0.0, 1.0].into(), Cow::Borrowed(&[] as &[f64]));
        let table = InterpolantTable { order: order.min(3), a: a.into(), c, d };
        Self { table, b: b.to_vec().into(), start_slope: b.len(), end_slope: b.len() + 1 }
    }

    /// The order of the continuous solution at every s.
    pub fn order(&self) -> usize {
        self.table.order
    }

    /// The number of stages that it reads: those of the tableau, then the extra ones.
    #[inline]
    pub fn stages(&self) -> usize {
        self.b.len() + self.extra_stages()
    }

    /// The number of evaluations of f beyond those of the step itself.
    #[inline]
    pub fn extra_stages(&self) -> usize {
        self.table.c.len()
    }

    /// The row of `a` of extra stage `extra`, counted from 0: one weight for each stage before.
    #[inline]
    pub fn a_row(&self, extra: usize) -> &[f64] {
        let row = self.b.len() + extra;
        &self.table.a[triangle::size(row) - triangle::size(self.b.len())..][..row]
    }

    /// The time of extra stage `extra` as a fraction of the step.
    #[inline]
    pub fn c(&self, extra: usize) -> f64 {
        self.table.c[extra]
    }

    /// Degree of the polynomials b_i(s): three for the cubic Hermite, one more for each bubble on top of it.
    #[inline]
    pub fn degree(&self) -> usize {
        3 + self.levels().len()
    }

    /// Whether the first extra stage is f(t1, y1), which is also the first stage of the next step.
    #[inline]
    pub fn first_extra_is_end_slope(&self) -> bool {
        self.end_slope == self.b.len()
    }

    /// Writes b_i(s), one per stage; allocates nothing.
    ///
    /// # Panics
    /// If `out` has not [`stages`](Self::stages) entries.
    #[inline]
    pub fn weights_into(&self, s: f64, out: &mut [f64]) {
        self.combine(s, |dual| dual.value, out);
    }

    /// b_i(s), one per stage.
    pub fn weights(&self, s: f64) -> Vec<f64> {
        let mut out = vec![0.0; self.stages()];
        self.weights_into(s, &mut out);
        out
    }

    /// b_i'(s), one per stage: `y'(t0 + s h) = sum(b_i'(s) k_i)`.
    pub fn derivative_weights(&self, s: f64) -> Vec<f64> {
        let mut out = vec![0.0; self.stages()];
        self.combine(s, |dual| dual.slope, &mut out);
        out
    }

    /// Weights `w_i` of the method's own slopes that estimate the error of the interpolant inside a step, `h sum(w_i k_i)`:
    /// what its highest order adds where that is largest. Beyond the cubic Hermite that is the bubble at s = 1/2; the cubic
    /// itself is compared with the parabola through both ends and the slope at the start, at s = 2/3. `None` where slopes
    /// beyond the method's own are read, which are not there while a step is judged.
    pub fn error_weights(&self) -> Option<Vec<f64>> {
        if self.extra_stages() > 0 {
            return None;
        }
        let last = self.levels().next_back();
        if let Some(last) = last {
            return Some(last.iter().map(|d| d / 16.0).collect());
        }
        let mut weights: Vec<f64> = self.b.iter().map(|b| 8.0 / 27.0 * b).collect();
        weights[self.start_slope] -= 4.0 / 27.0;
        weights[self.end_slope] -= 4.0 / 27.0;
        Some(weights)
    }

    /// The coefficients of s^1, s^2, .. of b_i(s) of one stage.
    pub fn coefficients(&self, stage: usize) -> Vec<f64> {
        let b = self.b.get(stage).copied().unwrap_or(0.0);
        let start = f64::from(u8::from(stage == self.start_slope));
        let finish = f64::from(u8::from(stage == self.end_slope));
        let mut nested = vec![b, start - b, 2.0 * b - start - finish];
        nested.extend(self.levels().map(|d| d[stage]));
        polynomial::expand(&nested)
    }

    pub(crate) fn extra_rows(&self) -> &[f64] {
        &self.table.a
    }

    pub(crate) fn to_draft(&self) -> InterpolantDraft {
        InterpolantDraft {
            order: self.order(),
            a: (0..self.extra_stages()).map(|extra| self.a_row(extra).to_vec()).collect(),
            c: self.table.c.to_vec(),
            weights: (0..self.stages()).map(|stage| self.coefficients(stage)).collect(),
        }
    }

    /// The factors of the bubbles s^2 (1 - s)^2, s^3 (1 - s)^2, s^3 (1 - s)^3, ..
    #[inline]
    pub(crate) fn levels(&self) -> std::slice::ChunksExact<'_, f64> {
        self.table.d.chunks_exact(self.stages())
    }

    /// Sums the basis polynomials, or their slopes: one formula serves values and derivatives.
    #[inline]
    fn combine(&self, s: f64, pick: fn(Dual) -> f64, out: &mut [f64]) {
        assert_eq!(out.len(), self.stages(), "one weight for each stage");
        let (s, r) = (Dual { value: s, slope: 1.0 }, Dual { value: 1.0 - s, slope: -1.0 });
        let rise = s * s * Dual { value: 1.0 + 2.0 * r.value, slope: -2.0 };
        let (from_b, extra) = out.split_at_mut(self.b.len());
        from_b.iter_mut().zip(self.b.iter()).for_each(|(out, b)| *out = pick(rise) * b);
        extra.fill(0.0);
        out[self.start_slope] += pick(s * r * r);
        out[self.end_slope] -= pick(s * s * r);

        let mut bubble = s * s * r * r;
        for (level, d) in self.levels().enumerate() {
            let height = pick(bubble);
            out.iter_mut().zip(d).for_each(|(out, d)| *out += height * d);
            bubble = bubble * if level % 2 == 0 { s } else { r };
        }
    }
}

/// The stage that holds f(t1, y1), the last one or the first extra one, if there is such a stage.
pub(crate) fn end_slope(tableau: &Tableau, extra_a: &[f64], extra_c: &[f64]) -> Option<usize> {
    if tableau.is_fsal() {
        return Some(tableau.stages() - 1);
    }
    let found = extra_c.first() == Some(&1.0) && extra_a.starts_with(tableau.b());
    found.then_some(tableau.stages())
}

fn hermite(tableau: &Tableau) -> InterpolantTable {
    let (a, c) = match tableau.is_fsal() {
        true => (Cow::Borrowed(&[] as &[f64]), Cow::Borrowed(&[] as &[f64])),
        false => (tableau.b.clone(), Cow::Borrowed(&[1.0] as &[f64])),
    };
    InterpolantTable { order: tableau.order.min(3), a, c, d: Cow::Borrowed(&[]) }
}

/// A value and its derivative with respect to s.
#[derive(Clone, Copy)]
struct Dual {
    value: f64,
    slope: f64,
}

impl Mul for Dual {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        let slope = self.slope * other.value + self.value * other.slope;
        Self { value: self.value * other.value, slope }
    }
}

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
/// Every interpolant but those [through states](Self::through_states) is continuously differentiable across steps, so its
/// weights have the form `Hermite_i(s) + s^2 (1 - s)^2 (d0_i + s (d1_i + (1 - s) (d2_i + s (d3_i + ..))))`, and are
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
    /// Slopes at the ends that are sums of those of stages, where no stage holds them.
    sums: Option<Sums>,
}

/// The slopes at the ends of a step as weighted sums of those of stages.
#[derive(Clone, Debug, PartialEq)]
struct Sums {
    start: Vec<f64>,
    end: Vec<f64>,
    /// Weights of the estimate of the error inside a step.
    error: Vec<f64>,
}

impl Interpolant {
    pub(crate) fn of(tableau: &Tableau) -> Self {
        if tableau.diagonal(0) != 0.0 {
            // No stage of its own is f(t0, y0).
            return Self::hermite_with_ends(tableau.order, &tableau.b);
        }
        let table = tableau.interpolant.clone().unwrap_or_else(|| hermite(tableau));
        let end_slope = tableau.stages() - usize::from(tableau.is_fsal());
        Self { table, b: tableau.b.clone(), start_slope: 0, end_slope, sums: None }
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
        Self { table, b: b.to_vec().into(), start_slope: start, end_slope: end, sums: None }
    }

    /// The cubic Hermite interpolant of a step `y1 = y0 + h sum(b_i k_i)` of any kind, with two extra stages: f(t0, y0)
    /// and f(t1, y1).
    pub fn hermite_with_ends(order: usize, b: &[f64]) -> Self {
        let a = [&vec![0.0; b.len()][..], b, &[0.0]].concat();
        let (c, d) = (vec![0.0, 1.0].into(), Cow::Borrowed(&[] as &[f64]));
        let table = InterpolantTable { order: order.min(3), a: a.into(), c, d };
        let (b, start_slope) = (Cow::Owned(b.to_vec()), b.len());
        Self { table, b, start_slope, end_slope: start_slope + 1, sums: None }
    }

    /// The polynomial through both ends of a step `y1 = y0 + h sum(b_i k_i)` and the states of one or two stages inside, of
    /// which each has its node, its weights of slopes, and those of the field's slope there. The slopes at the ends of a stiff
    /// step tell how far the state is from where fast modes rest, and not where the solution goes; the states of implicit
    /// stages lie on its way.
    ///
    /// Its error is estimated by how far the field's slope at the last of the states is from its own.
    ///
    /// # Panics
    /// For other numbers of states, nodes that are not inside, or lists of other lengths than `b`.
    pub fn through_states(order: usize, b: &[f64], states: &[(f64, Vec<f64>, Vec<f64>)]) -> Self {
        assert!((1..=2).contains(&states.len()), "one or two states");
        let inside = states.iter().map(|(c, weights, _)| (*c, &weights[..]));
        let nodes: Vec<(f64, &[f64])> = inside.chain([(1.0, b)]).collect();
        assert!(nodes.iter().all(|(c, w)| *c > 0.0 && *c <= 1.0 && w.len() == b.len()), "states");
        // The derivative at `s` of the polynomial that is 1 at node `n` and 0 at the others and at the start.
        let rise = |n: usize, s: f64| -> f64 {
            let own = nodes[n].0;
            let others: Vec<f64> = std::iter::once(0.0)
                .chain(nodes.iter().enumerate().filter(|(m, _)| *m != n).map(|(_, node)| node.0))
                .collect();
            let without = |left: usize| -> f64 {
                let kept = others.iter().enumerate().filter(|(m, _)| *m != left);
                kept.map(|(_, other)| s - other).product()
            };
            let slope: f64 = (0..others.len()).map(without).sum();
            slope / others.iter().map(|other| own - other).product::<f64>()
        };
        let slope = |s: f64| -> Vec<f64> {
            let of = |i: usize| (0..nodes.len()).map(|n| rise(n, s) * nodes[n].1[i]).sum();
            (0..b.len()).map(of).collect()
        };
        let (last, field) = (states[states.len() - 1].0, &states[states.len() - 1].2);
        // The error has the form of the polynomial of all nodes: its largest value beside its slope at the last state.
        let omega = |s: f64| s * nodes.iter().map(|node| s - node.0).product::<f64>();
        let others = nodes.iter().filter(|node| node.0 != last);
        let own = last * others.map(|node| last - node.0).product::<f64>();
        let largest = (1..100).map(|i| omega(f64::from(i) / 100.0).abs()).fold(0.0, f64::max);
        let own_slope = slope(last);
        let error = own_slope.iter().zip(field).map(|(p, k)| (p - k) * largest / own.abs());
        let sums = Sums { start: slope(0.0), end: slope(1.0), error: error.collect() };
        let none = || Cow::Borrowed(&[] as &[f64]);
        let table = InterpolantTable { order: order.min(3), a: none(), c: none(), d: none() };
        let (b, sums) = (b.to_vec().into(), Some(sums));
        Self { table, b, start_slope: usize::MAX, end_slope: usize::MAX, sums }
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

    /// Whether it is one [through states](Self::through_states).
    pub fn goes_through_states(&self) -> bool {
        self.sums.is_some()
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
        if let Some(sums) = &self.sums {
            return Some(sums.error.clone());
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
        let (start, finish) = match &self.sums {
            Some(sums) => (sums.start[stage], sums.end[stage]),
            None => (
                f64::from(u8::from(stage == self.start_slope)),
                f64::from(u8::from(stage == self.end_slope)),
            ),
        };
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
        let (first, last) = (pick(s * r * r), pick(s * s * r));
        match &self.sums {
            None => {
                out[self.start_slope] += first;
                out[self.end_slope] -= last;
            }
            Some(Sums { start, end, .. }) => {
                let ends = start.iter().zip(end);
                out.iter_mut().zip(ends).for_each(|(out, (p, q))| *out += first * p - last * q);
            }
        }

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

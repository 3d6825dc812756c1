//! How large a step a method may take before it amplifies what the problem itself would damp.

use crate::{Interpolant, Tableau};

/// How far the stability region `|R(z)| <= 1` reaches along the axes from `z = h lambda = 0`, where
/// `R(z) = 1 + z b^T (I - z A)^-1 e` is the growth of `y' = lambda y` in one step.
///
/// # Source
/// Hairer, Wanner, "Solving Ordinary Differential Equations II", IV.2.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StabilityInterval {
    /// Length on the negative real axis: a decay of rate `r` is damped by steps up to `real / r`.
    pub real: f64,
    /// Length on the imaginary axis; 0 for methods that amplify every undamped oscillation.
    pub imaginary: f64,
}

/// A combination of stages on which a method and its field show the field's Jacobian `J`.
///
/// Let `D` take a difference of stages whose smooth part cancels. Then the slopes' difference is `J`
/// times the states', to leading order, so `|sum(slopes_i k_i)| / |sum(states_i k_i)|` is `h` times the
/// magnitude of the eigenvalue of `J` that dominates there: the stiffest one, once the step is near
/// its stability limit.
///
/// # Source
/// Two stages at one time: Shampine and Hiebert, "Detecting stiffness with the Fehlberg (4, 5)
/// formulas", 1977, and Hairer's DOPRI5 and DOP853 (Hairer, Wanner II, IV.2). The divided difference
/// for methods without such a pair is ours.
#[derive(Clone, Debug, PartialEq)]
pub struct StageDifference {
    /// Weights of the stages' slopes `k_i`.
    pub slopes: Vec<f64>,
    /// Weights of the same slopes in the difference of the stages' states, divided by `h`.
    pub states: Vec<f64>,
}

impl Tableau {
    /// Returns how far the stability region reaches along the real and the imaginary axis.
    ///
    /// # Cost
    /// Some thousand multiplications: ask once, not once a step; [`Tableau::real_stability`] is half of it.
    ///
    /// # Example
    /// ```
    /// let interval = aca_tableau::RK4.stability_interval();
    /// assert!((interval.real - 2.785).abs() < 1e-3 && (interval.imaginary - 2.828).abs() < 1e-3);
    /// ```
    pub fn stability_interval(&self) -> StabilityInterval {
        let polynomial = self.stability_polynomial();
        let on_imaginary = |y: f64| {
            let times_iy = |(re, im): (f64, f64)| (-im * y, re * y);
            let (re, im) = polynomial.iter().rev().fold((0.0, 0.0), |sum, coefficient| {
                let (re, im) = times_iy(sum);
                (re + coefficient, im)
            });
            re.hypot(im)
        };
        StabilityInterval { real: self.real_stability(), imaginary: first_crossing(on_imaginary) }
    }

    /// Returns how far the stability region reaches along the negative real axis.
    pub fn real_stability(&self) -> f64 {
        let polynomial = self.stability_polynomial();
        first_crossing(|x: f64| {
            polynomial.iter().rev().fold(0.0, |sum, coefficient| sum * -x + coefficient).abs()
        })
    }

    /// The coefficients of `R(z) = 1 + sum_k z^k b^T A^(k-1) e`, constant first.
    fn stability_polynomial(&self) -> Vec<f64> {
        let stages = self.stages();
        let mut powers = vec![1.0; stages];
        let mut polynomial = vec![1.0];
        for _ in 0..stages {
            polynomial.push(dot(self.b(), &powers));
            powers = (0..stages).map(|i| dot(self.a_row(i), &powers)).collect();
        }
        polynomial
    }

    /// Returns the difference of stages from which a step's distance from its stability limit is
    /// estimated, over the tableau's stages and `f(t1, y1)`; `None` where the tableau has none.
    ///
    /// It is that of the last two stages at one time whose states differ, else the divided difference
    /// of the last four times.
    pub fn stage_difference(&self) -> Option<StageDifference> {
        let rows = self.rows_with_end();
        let pair = (0..rows.len()).rev().find_map(|last| {
            let (c, row) = &rows[last];
            let twin = |first: &usize| rows[*first].0 == *c && rows[*first].1 != *row;
            (0..last).rev().find(twin).map(|first| vec![(first, -1.0), (last, 1.0)])
        });
        let weights = pair.or_else(|| divided_difference(&rows))?;
        let mut difference =
            StageDifference { slopes: vec![0.0; rows.len()], states: vec![0.0; rows.len()] };
        for (stage, weight) in weights {
            difference.slopes[stage] += weight;
            for (sum, a) in difference.states.iter_mut().zip(&rows[stage].1) {
                *sum += weight * a;
            }
        }
        difference.states.iter().any(|w| *w != 0.0).then_some(difference)
    }

    /// Time and row of `a` of every stage, `f(t1, y1)` last: the row of that one is `b`.
    fn rows_with_end(&self) -> Vec<(f64, Vec<f64>)> {
        let stages = self.stages();
        let mut rows: Vec<_> = (0..stages).map(|i| (self.c()[i], self.a_row(i).to_vec())).collect();
        if !self.is_fsal() {
            rows.push((1.0, self.b().to_vec()));
        }
        rows
    }
}

impl Interpolant {
    /// The stage that holds `f(t1, y1)`: the tableau's last if it is FSAL, else the first extra one.
    pub fn end_stage(&self) -> usize {
        self.end_slope
    }
}

/// The weights of the divided difference of the last stages at distinct times, up to four of them:
/// polynomials in time of lower degree cancel. Three at least, so that a constant slope does.
fn divided_difference(rows: &[(f64, Vec<f64>)]) -> Option<Vec<(usize, f64)>> {
    let mut nodes: Vec<(usize, f64)> = Vec::new();
    for (stage, (c, _)) in rows.iter().enumerate().rev() {
        if nodes.len() < 4 && nodes.iter().all(|(_, other)| other != c) {
            nodes.push((stage, *c));
        }
    }
    let weight = |(stage, c): &(usize, f64)| {
        let others = nodes.iter().filter(|(other, _)| other != stage);
        (*stage, others.map(|(_, other)| 1.0 / (c - other)).product())
    };
    (nodes.len() >= 3).then(|| nodes.iter().map(weight).collect())
}

/// Returns the first `x > 0` at which `growth` exceeds 1, beyond rounding; the search ends at 200.
fn first_crossing(growth: impl Fn(f64) -> f64) -> f64 {
    const STEP: f64 = 1.0 / 64.0;
    // R is within rounding of 1 near 0, and of order p only beyond: it must leave by more than that.
    let leaves = |x: f64| growth(x) > 1.0 + 1e-10;
    let mut low = 0.0;
    while low < 200.0 && !leaves(low + STEP) {
        low += STEP;
    }
    let mut high = low + STEP;
    for _ in 0..50 {
        let middle = 0.5 * (low + high);
        if leaves(middle) { high = middle } else { low = middle }
    }
    // Methods whose |R(iy)| leaves at once do so as a power of y, which rounding hides up to about here.
    if low < 0.1 { 0.0 } else { low }
}

fn dot(weights: &[f64], x: &[f64]) -> f64 {
    weights.iter().zip(x).map(|(w, x)| w * x).sum()
}

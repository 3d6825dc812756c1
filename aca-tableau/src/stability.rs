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
    /// Length on the imaginary axis; 0 for methods that amplify all undamped oscillations.
    pub imaginary: f64,
}

/// A combination of stages from which the field's Jacobian `J` can be estimated.
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

/// How a method damps modes that are much faster than its steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FarStability {
    /// Whether it damps every decaying mode, at any step size: `|R(z)| <= 1` in the left half-plane.
    pub is_a_stable: bool,
    /// `|R|` at infinity: what is left after one step of the fastest decays.
    pub at_infinity: f64,
}

impl FarStability {
    /// Whether the method is A-stable and damps the fastest decays completely.
    pub fn is_l_stable(&self) -> bool {
        self.is_a_stable && self.at_infinity < 1e-10
    }
}

/// A complex number.
#[derive(Clone, Copy)]
struct Complex(f64, f64);

impl Complex {
    fn times(self, Self(c, d): Self) -> Self {
        let Self(a, b) = self;
        Self(a * c - b * d, a * d + b * c)
    }

    /// The quotient, by Smith's algorithm, which does not overflow before its result does.
    fn over(self, Self(c, d): Self) -> Self {
        let Self(a, b) = self;
        if c.abs() >= d.abs() {
            let (r, size) = (d / c, c + d * (d / c));
            Self((a + b * r) / size, (b - a * r) / size)
        } else {
            let (r, size) = (c / d, c * (c / d) + d);
            Self((a * r + b) / size, (b * r - a) / size)
        }
    }
}

fn sum(weights: &[f64], x: &[Complex]) -> Complex {
    let terms = weights.iter().zip(x);
    terms.fold(Complex(0.0, 0.0), |sum, (w, x)| Complex(sum.0 + w * x.0, sum.1 + w * x.1))
}

impl Tableau {
    /// Returns how far the stability region reaches along the real and the imaginary axis.
    ///
    /// # Cost
    /// Some ten thousand multiplications, for an implicit method a million: call it once, not in every step.
    /// [`Tableau::real_stability`] costs half of it.
    ///
    /// # Example
    /// ```
    /// let interval = aca_tableau::RK4.stability_interval();
    /// assert!((interval.real - 2.785).abs() < 1e-3 && (interval.imaginary - 2.828).abs() < 1e-3);
    /// ```
    pub fn stability_interval(&self) -> StabilityInterval {
        let polynomial = self.stability_polynomial();
        let imaginary = first_crossing(|y| match &polynomial {
            Some(polynomial) => {
                let z = Complex(0.0, y);
                let sum = polynomial.iter().rev().fold(Complex(0.0, 0.0), |sum, coefficient| {
                    let Complex(re, im) = sum.times(z);
                    Complex(re + coefficient, im)
                });
                sum.0.hypot(sum.1)
            }
            None => self.growth(self.b(), Complex(0.0, y)),
        });
        StabilityInterval { real: self.real_stability(), imaginary }
    }

    /// Returns how far the stability region reaches along the negative real axis, which may be infinity.
    pub fn real_stability(&self) -> f64 {
        match self.stability_polynomial() {
            Some(polynomial) => first_crossing(|x: f64| {
                polynomial.iter().rev().fold(0.0, |sum, coefficient| sum * -x + coefficient).abs()
            }),
            None => first_crossing(|x| self.growth(self.b(), Complex(-x, 0.0))),
        }
    }

    /// The coefficients of `R(z) = 1 + sum_k z^k b^T A^(k-1) e`, constant first, of an explicit method.
    fn stability_polynomial(&self) -> Option<Vec<f64>> {
        let stages = self.stages();
        let mut powers = vec![1.0; stages];
        let mut polynomial = vec![1.0];
        for _ in (0..stages).filter(|_| !self.is_implicit()) {
            polynomial.push(dot(self.b(), &powers));
            powers = (0..stages).map(|i| dot(self.a_row(i), &powers)).collect();
        }
        (!self.is_implicit()).then_some(polynomial)
    }

    /// The stability of the method for arbitrarily fast modes. An explicit method is never stable there: its stability
    /// function is a polynomial.
    ///
    /// # Source
    /// Hairer, Wanner II, IV.3.
    ///
    /// # Example
    /// ```
    /// let far = aca_tableau::KVAERNO5.far_stability();
    /// assert!(far.is_a_stable && far.is_l_stable());
    /// assert!(!aca_tableau::TRAPEZOID.far_stability().is_l_stable());
    /// ```
    pub fn far_stability(&self) -> FarStability {
        self.far_stability_of(self.b())
    }

    /// The same for other weights on these stages, such as those of an embedded solution.
    pub fn far_stability_of(&self, weights: &[f64]) -> FarStability {
        let at_infinity = self.growth_at_infinity(weights);
        // By the maximum principle `|R|` is largest on the imaginary axis, as poles lie right of it.
        let axis = (-400..=1200).map(|i| 10f64.powf(f64::from(i) / 100.0));
        let bounded = axis.map(|y| self.growth(weights, Complex(0.0, y))).all(|r| r <= 1.0 + 1e-9);
        let poles = self.diagonal.iter().all(|a| *a >= 0.0);
        FarStability { is_a_stable: bounded && poles && at_infinity <= 1.0 + 1e-9, at_infinity }
    }

    /// The largest `q` up to which every stage integrates powers below exactly, `sum_j a_ij c_j^(q-1) = c_i^q / q`: with
    /// stiff problems the order that can be relied on is `q`, or a little more.
    ///
    /// # Source
    /// Hairer, Wanner II, IV.15 (B-convergence) and IV.5, condition C(q).
    pub fn stage_order(&self) -> usize {
        let holds = |q: usize| {
            (0..self.stages()).all(|i| {
                let own = (self.diagonal(i), self.c()[i]);
                let terms = self.a_row(i).iter().copied().zip(self.c().iter().copied());
                let sum: f64 = terms.chain([own]).map(|(a, c)| a * c.powi(q as i32 - 1)).sum();
                (sum - self.c()[i].powi(q as i32) / q as f64).abs() < 1e-12
            })
        };
        (1..=self.order()).take_while(|&q| holds(q)).count()
    }

    /// `|R|` at infinity, from the stages' leading terms `z x_i = p_i z + q_i + ..`.
    fn growth_at_infinity(&self, weights: &[f64]) -> f64 {
        let mut terms: Vec<(f64, f64)> = Vec::with_capacity(self.stages());
        let sum = |weights: &[f64], terms: &[(f64, f64)]| {
            let all = weights.iter().zip(terms);
            all.fold((0.0, 1.0), |(p, q), (w, (own_p, own_q))| (p + w * own_p, q + w * own_q))
        };
        for i in 0..self.stages() {
            let (p, q) = sum(self.a_row(i), &terms);
            terms.push(match self.diagonal(i) {
                0.0 if p.abs() > 1e-12 => return f64::INFINITY,
                0.0 => (q, 0.0),
                own => (-p / own, -q / own - p / (own * own)),
            });
        }
        let (p, q) = sum(weights, &terms);
        if p.abs() > 1e-12 { f64::INFINITY } else { q.abs() }
    }

    /// `|R(z)|` with `R(z) = 1 + z w^T (I - z A)^-1 e`, stage by stage.
    fn growth(&self, weights: &[f64], z: Complex) -> f64 {
        let mut stages: Vec<Complex> = Vec::with_capacity(self.stages());
        for i in 0..self.stages() {
            let before = sum(self.a_row(i), &stages);
            let Complex(re, im) = z.times(before);
            let own = self.diagonal(i);
            stages.push(Complex(1.0 + re, im).over(Complex(1.0 - own * z.0, -own * z.1)));
        }
        let Complex(re, im) = z.times(sum(weights, &stages));
        (1.0 + re).hypot(im)
    }

    /// Returns the difference of stages from which a step's distance from its stability limit is
    /// estimated, over the tableau's stages and `f(t1, y1)`; `None` where the tableau has none.
    ///
    /// It is that of the last two stages at one time whose states differ, else the divided difference
    /// of the last four times.
    pub fn stage_difference(&self) -> Option<StageDifference> {
        if self.is_implicit() {
            // An implicit method has no limit to be near to.
            return None;
        }
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

/// Returns the first `x > 0` at which `growth` exceeds 1, beyond rounding: infinity if it does so nowhere up to 200, nor
/// at the powers of two up to 1e12.
fn first_crossing(growth: impl Fn(f64) -> f64) -> f64 {
    const STEP: f64 = 1.0 / 64.0;
    // R is within rounding of 1 near 0, and of order p only beyond: it must leave by more than that.
    let leaves = |x: f64| growth(x) > 1.0 + 1e-10;
    let mut low = 0.0;
    while low < 200.0 && !leaves(low + STEP) {
        low += STEP;
    }
    if low >= 200.0 && (8..40).all(|power| !leaves(f64::from(power).exp2())) {
        return f64::INFINITY;
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

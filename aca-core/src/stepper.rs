//! A method made ready to step.

use std::sync::OnceLock;

use aca_tableau::Interpolant;
use candle_core::DType;

use crate::implicit::{NewtonRule, StageSystem};
use crate::{Error, Method, Result, Solver};

mod first_slope;
mod recursion;
mod times;

/// A method with what a solve derives from it once: weights, nodes, error estimates and interpolant.
///
/// Slopes of a Runge-Kutta method are `k_i = f(t0 + c_i h, y0 + h sum(a_ij k_j))`. Those beyond the method's own are the
/// interpolant's; they are evaluated only for steps whose inside is looked at.
#[derive(Clone, Debug)]
pub struct Stepper {
    method: Method,
    b: Vec<f64>,
    b_error: Vec<Vec<f64>>,
    interpolant: Interpolant,
    /// Weights of the estimate of the error inside a step, of implicit methods.
    inside_error: Option<[Vec<f64>; 1]>,
    /// Nodes, and rows and columns of `a`, the interpolant's extra stages included; of a scheme of the user's the extra
    /// ones alone mean anything.
    c: Vec<f64>,
    rows: Vec<Vec<f64>>,
    columns: Vec<Vec<f64>>,
    /// Weights of the differences of slopes and of states that show how far a step reaches, once a solve asks.
    difference: OnceLock<Option<[Vec<f64>; 2]>>,
    stability: OnceLock<f64>,
    jump_ts: Vec<f64>,
    is_single: bool,
    /// The diagonal of `a`; empty for explicit methods.
    diagonal: Vec<f64>,
    /// Weights of the slopes before each implicit one that guess it.
    guesses: Vec<Vec<f64>>,
    newton: NewtonRule,
}

impl Stepper {
    /// Prepares each of the methods that the solver may switch between, the one that it begins with first; a
    /// [`Step`](crate::Step) tells by its [scheme](crate::Step::scheme) which made it.
    ///
    /// # Errors
    /// As [`Stepper::new`].
    pub fn all(solver: &Solver, dtype: DType) -> Result<Vec<Self>> {
        let choices = solver.method.choices().into_iter();
        choices.map(|method| Self::of(method, solver, dtype)).collect()
    }

    /// Prepares the solver's method for states of a type, the first of a pair; steps that meet one of the solver's `jump_ts`
    /// evaluate the field on their own side, at a time that stays there when it is rounded to that type.
    ///
    /// # Errors
    /// [`Error::NodeOutsideStep`], since the field may not be evaluated outside the span.
    pub fn new(solver: &Solver, dtype: DType) -> Result<Self> {
        let first = match &solver.method {
            Method::Auto(pair) => (&pair.explicit).into(),
            method => method.clone(),
        };
        Self::of(first, solver, dtype)
    }

    pub(crate) fn of(method: Method, solver: &Solver, dtype: DType) -> Result<Self> {
        let (b, b_error, interpolant) = parts(&method);
        let own = b.len();
        let own_rows: Vec<(f64, Vec<f64>)> = match &method {
            Method::RungeKutta(tableau) => {
                let row = |i: usize| {
                    let diagonal = Some(tableau.diagonal(i)).filter(|a| *a != 0.0);
                    tableau.a_row(i).iter().copied().chain(diagonal).collect()
                };
                (0..own).map(|i| (tableau.c()[i], row(i))).collect()
            }
            Method::Leapfrog => vec![(0.0, vec![]), (0.5, vec![0.5]), (1.0, vec![-1.0, 2.0])],
            Method::Symplectic(splitting) => {
                (0..own).map(|i| (splitting.node(i), b[..i].to_vec())).collect()
            }
            Method::Custom(_) | Method::Auto(_) => vec![(0.0, Vec::new()); own],
        };
        let extra = (0..interpolant.extra_stages())
            .map(|i| (interpolant.c(i), interpolant.a_row(i).to_vec()));
        let (c, rows): (Vec<f64>, Vec<Vec<f64>>) = own_rows.into_iter().chain(extra).unzip();
        let diagonal = match &method {
            Method::RungeKutta(tableau) if tableau.is_implicit() => {
                (0..own).map(|i| tableau.diagonal(i)).collect()
            }
            _ => Vec::new(),
        };
        // Beyond second order no splitting stays inside the step, nor do some implicit methods; they must not look
        // across a jump.
        let leaves = matches!(method, Method::Symplectic(_)) || !diagonal.is_empty();
        let may_leave = leaves && solver.jump_ts.is_empty();
        let is_single = dtype == DType::F32;
        let epsilon = if is_single { f64::from(f32::EPSILON) } else { f64::EPSILON };
        if let Some(&c) = c.iter().find(|c| !may_leave && !(0.0..=1.0).contains(*c)) {
            return Err(Error::NodeOutsideStep { method: method.name().to_owned(), c });
        }
        let nodes = c.clone();
        let column = |i: usize| rows.iter().map(|row| row.get(i).copied().unwrap_or(0.0)).collect();
        Ok(Self {
            columns: (0..rows.len()).map(column).collect(),
            method,
            b,
            b_error,
            inside_error: (!diagonal.is_empty() || interpolant.goes_through_states())
                .then(|| interpolant.error_weights())
                .flatten()
                .map(|weights| [weights]),
            interpolant,
            c,
            rows,
            difference: OnceLock::new(),
            stability: OnceLock::new(),
            jump_ts: solver.jump_ts.clone(),
            is_single,
            guesses: guesses(&diagonal, &nodes),
            diagonal,
            newton: NewtonRule::new(solver, epsilon)?,
        })
    }

    /// The method.
    #[inline]
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The interpolant of one step.
    #[inline]
    pub fn interpolant(&self) -> &Interpolant {
        &self.interpolant
    }

    /// Number of slopes that every step has.
    #[inline]
    pub fn stages(&self) -> usize {
        self.b.len()
    }

    /// Number of slopes that a step has at the most, the interpolant's included.
    pub fn most_stages(&self) -> usize {
        self.stages().max(self.interpolant.stages())
    }

    /// The weights of the slopes: a step ends at `y0 + h sum(b_i k_i)`.
    #[inline]
    pub fn b(&self) -> &[f64] {
        &self.b
    }

    /// Number of slopes that a step's result depends on: all of the interpolant's where it is looked
    /// at, else the method's up to the last with a weight (a FSAL stage at the end has none).
    #[inline]
    pub fn stages_with_weight(&self, interpolated: bool) -> usize {
        if interpolated {
            return self.interpolant.stages();
        }
        // Implicit stages may depend on one another whatever they weigh.
        if let Method::Custom(_) = self.method {
            return self.stages();
        }
        self.b.iter().rposition(|&b| b != 0.0).map_or(0, |last| last + 1)
    }

    /// Row `i` of `a`, the interpolant's extra stages included.
    #[inline]
    pub fn a_row(&self, i: usize) -> &[f64] {
        &self.rows[i]
    }

    /// Column `i` of `a`: the weights of slope `i` in every stage.
    #[inline]
    pub fn column(&self, i: usize) -> &[f64] {
        &self.columns[i]
    }

    /// Node `c_i`, the interpolant's extra stages included.
    #[inline]
    pub fn c(&self, i: usize) -> f64 {
        self.c[i]
    }

    /// Weights of the estimate of a step's own error, `h sum(w_i k_i)` over as many stages: the finest of the
    /// tableau's, without trailing zeros; none for methods that cannot estimate it.
    pub fn error_weights(&self) -> &[f64] {
        let weights = self.b_error.first().map_or(&[][..], |weights| &weights[..]);
        &weights[..weights.iter().rposition(|w| *w != 0.0).map_or(0, |last| last + 1)]
    }

    /// The systems of an implicit stage from `base`.
    pub(crate) fn stage_system<'a>(
        &'a self,
        base: &'a [f64],
        h: &'a [f64],
        gamma: f64,
    ) -> StageSystem<'a> {
        StageSystem { rule: &self.newton, base, h, gamma, method: self.method.name() }
    }

    /// Whether some stages are implicit.
    pub fn is_implicit(&self) -> bool {
        !self.diagonal.is_empty()
    }

    /// Joins the norms of all error estimates to the error of a step of size 1.
    #[inline]
    pub(crate) fn ratio(norms: &[f64]) -> f64 {
        match *norms {
            [high, low] if high > 0.0 => high * high / (high * high + 0.01 * low * low).sqrt(),
            [first, ..] => first,
            [] => f64::NAN,
        }
    }

    /// Length of the stability interval on the negative real axis.
    pub(crate) fn stability(&self) -> f64 {
        let explicit = self.method.tableau().filter(|_| self.diagonal.is_empty());
        let find = || explicit.map_or(f64::INFINITY, |tableau| tableau.real_stability());
        *self.stability.get_or_init(find)
    }

    /// Weights of the differences of slopes and of states, over so many stages, that show how far a step reaches.
    pub(crate) fn difference(&self) -> Option<[&[f64]; 2]> {
        // Only a Runge-Kutta method's slopes are all those of the field.
        let find = || self.method.tableau()?.stage_difference();
        let difference = self.difference.get_or_init(|| find().map(|d| [d.slopes, d.states]));
        difference.as_ref().map(|[slopes, states]| [&slopes[..], &states[..]])
    }

    /// The number of stages that they are taken over: the tableau's, and the slope at `t1`.
    pub(crate) fn stages_with_end(&self) -> usize {
        self.interpolant.end_stage().saturating_add(1)
    }

    /// The weights of the estimate of the error inside a step, of methods whose steps may be right at their ends alone.
    pub(crate) fn inside_error(&self) -> Option<&[Vec<f64>]> {
        self.inside_error.as_ref().map(|weights| &weights[..])
    }

    /// The weights of every error estimate.
    #[inline]
    pub fn b_error(&self) -> &[Vec<f64>] {
        &self.b_error
    }
}

/// Weights by which slopes at the last three distinct nodes are continued to that of the next.
pub(crate) fn guesses(diagonal: &[f64], c: &[f64]) -> Vec<Vec<f64>> {
    let guess = |i: usize| {
        let mut nodes: Vec<usize> = Vec::new();
        for j in (0..i).rev() {
            if nodes.len() < 3 && nodes.iter().all(|&other| (c[other] - c[j]).abs() > 1e-3) {
                nodes.push(j);
            }
        }
        let mut weights = vec![0.0; i];
        for &j in &nodes {
            let others = nodes.iter().filter(|other| **other != j);
            weights[j] = others.map(|&other| (c[i] - c[other]) / (c[j] - c[other])).product();
        }
        weights
    };
    (0..diagonal.len()).map(guess).collect()
}

/// Weights of slopes, of error estimates and interpolant.
fn parts(method: &Method) -> (Vec<f64>, Vec<Vec<f64>>, Interpolant) {
    match method {
        Method::RungeKutta(tableau) => {
            (tableau.b().to_vec(), tableau.b_error(), tableau.interpolant())
        }
        Method::Leapfrog => {
            let b = vec![0.0, 1.0, 0.0];
            let interpolant = Interpolant::hermite(2, &b, [0, 2]);
            (b, vec![vec![-1.0, 1.0, 0.0]], interpolant)
        }
        Method::Symplectic(splitting) => {
            let b = splitting.weights().to_vec();
            let interpolant = Interpolant::hermite_with_ends(splitting.order(), &b);
            (b, Vec::new(), interpolant)
        }
        // Its choices are prepared one by one.
        Method::Auto(pair) => parts(&(&pair.explicit).into()),
        Method::Custom(scheme) => {
            let facts = scheme.facts();
            (facts.b, facts.b_error.into_iter().collect(), facts.interpolant)
        }
    }
}

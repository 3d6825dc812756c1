use std::borrow::Cow;

use crate::conditions::{self, Conditions};
use crate::interpolant::{Interpolant, InterpolantTable};
use crate::{TableauDraft, TableauError, triangle};

/// Coefficients: borrowed in built-in tables, owned in tableaux made at run time.
pub(crate) type Coefficients = Cow<'static, [f64]>;

/// A Runge-Kutta method, explicit or diagonally implicit.
///
/// `k_i = f(t0 + c_i h, y0 + h sum(a_ij k_j))` over `j <= i`, and `y1 = y0 + h sum(b_i k_i)`; a stage is explicit where
/// its diagonal entry `a_ii` is zero.
///
/// Built-in methods are constants such as [`DOPRI5`](crate::DOPRI5); others come from [`Tableau::new`], which refuses
/// coefficients that do not have the claimed orders.
#[derive(Clone, Debug, PartialEq)]
pub struct Tableau {
    pub(crate) name: Cow<'static, str>,
    pub(crate) source: Cow<'static, str>,
    pub(crate) order: usize,
    /// The diagonal of `a`; empty for explicit methods.
    pub(crate) diagonal: Coefficients,
    pub(crate) a: Coefficients,
    pub(crate) b: Coefficients,
    pub(crate) c: Coefficients,
    pub(crate) embedded: Cow<'static, [Embedded]>,
    pub(crate) interpolant: Option<InterpolantTable>,
}

/// A second solution on the same stages; its distance from the first estimates the error.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedded {
    /// The order of this solution.
    pub order: usize,
    /// Its weights, one per stage.
    pub b_hat: Cow<'static, [f64]>,
}

impl Tableau {
    /// Makes a method from your coefficients and checks every order that they claim.
    ///
    /// # Errors
    /// [`TableauError`] with the first claim that fails, in the order: sizes, zeros above the diagonal, finite
    /// entries, row sums, order conditions of `b`, of each `b_hat`, of the interpolant.
    ///
    /// # Example
    /// ```
    /// use aca_tableau::{Tableau, TableauDraft};
    /// let heun3 = Tableau::new(TableauDraft {
    ///     name: "heun3".into(),
    ///     order: 3,
    ///     a: vec![vec![], vec![1.0 / 3.0], vec![0.0, 2.0 / 3.0]],
    ///     b: vec![0.25, 0.0, 0.75],
    ///     c: vec![0.0, 1.0 / 3.0, 2.0 / 3.0],
    ///     ..TableauDraft::default()
    /// })?;
    /// assert_eq!(heun3.interpolant().order(), 3);
    /// # Ok::<(), aca_tableau::TableauError>(())
    /// ```
    pub fn new(draft: TableauDraft) -> Result<Self, TableauError> {
        draft.build()
    }

    /// Repeats every check of [`Tableau::new`]; built-in methods pass it in this crate's tests.
    ///
    /// # Errors
    /// As [`Tableau::new`].
    pub fn validate(&self) -> Result<(), TableauError> {
        conditions::check_method(self)?;
        conditions::check_interpolant(self)
    }

    /// The method's name in lower case, as [`by_name`](crate::by_name) finds it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The paper that the coefficients come from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The order of the solution that is propagated, `b`.
    #[inline]
    pub fn order(&self) -> usize {
        self.order
    }

    /// The number of stages.
    #[inline]
    pub fn stages(&self) -> usize {
        self.b.len()
    }

    /// The diagonal entry of row `i` of `a`: zero for an explicit stage.
    #[inline]
    pub fn diagonal(&self, i: usize) -> f64 {
        self.diagonal.get(i).copied().unwrap_or(0.0)
    }

    /// Whether some stage is implicit.
    #[inline]
    pub fn is_implicit(&self) -> bool {
        self.diagonal.iter().any(|a| *a != 0.0)
    }

    /// Row `i` of `a`, counted from 0: the `i` weights of the stages before.
    #[inline]
    pub fn a_row(&self, i: usize) -> &[f64] {
        triangle::row(&self.a, i)
    }

    pub(crate) fn a_flat(&self) -> &[f64] {
        &self.a
    }

    /// The weights of the solution that is propagated.
    #[inline]
    pub fn b(&self) -> &[f64] {
        &self.b
    }

    /// The stages' times as fractions of the step.
    #[inline]
    pub fn c(&self) -> &[f64] {
        &self.c
    }

    /// Whether the last stage is f(t1, y1), so that it serves as the first stage of the next step ("first same as
    /// last").
    #[inline]
    pub fn is_fsal(&self) -> bool {
        self.is_stiffly_accurate() && self.diagonal(0) == 0.0
    }

    /// Whether the last stage's state is the end of the step.
    #[inline]
    pub fn is_stiffly_accurate(&self) -> bool {
        let last = self.stages() - 1;
        let own = self.b[last] == self.diagonal(last);
        own && self.a_row(last) == &self.b[..last] && self.c[last] == 1.0
    }

    /// The embedded solutions, none to two, the most accurate first.
    pub fn embedded(&self) -> &[Embedded] {
        &self.embedded
    }

    /// Whether an error estimate, and so step-size control, is available.
    pub fn is_adaptive(&self) -> bool {
        !self.embedded.is_empty()
    }

    /// `b - b_hat` of each embedded solution: the error estimate is `h sum(b_error_i k_i)`.
    pub fn b_error(&self) -> Vec<Vec<f64>> {
        let minus = |b_hat: &[f64]| self.b.iter().zip(b_hat).map(|(b, b_hat)| b - b_hat).collect();
        self.embedded.iter().map(|embedded| minus(&embedded.b_hat)).collect()
    }

    /// The power of `h` with which the error estimate falls, if there is one.
    ///
    /// With one embedded solution: the lower of the two orders, plus one. With two, of orders 5 and
    /// 3: `err5^2 / sqrt(err5^2 + 0.01 err3^2)` falls as err5^2 / err3, so 2 * 6 - 4 = 8.
    pub fn error_order(&self) -> Option<usize> {
        let falls = |embedded: &Embedded| self.order.min(embedded.order) + 1;
        match self.embedded.as_ref() {
            [] => None,
            [only] => Some(falls(only)),
            [fine, coarse, ..] => Some(2 * falls(fine) - falls(coarse)),
        }
    }

    /// The highest order, up to 8, whose conditions `b` satisfies; the claim is at most this.
    pub fn satisfied_order(&self) -> usize {
        Conditions::new((&self.a, &self.diagonal), self.stages(), conditions::MAX_ORDER)
            .satisfied_order(&self.b)
    }

    /// The declared interpolant, or the cubic Hermite one of order min(3, order).
    ///
    /// # Cost
    /// May allocate: call it once per solve. The Hermite interpolant of a method that is not FSAL needs one extra
    /// stage, f(t1, y1), which the next step can take over as its first.
    pub fn interpolant(&self) -> Interpolant {
        Interpolant::of(self)
    }

    /// The draft from which [`Tableau::new`] makes this method again: a start for variants. The weights of an
    /// interpolant are kept in another form and come back up to rounding.
    pub fn to_draft(&self) -> TableauDraft {
        TableauDraft::from(self)
    }
}

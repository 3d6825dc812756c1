use std::borrow::Cow::Borrowed;

use crate::conditions::holds;
use crate::esdirk::ESDIRK4;
use crate::tableau::{Embedded, Tableau};
use crate::{TableauError, Weights, rooted_trees};

/// A pair of Runge-Kutta methods for `y' = f(t, y) + g(t, y)` whose part `g` is stiff: an explicit one steps `f`, a diagonally
/// implicit one `g`, with common nodes and weights.
///
/// `Y_i = y0 + h sum(a_ij f(Y_j)) over j < i + h sum(d_ij g(Y_j)) over j <= i`, and `y1 = y0 + h sum(b_i (f(Y_i) + g(Y_i)))`.
///
/// # Source
/// Kennedy and Carpenter, Additive Runge-Kutta schemes for convection-diffusion-reaction equations, 2003.
///
/// # Example
/// ```
/// use aca_tableau::KENCARP4;
///
/// assert_eq!((KENCARP4.name(), KENCARP4.order(), KENCARP4.stages()), ("kencarp4", 4, 6));
/// KENCARP4.validate()?;
/// # Ok::<(), aca_tableau::TableauError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Additive {
    name: &'static str,
    explicit: Tableau,
    implicit: Tableau,
}

/// Kennedy's and Carpenter's pair ARK3(2)4L\[2\]SA: order 3, four stages; L-stable for the stiff part.
pub const KENCARP3: Additive = Additive {
    name: "kencarp3",
    explicit: Tableau {
        name: Borrowed("kencarp3_explicit"),
        diagonal: Borrowed(&[]),
        #[rustfmt::skip]
        a: Borrowed(&[
            1767732205903.0 / 2027836641118.0,
            5535828885825.0 / 10492691773637.0, 788022342437.0 / 10882634858940.0,
            6485989280629.0 / 16251701735622.0, -4246266847089.0 / 9704473918619.0, 10755448449292.0 / 10357097424841.0,
        ]),
        ..KENCARP3_IMPLICIT
    },
    implicit: KENCARP3_IMPLICIT,
};

const GAMMA3: f64 = 1767732205903.0 / 4055673282236.0;

const KENCARP3_IMPLICIT: Tableau = Tableau {
    name: Borrowed("kencarp3_implicit"),
    source: ESDIRK4.source,
    order: 3,
    diagonal: Borrowed(&[0.0, GAMMA3, GAMMA3, GAMMA3]),
    #[rustfmt::skip]
    a: Borrowed(&[
        GAMMA3,
        2746238789719.0 / 10658868560708.0, -640167445237.0 / 6845629431997.0,
        1471266399579.0 / 7840856788654.0, -4482444167858.0 / 7529755066697.0, 11266239266428.0 / 11593286722821.0,
    ]),
    b: Borrowed(&[
        1471266399579.0 / 7840856788654.0,
        -4482444167858.0 / 7529755066697.0,
        11266239266428.0 / 11593286722821.0,
        GAMMA3,
    ]),
    c: Borrowed(&[0.0, 1767732205903.0 / 2027836641118.0, 0.6, 1.0]),
    embedded: Borrowed(&[Embedded {
        order: 2,
        b_hat: Borrowed(&[
            2756255671327.0 / 12835298489170.0,
            -10771552573575.0 / 22201958757719.0,
            9247589265047.0 / 10645013368117.0,
            2193209047091.0 / 5459859503100.0,
        ]),
    }]),
    interpolant: None,
};

/// Kennedy's and Carpenter's pair ARK4(3)6L\[2\]SA: order 4, six stages; L-stable for the stiff part, whose method alone is
/// [`ESDIRK4`].
pub const KENCARP4: Additive = Additive {
    name: "kencarp4",
    explicit: Tableau {
        name: Borrowed("kencarp4_explicit"),
        diagonal: Borrowed(&[]),
        #[rustfmt::skip]
        a: Borrowed(&[
            0.5,
            13861.0 / 62500.0, 6889.0 / 62500.0,
            -116923316275.0 / 2393684061468.0, -2731218467317.0 / 15368042101831.0, 9408046702089.0 / 11113171139209.0,
            -451086348788.0 / 2902428689909.0, -2682348792572.0 / 7519795681897.0, 12662868775082.0 / 11960479115383.0, 3355817975965.0 / 11060851509271.0,
            647845179188.0 / 3216320057751.0, 73281519250.0 / 8382639484533.0, 552539513391.0 / 3454668386233.0, 3354512671639.0 / 8306763924573.0, 4040.0 / 17871.0,
        ]),
        interpolant: None,
        ..ESDIRK4
    },
    implicit: ESDIRK4,
};

/// Every built-in pair.
pub const ADDITIVE: [&Additive; 2] = [&KENCARP3, &KENCARP4];

impl Additive {
    /// Its name.
    pub fn name(&self) -> &str {
        self.name
    }

    /// The paper that the coefficients come from.
    pub fn source(&self) -> &str {
        self.implicit.source()
    }

    /// Its order, of both parts together.
    pub fn order(&self) -> usize {
        self.implicit.order()
    }

    /// Number of stages, each of which evaluates both parts.
    pub fn stages(&self) -> usize {
        self.implicit.stages()
    }

    /// The method of the part that is not stiff.
    pub fn explicit(&self) -> &Tableau {
        &self.explicit
    }

    /// The method of the stiff part.
    pub fn implicit(&self) -> &Tableau {
        &self.implicit
    }

    /// Checks both methods, and the order conditions that join them: those of every rooted tree with every choice of the
    /// part that each of its nodes evaluates.
    ///
    /// # Errors
    /// As [`Tableau::new`].
    pub fn validate(&self) -> Result<(), TableauError> {
        let Self { explicit, implicit, .. } = self;
        explicit.validate()?;
        implicit.validate()?;
        self.check(implicit.b(), self.order(), Weights::Propagated)?;
        implicit.embedded().iter().try_for_each(|embedded| {
            let order = embedded.order;
            self.check(&embedded.b_hat, order, Weights::Embedded { order })
        })
    }

    fn check(&self, b: &[f64], order: usize, weights: Weights) -> Result<(), TableauError> {
        let methods = [&self.explicit, &self.implicit];
        for tree in (1..=order).flat_map(rooted_trees) {
            let required = 1.0 / tree.density() as f64;
            for phi in tree.mixed_weights(methods) {
                let terms = || b.iter().zip(&phi).map(|(b, phi)| b * phi);
                let (sum, size) = (terms().sum(), terms().map(f64::abs).sum());
                if !holds(sum, required, size) {
                    return Err(TableauError::OrderCondition { tree, weights, sum, required });
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::{ADDITIVE, Additive, KENCARP4};
    use crate::TableauError;

    #[test]
    fn pairs_have_their_orders_together() {
        for pair in ADDITIVE {
            pair.validate().unwrap();
            assert!(pair.implicit().far_stability().is_l_stable(), "{}", pair.name());
        }
    }

    #[test]
    fn pair_with_a_wrong_digit_is_refused() {
        let mut a = KENCARP4.explicit.a.to_vec();
        // Row sums stay what they were.
        a[1] += 1e-6;
        a[2] -= 1e-6;
        let explicit = crate::Tableau { a: a.into(), ..KENCARP4.explicit.clone() };
        let pair = Additive { explicit, ..KENCARP4.clone() };
        assert!(matches!(pair.validate(), Err(TableauError::OrderCondition { .. })));
    }
}

use crate::interpolant::{Interpolant, end_slope};
use crate::tableau::Tableau;
use crate::tree::{RootedTree, rooted_trees};
use crate::{TableauError, Weights, triangle};

/// The highest order that is checked: 200 trees in all, and the highest of any method built in.
pub(crate) const MAX_ORDER: usize = 8;

/// How far a condition may be missed, relative to the size of its terms where that exceeds 1.
///
/// Coefficients rounded to f64 miss by up to 1e-14, those of DOP853 the most. A hundred times that
/// leaves room for methods with larger ones, and a wrong digit in the first ten places still shows.
const TOLERANCE: f64 = 1e-12;

/// The largest size that counts: beyond it sums cancel so much that a miss of a billionth could hide.
const SIZE: f64 = 1e3;

/// Whether `sum`, of terms that add up to `size` in absolute value, is `required`; never with NaN.
pub(crate) fn holds(sum: f64, required: f64, size: f64) -> bool {
    (sum - required).abs() <= TOLERANCE * size.clamp(1.0, SIZE)
}

/// The order conditions of one set of stages.
pub(crate) struct Conditions(Vec<Condition>);

struct Condition {
    tree: RootedTree,
    order: usize,
    phi: Vec<f64>,
}

impl Conditions {
    /// Those of a flat strictly lower triangle and a diagonal.
    pub(crate) fn new(a: (&[f64], &[f64]), stages: usize, max_order: usize) -> Self {
        let condition = |tree: RootedTree| {
            let (order, phi) = (tree.order(), tree.stage_weights(a, stages));
            Condition { tree, order, phi }
        };
        Self((1..=max_order).flat_map(rooted_trees).map(condition).collect())
    }

    pub(crate) fn satisfied_order(&self, b: &[f64]) -> usize {
        let failed = self.0.iter().find(|condition| condition.failure(b, 1.0).is_some());
        failed.map_or(MAX_ORDER, |condition| condition.order - 1)
    }

    /// Refuses weights that miss a condition `sum(w_i Phi_i) = s^order / gamma` up to `order`.
    fn check(
        &self,
        values: &[f64],
        order: usize,
        s: f64,
        weights: Weights,
    ) -> Result<(), TableauError> {
        for condition in self.0.iter().take_while(|condition| condition.order <= order) {
            if let Some(sum) = condition.failure(values, s) {
                let (tree, required) = (condition.tree.clone(), condition.required(s));
                return Err(TableauError::OrderCondition { tree, weights, sum, required });
            }
        }
        Ok(())
    }
}

impl Condition {
    fn required(&self, s: f64) -> f64 {
        s.powi(self.order as i32) / self.tree.density() as f64
    }

    /// The sum, if it is wrong.
    fn failure(&self, weights: &[f64], s: f64) -> Option<f64> {
        let terms = || weights.iter().zip(&self.phi).map(|(w, phi)| w * phi);
        let (sum, size) = (terms().sum(), terms().map(f64::abs).sum());
        (!holds(sum, self.required(s), size)).then_some(sum)
    }
}

/// Checks everything but the interpolant.
pub(crate) fn check_method(tableau: &Tableau) -> Result<(), TableauError> {
    check_entries(tableau)?;
    check_row_sums((tableau.a_flat(), &tableau.diagonal), 0, tableau.c())?;
    check_order("b", tableau.order())?;
    check_embedded(tableau)?;

    let claims = tableau.embedded().iter().map(|embedded| embedded.order);
    let highest = claims.chain([tableau.order()]).max().unwrap_or(MAX_ORDER);
    let conditions =
        Conditions::new((tableau.a_flat(), &tableau.diagonal), tableau.stages(), highest);
    conditions.check(tableau.b(), tableau.order(), 1.0, Weights::Propagated)?;
    tableau.embedded().iter().try_for_each(|embedded| {
        let order = embedded.order;
        conditions.check(&embedded.b_hat, order, 1.0, Weights::Embedded { order })
    })
}

fn check_entries(tableau: &Tableau) -> Result<(), TableauError> {
    let stages = tableau.stages();
    if stages == 0 {
        return Err(TableauError::NoStages);
    }
    check_list("a", tableau.a_flat(), triangle::size(stages))?;
    if !tableau.diagonal.is_empty() {
        check_list("the diagonal of a", &tableau.diagonal, stages)?;
    }
    check_list("b", tableau.b(), stages)?;
    check_list("c", tableau.c(), stages)?;
    tableau.embedded().iter().enumerate().try_for_each(|(i, embedded)| {
        check_list(&format!("embedded[{i}].b_hat"), &embedded.b_hat, stages)
    })
}

/// Refuses a list of another length than `expected`, or with an entry that is not finite.
pub(crate) fn check_list(what: &str, list: &[f64], expected: usize) -> Result<(), TableauError> {
    if list.len() != expected {
        let (what, found) = (what.to_string(), list.len());
        return Err(TableauError::Size { what, expected, found });
    }
    match list.iter().position(|entry| !entry.is_finite()) {
        None => Ok(()),
        Some(index) => {
            Err(TableauError::NotFinite { what: what.to_string(), index, value: list[index] })
        }
    }
}

/// Checks the rows of `a` that begin with row `first` against their times.
fn check_row_sums(
    (a, diagonal): (&[f64], &[f64]),
    first: usize,
    c: &[f64],
) -> Result<(), TableauError> {
    let skipped = triangle::size(first);
    for (row, &c) in (first..).zip(c) {
        let entries = a[triangle::size(row) - skipped..][..row].iter().chain(diagonal.get(row));
        let (sum, size) = (entries.clone().sum(), entries.map(|a| a.abs()).sum());
        if !holds(sum, c, size) {
            return Err(TableauError::RowSum { row, sum, c });
        }
    }
    Ok(())
}

fn check_order(what: &'static str, order: usize) -> Result<(), TableauError> {
    match order {
        1..=MAX_ORDER => Ok(()),
        _ => Err(TableauError::OrderClaim { what, order }),
    }
}

fn check_embedded(tableau: &Tableau) -> Result<(), TableauError> {
    for embedded in tableau.embedded() {
        check_order("b_hat", embedded.order)?;
        let b = || tableau.b.iter();
        let apart = b().zip(embedded.b_hat.iter()).map(|(b, b_hat)| (b - b_hat).abs());
        // What rounding makes of equal weights is no error estimate either.
        if apart.fold(0.0, f64::max) <= 1e-10 * b().fold(0.0, |size: f64, b| size.max(b.abs())) {
            return Err(TableauError::EmbeddedEqualsB { order: embedded.order });
        }
    }
    match tableau.embedded() {
        [] | [_] => Ok(()),
        [fine, coarse] if fine.order >= coarse.order => Ok(()),
        [fine, coarse] => {
            Err(TableauError::EmbeddedSequence { first: fine.order, second: coarse.order })
        }
        more => Err(TableauError::EmbeddedCount { found: more.len() }),
    }
}

/// Checks the interpolant of a method that passed [`check_method`].
///
/// Its ends and end slopes are right by its form. What is left of a condition is then s^2 (1 - s)^2
/// times a polynomial in s whose degree is below `points`, so `points` values inside decide it.
pub(crate) fn check_interpolant(tableau: &Tableau) -> Result<(), TableauError> {
    let Some(table) = &tableau.interpolant else {
        return Ok(()); // the cubic Hermite inherits its conditions from b
    };
    let (stages, extra) = (tableau.stages(), table.c.len());
    let total = stages + extra;
    check_list("interpolant.c", &table.c, extra)?;
    check_list("interpolant.a", &table.a, triangle::size(total) - triangle::size(stages))?;
    check_list("interpolant.d", &table.d, table.d.len().next_multiple_of(total))?;
    check_row_sums((&table.a, &[]), stages, &table.c)?;
    check_order("the interpolant", table.order)?;
    end_slope(tableau, &table.a, &table.c).ok_or(TableauError::NoEndSlope)?;
    check_continuous(tableau, &tableau.interpolant())
}

fn check_continuous(tableau: &Tableau, interpolant: &Interpolant) -> Result<(), TableauError> {
    let order = interpolant.order();
    let a = [tableau.a_flat(), interpolant.extra_rows()].concat();
    let conditions = Conditions::new((&a, &tableau.diagonal), interpolant.stages(), order);
    let points = interpolant.levels().len().max(order.saturating_sub(3)).max(3);
    // The lowest order that fails at any point is told, so that all orders below it do hold.
    let failures = (1..=points + 1).filter_map(|point| {
        let s = point as f64 / (points + 1) as f64;
        conditions.check(&interpolant.weights(s), order, s, Weights::Interpolant { s }).err()
    });
    let order_of = |error: &TableauError| match error {
        TableauError::OrderCondition { tree, .. } => tree.order(),
        _ => 0,
    };
    failures.min_by_key(order_of).map_or(Ok(()), Err)
}

use std::fmt;

use crate::RootedTree;

/// Why a tableau is refused.
///
/// Rows, columns and stages are counted from 0; the extra stages of the interpolant come after those of the method.
#[derive(thiserror::Error, Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum TableauError {
    /// The tableau has no stage.
    #[error("b is empty; a method has at least one stage")]
    NoStages,

    /// A list is too short or too long.
    #[error("{what} has {found} entries, must have {expected}")]
    Size {
        /// The list, by its field in [`TableauDraft`](crate::TableauDraft): `c`, `a[2]`, `embedded[0].b_hat`.
        what: String,
        /// Its length by the number of stages.
        expected: usize,
        /// The length given.
        found: usize,
    },

    /// A coefficient is NaN or infinite.
    #[error("entry {index} of {what} is {value}; coefficients must be finite")]
    NotFinite {
        /// The list, as in [`Self::Size`].
        what: String,
        /// The position in the list.
        index: usize,
        /// The value given.
        value: f64,
    },

    /// A stage would depend on a later one.
    #[error(
        "a[{row}][{column}] is {value}; a method that is explicit or diagonally implicit has zeros above the diagonal"
    )]
    AboveDiagonal {
        /// The stage.
        row: usize,
        /// The stage that it reads.
        column: usize,
        /// The coefficient.
        value: f64,
    },

    /// An extra stage of an interpolant would depend on itself.
    #[error(
        "extra stage {stage} of the interpolant has {value} on its diagonal; extra stages must be explicit"
    )]
    ImplicitExtraStage {
        /// The stage, counted after the method's own.
        stage: usize,
        /// The coefficient.
        value: f64,
    },

    /// The claimed order is beyond those that can be checked.
    #[error("order {order} is claimed for {what}; orders 1 to 8 can be checked")]
    OrderClaim {
        /// What makes the claim.
        what: &'static str,
        /// The claim.
        order: usize,
    },

    /// There are more embedded solutions than the step-size control can combine.
    #[error("{found} embedded solutions are given; error estimates combine at most 2")]
    EmbeddedCount {
        /// The number given.
        found: usize,
    },

    /// The second embedded solution is of higher order than the first.
    #[error(
        "embedded solutions of orders {first} and {second} are in the wrong order; \
         give the higher order first"
    )]
    EmbeddedSequence {
        /// The order of the first.
        first: usize,
        /// The order of the second.
        second: usize,
    },

    /// An embedded solution equals the propagated one, so the error estimate would be zero.
    #[error(
        "the embedded solution of order {order} equals b up to rounding; its error estimate would always be 0"
    )]
    EmbeddedEqualsB {
        /// Its order.
        order: usize,
    },

    /// The time of a stage differs from the sum of its row.
    #[error(
        "row {row} of a sums to {}, but c is {}; c must hold the row sums",
        beside(*sum, *c),
        beside(*c, *sum),
    )]
    RowSum {
        /// The stage.
        row: usize,
        /// The sum of its row.
        sum: f64,
        /// The time given.
        c: f64,
    },

    /// The claimed order is not reached.
    #[error(
        "order {} condition of tree {tree} fails{weights}: sum is {}, must be {}; {}",
        tree.order(),
        beside(*sum, *required),
        beside(*required, *sum),
        what_holds(tree.order() - 1),
    )]
    OrderCondition {
        /// The first condition that fails, one of [`rooted_trees`](crate::rooted_trees); all of lower order hold.
        tree: RootedTree,
        /// The weights that fail it.
        weights: Weights,
        /// The sum of weights times elementary weights.
        sum: f64,
        /// What it must be.
        required: f64,
    },

    /// A continuously differentiable interpolant needs f(t1, y1).
    #[error(
        "the interpolant has no stage f(t1, y1); make its first extra row equal to b, with c = 1"
    )]
    NoEndSlope,

    /// The interpolant does not end in y1.
    #[error(
        "the interpolant at s = 1 gives stage {stage} the weight {}, but b has {}",
        beside(*weight, *b),
        beside(*b, *weight),
    )]
    InterpolantEnd {
        /// The stage.
        stage: usize,
        /// Its weight in the interpolant.
        weight: f64,
        /// Its weight in the solution, 0 for extra stages.
        b: f64,
    },

    /// The interpolant's slope jumps from one step to the next.
    #[error(
        "the interpolant's slope at s = {s} gives stage {stage} the weight {}, must be {}",
        beside(*weight, *required),
        beside(*required, *weight),
    )]
    InterpolantSlope {
        /// The end of the step.
        s: f64,
        /// The stage.
        stage: usize,
        /// Its weight in the slope.
        weight: f64,
        /// 1 for the stage that holds the slope there, else 0.
        required: f64,
    },

    /// No method has this name.
    #[error("unknown method \"{name}\"; nearest: {}", nearest.join(", "))]
    UnknownName {
        /// The name asked for.
        name: String,
        /// Names that look like it, the most similar first.
        nearest: Vec<&'static str>,
    },

    /// A file or text was refused; with the feature `serde`.
    #[cfg(feature = "serde")]
    #[error(transparent)]
    File(#[from] Box<crate::FileError>),
}

/// The weights of a tableau that an order condition is about.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Weights {
    /// `b`, the weights of the solution that is propagated.
    Propagated,
    /// A `b_hat`.
    Embedded {
        /// The order that it claims.
        order: usize,
    },
    /// The interpolant.
    Interpolant {
        /// The fraction of the step.
        s: f64,
    },
}

impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Propagated => Ok(()),
            Self::Embedded { order } => {
                write!(f, " for the embedded solution of order {order}")
            }
            Self::Interpolant { s } => {
                write!(f, " for the interpolant at s = {}", significant(*s, 6))
            }
        }
    }
}

/// The highest order that holds, and what to do about the claim.
fn what_holds(order: usize) -> String {
    match order {
        0 => "no order holds; correct the coefficients".to_owned(),
        _ => format!(
            "the highest order that holds is {order}; claim it, or correct the coefficients"
        ),
    }
}

/// `value`, with as many digits as it takes to tell it from `other`.
fn beside(value: f64, other: f64) -> String {
    let differ = |&digits: &usize| significant(value, digits) != significant(other, digits);
    significant(value, (6..17).find(differ).unwrap_or(17))
}

/// `value` rounded to `digits` significant digits, without trailing zeros.
fn significant(value: f64, digits: usize) -> String {
    let rounded = format!("{value:.*e}", digits - 1).parse().unwrap_or(value);
    match rounded {
        0.0 => "0".to_string(),
        tiny if tiny.abs() < 1e-4 => format!("{tiny:e}"),
        _ => rounded.to_string(),
    }
}

use std::borrow::Cow;

use crate::conditions::{self, check_list, holds};
use crate::interpolant::{InterpolantTable, end_slope};
use crate::tableau::{Embedded, Tableau};
use crate::{TableauError, polynomial, triangle};

/// Coefficients that claim to be a method; [`Tableau::new`] checks the claims.
#[derive(Default, Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "crate::file::DraftFile"))]
pub struct TableauDraft {
    /// The method's name.
    pub name: String,
    /// The paper that the coefficients come from.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "String::is_empty"))]
    pub source: String,
    /// The order that `b` claims, at most 8.
    pub order: usize,
    /// Row `i` holds `i` entries, or `i + 1` where the stage is implicit; full rows with zeros above the diagonal do as
    /// well.
    pub a: Vec<Vec<f64>>,
    /// The weights of the solution that is propagated.
    pub b: Vec<f64>,
    /// The stages' times, which must be the row sums of `a`.
    pub c: Vec<f64>,
    /// Up to two embedded solutions, the most accurate first. Without one the method is for fixed steps.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Vec::is_empty"))]
    pub embedded: Vec<EmbeddedDraft>,
    /// A better interpolant than the cubic Hermite one, if there is any.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub interpolant: Option<InterpolantDraft>,
}

/// An embedded solution and the order that it claims.
#[derive(Default, Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct EmbeddedDraft {
    /// The order, at most 8.
    pub order: usize,
    /// The weights, one per stage.
    pub b_hat: Vec<f64>,
}

/// An interpolant and the order that it claims.
///
/// Unless the method is FSAL, the first extra stage must be f(t1, y1): row equal to `b`, c = 1.
#[derive(Default, Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct InterpolantDraft {
    /// The order at every fraction of the step, at most 8.
    pub order: usize,
    /// Rows of the extra stages, which continue the rows of the method.
    pub a: Vec<Vec<f64>>,
    /// Their times.
    pub c: Vec<f64>,
    /// For each stage, extra ones last, the coefficients of s^1, s^2, .. of its weight.
    pub weights: Vec<Vec<f64>>,
}

impl TableauDraft {
    pub(crate) fn build(self) -> Result<Tableau, TableauError> {
        let stages = self.b.len();
        check_length("a", self.a.len(), stages)?;
        let embedded: Vec<_> = self.embedded.into_iter().map(Embedded::from).collect();
        let (a, diagonal) = triangle::flatten("a", &self.a, 0, stages)?;
        let mut tableau = Tableau {
            name: Cow::Owned(self.name),
            source: Cow::Owned(self.source),
            order: self.order,
            diagonal: diagonal.into(),
            a: a.into(),
            b: self.b.into(),
            c: self.c.into(),
            embedded: embedded.into(),
            interpolant: None,
        };
        conditions::check_method(&tableau)?;
        tableau.interpolant = self.interpolant.map(|draft| draft.build(&tableau)).transpose()?;
        conditions::check_interpolant(&tableau)?;
        Ok(tableau)
    }
}

impl InterpolantDraft {
    /// Divides the weights by s^2 (1 - s)^2 once their ends and end slopes have been found right.
    fn build(self, tableau: &Tableau) -> Result<InterpolantTable, TableauError> {
        let total = tableau.stages() + self.c.len();
        check_length("interpolant.a", self.a.len(), self.c.len())?;
        check_length("interpolant.weights", self.weights.len(), total)?;
        let (a, diagonal) = triangle::flatten("interpolant.a", &self.a, tableau.stages(), total)?;
        if let Some(row) = diagonal.iter().position(|a| *a != 0.0) {
            let (stage, value) = (tableau.stages() + row, diagonal[row]);
            return Err(TableauError::ImplicitExtraStage { stage, value });
        }
        let end_slope = end_slope(tableau, &a, &self.c).ok_or(TableauError::NoEndSlope)?;
        for (stage, weights) in self.weights.iter().enumerate() {
            check_list(&format!("interpolant.weights[{stage}]"), weights, weights.len())?;
            check_ends(tableau, end_slope, stage, weights)?;
        }
        let nested: Vec<_> = self.weights.iter().map(|w| polynomial::nest(w)).collect();
        let degree = nested.iter().map(Vec::len).max().unwrap_or(0);
        let level = |level| nested.iter().map(move |n| n.get(level).copied().unwrap_or(0.0));
        Ok(InterpolantTable {
            order: self.order,
            a: a.into(),
            c: self.c.into(),
            d: (3..degree).flat_map(level).collect(),
        })
    }
}

/// Refuses a weight that does not end in `b`, or whose slope at an end is not that of y.
fn check_ends(
    tableau: &Tableau,
    end_slope: usize,
    stage: usize,
    weights: &[f64],
) -> Result<(), TableauError> {
    let sum = |power: fn(usize) -> f64| weights.iter().enumerate().map(move |(i, w)| power(i) * w);
    let size = |power| sum(power).map(f64::abs).sum::<f64>();
    let b = tableau.b().get(stage).copied().unwrap_or(0.0);
    let weight = sum(|_| 1.0).sum();
    if !holds(weight, b, size(|_| 1.0)) {
        return Err(TableauError::InterpolantEnd { stage, weight, b });
    }
    let slopes = [
        (0.0, weights.first().copied().unwrap_or(0.0), 0, 1.0),
        (1.0, sum(|i| (i + 1) as f64).sum(), end_slope, size(|i| (i + 1) as f64)),
    ];
    for (s, weight, slope_stage, size) in slopes {
        let required = f64::from(u8::from(stage == slope_stage));
        if !holds(weight, required, size) {
            return Err(TableauError::InterpolantSlope { s, stage, weight, required });
        }
    }
    Ok(())
}

fn check_length(what: &str, found: usize, expected: usize) -> Result<(), TableauError> {
    if found == expected {
        return Ok(());
    }
    Err(TableauError::Size { what: what.to_string(), expected, found })
}

impl From<EmbeddedDraft> for Embedded {
    fn from(draft: EmbeddedDraft) -> Self {
        Self { order: draft.order, b_hat: draft.b_hat.into() }
    }
}

impl From<&Tableau> for TableauDraft {
    fn from(tableau: &Tableau) -> Self {
        let embedded = |embedded: &Embedded| EmbeddedDraft {
            order: embedded.order,
            b_hat: embedded.b_hat.to_vec(),
        };
        Self {
            name: tableau.name().to_string(),
            source: tableau.source().to_string(),
            order: tableau.order(),
            a: (0..tableau.stages()).map(|i| row_with_diagonal(tableau, i)).collect(),
            b: tableau.b().to_vec(),
            c: tableau.c().to_vec(),
            embedded: tableau.embedded().iter().map(embedded).collect(),
            interpolant: tableau.interpolant.as_ref().map(|_| tableau.interpolant().to_draft()),
        }
    }
}

/// A row of `a`, its diagonal included where the stage is implicit.
fn row_with_diagonal(tableau: &Tableau, i: usize) -> Vec<f64> {
    let own = Some(tableau.diagonal(i)).filter(|a| *a != 0.0);
    tableau.a_row(i).iter().copied().chain(own).collect()
}

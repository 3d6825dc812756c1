//! Methods from TOML files.

use std::fs;
use std::path::Path;

use aca_tableau::{EmbeddedDraft, InterpolantDraft, Tableau, TableauDraft};
use serde::Deserialize;

use crate::fraction;
use crate::report::{Error, Result};

/// Returns the method of a TOML file.
///
/// # Errors
/// [`Error::File`], [`Error::MethodFile`], [`Error::Coefficient`] or [`Error::Tableau`].
pub fn from_file(path: &Path) -> Result<Tableau> {
    let text = fs::read_to_string(path).map_err(Error::file("read", path))?;
    let file: MethodFile = toml::from_str(&text).map_err(|error| Error::MethodFile {
        path: path.to_owned(),
        line: error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count()),
        reason: error.message().replace('\n', ", "),
    })?;
    let draft = file.draft().map_err(|BadCoefficient { key, text, problem }| {
        Error::Coefficient { path: path.to_owned(), key, text, problem }
    })?;
    Ok(Tableau::new(draft)?)
}

/// A [`TableauDraft`] as files spell it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MethodFile {
    name: String,
    #[serde(default)]
    source: String,
    order: usize,
    a: Vec<Vec<Coefficient>>,
    b: Vec<Coefficient>,
    c: Vec<Coefficient>,
    #[serde(default)]
    embedded: Vec<EmbeddedFile>,
    interpolant: Option<InterpolantFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EmbeddedFile {
    order: usize,
    b_hat: Vec<Coefficient>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InterpolantFile {
    order: usize,
    #[serde(default)]
    a: Vec<Vec<Coefficient>>,
    #[serde(default)]
    c: Vec<Coefficient>,
    weights: Vec<Vec<Coefficient>>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a coefficient must be a number or a fraction such as \"1/3\"")]
enum Coefficient {
    Number(f64),
    Fraction(String),
}

/// A coefficient that is no number.
struct BadCoefficient {
    /// Its place in the file, such as `a[2][0]`.
    key: String,
    text: String,
    problem: &'static str,
}

type Read<T> = std::result::Result<T, BadCoefficient>;

impl MethodFile {
    fn draft(self) -> Read<TableauDraft> {
        let embedded = self.embedded.into_iter().enumerate();
        Ok(TableauDraft {
            name: self.name,
            source: self.source,
            order: self.order,
            a: rows("a", &self.a)?,
            b: list("b", &self.b)?,
            c: list("c", &self.c)?,
            embedded: embedded.map(|(i, file)| file.draft(i)).collect::<Read<_>>()?,
            interpolant: self.interpolant.map(InterpolantFile::draft).transpose()?,
        })
    }
}

impl EmbeddedFile {
    fn draft(self, index: usize) -> Read<EmbeddedDraft> {
        let b_hat = list(&format!("embedded[{index}].b_hat"), &self.b_hat)?;
        Ok(EmbeddedDraft { order: self.order, b_hat })
    }
}

impl InterpolantFile {
    fn draft(self) -> Read<InterpolantDraft> {
        Ok(InterpolantDraft {
            order: self.order,
            a: rows("interpolant.a", &self.a)?,
            c: list("interpolant.c", &self.c)?,
            weights: rows("interpolant.weights", &self.weights)?,
        })
    }
}

fn rows(key: &str, rows: &[Vec<Coefficient>]) -> Read<Vec<Vec<f64>>> {
    let row = |(i, row): (usize, &Vec<_>)| list(&format!("{key}[{i}]"), row);
    rows.iter().enumerate().map(row).collect()
}

fn list(key: &str, coefficients: &[Coefficient]) -> Read<Vec<f64>> {
    let value =
        |(i, coefficient): (usize, &Coefficient)| match coefficient {
            Coefficient::Number(value) => Ok(*value),
            Coefficient::Fraction(text) => fraction::parse(text).map_err(|problem| {
                BadCoefficient { key: format!("{key}[{i}]"), text: text.clone(), problem }
            }),
        };
    coefficients.iter().enumerate().map(value).collect()
}

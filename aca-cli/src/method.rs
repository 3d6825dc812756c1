//! Methods by name or from a TOML file.

use std::fs;
use std::path::Path;

use aca_core::Method;
use aca_tableau::{EmbeddedDraft, InterpolantDraft, Tableau, TableauDraft, TableauError, by_name};
use serde::Deserialize;

use crate::fraction;
use crate::report::{Error, Result};

/// Returns the built-in method of that name, or the one of the TOML file that `name` points to; what names
/// a folder too is a file's.
///
/// # Errors
/// [`Error::Tableau`] for an unknown name and for coefficients that break their claims; those of
/// [`from_file`].
pub fn method(name: &str) -> Result<Method> {
    find(name, Method::by_name)
}

/// The same of a Runge-Kutta method's tableau.
///
/// # Errors
/// As [`method`].
pub fn tableau(name: &str) -> Result<Tableau> {
    find(name, by_name)
}

fn find<M: From<Tableau>>(
    name: &str,
    by_name: impl Fn(&str) -> std::result::Result<M, TableauError>,
) -> Result<M> {
    let path = Path::new(name);
    let is_toml = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("toml"));
    if path.components().count() > 1 || name.starts_with("./") {
        return Ok(from_file(path)?.into());
    }
    match by_name(name) {
        Err(_) if is_toml || path.is_file() => Ok(from_file(path)?.into()),
        found => Ok(found?),
    }
}

/// Refuses tolerances that were given for a method with fixed steps, which follow none.
///
/// # Errors
/// [`Error::FixedSteps`].
pub fn check_tolerances(method: &Method, rtol: Option<f64>, atol: Option<f64>) -> Result<()> {
    let given = [("--rtol", rtol), ("--atol", atol)];
    match given.into_iter().find(|(_, given)| given.is_some() && !method.is_adaptive()) {
        Some((option, _)) => Err(Error::FixedSteps { option, method: method.name().to_owned() }),
        None => Ok(()),
    }
}

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

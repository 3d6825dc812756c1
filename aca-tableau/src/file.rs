//! Tableaux as TOML and JSON, read and written.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{EmbeddedDraft, InterpolantDraft, Tableau, TableauDraft, TableauError, fraction};

mod error;

pub use error::FileError;

/// With the feature `serde`.
impl Tableau {
    /// Reads a method from TOML and checks it as [`Tableau::new`] does.
    ///
    /// The keys are the fields of [`TableauDraft`]: `name`, `order`, `a`, `b` and `c` are needed, `source`, a table
    /// `[[embedded]]` (`order`, `b_hat`) for each error estimate and a table `[interpolant]` (`order`, `a`, `c`, `weights`)
    /// are not. Unknown keys are refused. A coefficient is a number or a fraction in quotes. Row `i` of `a` holds `i`
    /// entries, or `i + 1` where the stage is implicit.
    ///
    /// # Errors
    /// [`TableauError::File`], which names the line or the field; where an order is refused, also the highest order
    /// that the coefficients do have.
    ///
    /// # Example
    /// ```
    /// use aca_tableau::Tableau;
    /// let heun_euler = r#"
    ///     name = "heun_euler"
    ///     order = 2
    ///     a = [[], [1]]
    ///     b = ["1/2", "1/2"]
    ///     c = [0, 1]
    ///     [[embedded]]
    ///     order = 1
    ///     b_hat = [1, 0]
    /// "#;
    /// let tableau = Tableau::from_toml(heun_euler)?;
    /// assert_eq!(tableau.error_order(), Some(2));
    ///
    /// let refusal = Tableau::from_toml(&heun_euler.replace("order = 2", "order = 3")).unwrap_err();
    /// assert!(refusal.to_string().contains("the highest order that holds is 2"));
    /// # Ok::<(), aca_tableau::TableauError>(())
    /// ```
    pub fn from_toml(text: &str) -> Result<Self, TableauError> {
        Ok(read_toml(text).map_err(Box::new)?)
    }

    /// Reads a method from JSON, whose keys are those of [`Tableau::from_toml`].
    ///
    /// # Errors
    /// As [`Tableau::from_toml`].
    ///
    /// # Example
    /// ```
    /// let midpoint = r#"{"name": "mid", "order": 2, "a": [[], ["1/2"]], "b": [0, 1], "c": [0, 0.5]}"#;
    /// assert_eq!(aca_tableau::Tableau::from_json(midpoint)?.stages(), 2);
    /// # Ok::<(), aca_tableau::TableauError>(())
    /// ```
    pub fn from_json(text: &str) -> Result<Self, TableauError> {
        Ok(read_json(text).map_err(Box::new)?)
    }

    /// Reads a method from a file: JSON where its name ends in `.json`, else TOML.
    ///
    /// # Errors
    /// As [`Tableau::from_toml`], with the file's name; or the file cannot be read.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, TableauError> {
        let path = path.as_ref();
        let is_json = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("json"));
        let unreadable = |cause: std::io::Error| FileError::Unreadable {
            path: path.to_owned(),
            cause: cause.to_string(),
        };
        let text = std::fs::read_to_string(path).map_err(unreadable).map_err(Box::new)?;
        let read = if is_json { read_json(&text) } else { read_toml(&text) };
        Ok(read.map_err(|error| Box::new(error.of_file(path)))?)
    }

    /// Writes the method as TOML that [`Tableau::from_toml`] reads: the same coefficients to the last bit, but for the
    /// weights of an interpolant, which come back up to rounding.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_default()
    }

    /// Writes the method as JSON, as [`Tableau::to_toml`] does.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

fn read_toml(text: &str) -> Result<Tableau, FileError> {
    let line = |start: usize| 1 + text[..start].matches('\n').count();
    let parsed = toml::from_str(text).map_err(|error| FileError::Syntax {
        path: None,
        line: error.span().map_or(1, |span| line(span.start)),
        reason: error.message().replace('\n', ", "),
    });
    build(parsed?)
}

fn read_json(text: &str) -> Result<Tableau, FileError> {
    let parsed = serde_json::from_str(text).map_err(|error| {
        let reason = error.to_string();
        let reason = reason.rsplit_once(" at line ").map_or(&*reason, |(reason, _)| reason);
        FileError::Syntax { path: None, line: error.line(), reason: reason.to_owned() }
    });
    build(parsed?)
}

fn build(file: DraftFile) -> Result<Tableau, FileError> {
    let draft =
        TableauDraft::try_from(file).map_err(|BadCoefficient { field, text, problem }| {
            FileError::Coefficient { path: None, field, text, problem }
        })?;
    Tableau::new(draft.clone()).map_err(|error| FileError::refused(&draft, error))
}

impl Serialize for Tableau {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_draft().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Tableau {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        build(DraftFile::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// A [`TableauDraft`] as files spell it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DraftFile {
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
#[derive(Debug)]
pub(crate) struct BadCoefficient {
    field: String,
    text: String,
    problem: &'static str,
}

impl fmt::Display for BadCoefficient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is \"{}\"; {}", self.field, self.text, self.problem)
    }
}

type Read<T> = Result<T, BadCoefficient>;

impl TryFrom<DraftFile> for TableauDraft {
    type Error = BadCoefficient;

    fn try_from(file: DraftFile) -> Read<Self> {
        let embedded = file.embedded.into_iter().enumerate();
        Ok(Self {
            name: file.name,
            source: file.source,
            order: file.order,
            a: rows("a", &file.a)?,
            b: list("b", &file.b)?,
            c: list("c", &file.c)?,
            embedded: embedded.map(|(i, file)| file.draft(i)).collect::<Read<_>>()?,
            interpolant: file.interpolant.map(InterpolantFile::draft).transpose()?,
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

fn rows(field: &str, rows: &[Vec<Coefficient>]) -> Read<Vec<Vec<f64>>> {
    let row = |(i, row): (usize, &Vec<_>)| list(&format!("{field}[{i}]"), row);
    rows.iter().enumerate().map(row).collect()
}

fn list(field: &str, coefficients: &[Coefficient]) -> Read<Vec<f64>> {
    let value =
        |(i, coefficient): (usize, &Coefficient)| match coefficient {
            Coefficient::Number(value) => Ok(*value),
            Coefficient::Fraction(text) => fraction::parse(text).map_err(|problem| {
                BadCoefficient { field: format!("{field}[{i}]"), text: text.clone(), problem }
            }),
        };
    coefficients.iter().enumerate().map(value).collect()
}

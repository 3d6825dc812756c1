use std::path::{Path, PathBuf};

use crate::{TableauDraft, TableauError, Weights};

/// Why a tableau's file or text is refused.
///
/// `path` is the file; it is `None` where a text was read that came from no file.
#[derive(thiserror::Error, Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum FileError {
    /// The operating system cannot read the file.
    #[error("cannot read {}: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        cause: String,
    },

    /// The text is no TOML or JSON, or a field is unknown, missing or of another type.
    #[error("{}line {line}: {reason}", start(path.as_deref(), ", "))]
    Syntax {
        /// The file.
        path: Option<PathBuf>,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },

    /// A coefficient is a text, but no number and no fraction.
    #[error("{}{field} is \"{text}\"; {problem}", start(path.as_deref(), ": "))]
    Coefficient {
        /// The file.
        path: Option<PathBuf>,
        /// The coefficient's place, such as `a[2][0]` or `embedded[0].b_hat[1]`; entries count from 0.
        field: String,
        /// What stands there.
        text: String,
        /// What is wrong with it.
        problem: &'static str,
    },

    /// The coefficients do not keep what the file claims.
    #[error("{}{source}", place(path.as_deref(), field, source))]
    Refused {
        /// The file.
        path: Option<PathBuf>,
        /// The field that holds the claim, such as `order` or `interpolant.weights[2]`.
        field: String,
        /// The claim that fails.
        source: TableauError,
    },
}

impl FileError {
    /// The same error of a text that came from this file.
    pub(super) fn of_file(mut self, file: &Path) -> Self {
        match &mut self {
            Self::Unreadable { .. } => {}
            Self::Syntax { path, .. }
            | Self::Coefficient { path, .. }
            | Self::Refused { path, .. } => *path = Some(file.to_owned()),
        }
        self
    }

    /// The refusal of a draft that was read.
    pub(super) fn refused(draft: &TableauDraft, source: TableauError) -> Self {
        Self::Refused { path: None, field: field(draft, &source), source }
    }
}

/// The file and what parts it from the rest; nothing for a text without a file.
fn start(path: Option<&Path>, separator: &str) -> String {
    path.map_or_else(String::new, |path| format!("{}{separator}", path.display()))
}

/// The file and the field, unless the message names the field itself.
fn place(path: Option<&Path>, field: &str, source: &TableauError) -> String {
    match source {
        TableauError::Size { .. } | TableauError::NotFinite { .. } => start(path, ": "),
        _ => format!("{}{field}: ", start(path, ", ")),
    }
}

/// The field of a draft that a refusal speaks of.
fn field(draft: &TableauDraft, error: &TableauError) -> String {
    let stages = draft.b.len();
    let row = |list: &str, row: usize| match row.checked_sub(stages) {
        None => format!("{list}[{row}]"),
        Some(extra) => format!("interpolant.{list}[{extra}]"),
    };
    let embedded = |order: &usize, key: &str| {
        let index = draft.embedded.iter().position(|embedded| embedded.order == *order);
        index.map_or_else(|| "embedded".to_owned(), |index| format!("embedded[{index}].{key}"))
    };
    let whole = |name: &str| name.to_owned();
    match error {
        TableauError::NoStages => whole("b"),
        TableauError::Size { what, .. } | TableauError::NotFinite { what, .. } => what.clone(),
        TableauError::AboveDiagonal { row: i, column, .. } => format!("{}[{column}]", row("a", *i)),
        TableauError::ImplicitExtraStage { stage, .. } => row("a", *stage),
        TableauError::OrderClaim { what: "b", .. } => whole("order"),
        TableauError::OrderClaim { what: "b_hat", order } => embedded(order, "order"),
        TableauError::OrderClaim { .. } => whole("interpolant.order"),
        TableauError::EmbeddedCount { .. } | TableauError::EmbeddedSequence { .. } => {
            whole("embedded")
        }
        TableauError::EmbeddedEqualsB { order } => embedded(order, "b_hat"),
        TableauError::RowSum { row: i, .. } => row("c", *i),
        TableauError::OrderCondition { weights, .. } => match weights {
            Weights::Propagated => whole("order"),
            Weights::Embedded { order } => embedded(order, "order"),
            Weights::Interpolant { .. } => whole("interpolant.order"),
        },
        TableauError::NoEndSlope => whole("interpolant.a"),
        TableauError::InterpolantEnd { stage, .. }
        | TableauError::InterpolantSlope { stage, .. } => format!("interpolant.weights[{stage}]"),
        TableauError::UnknownName { .. } | TableauError::File(_) => whole("name"),
    }
}

//! Findings as rows of tables, of a CSV file and of JSON.

use std::path::Path;

use serde_json::{Value, json};

use super::setting::Setting;
use crate::report::{Error, Result, Side, aligned};
use crate::strategy::Strategy;

/// The error and the cost of one gradient.
#[derive(Clone, Debug)]
pub struct Row {
    pub problem: &'static str,
    pub strategy: Strategy,
    /// Name of the method.
    pub method: String,
    /// Relative tolerance; `None` for equal steps.
    pub rtol: Option<f64>,
    /// End of the span where it is varied.
    pub end: Option<f64>,
    /// Relative error; `None` where there is no gradient.
    pub error: Option<f64>,
    /// Median time in ms.
    pub ms: Option<f64>,
    pub nfe_forward: usize,
    pub nfe_backward: usize,
    pub accepted: usize,
    pub rejected: usize,
    /// Why there is no gradient.
    pub failure: Option<String>,
}

const HEADS: [&str; 12] = [
    "problem",
    "strategy",
    "method",
    "rtol",
    "T",
    "error",
    "ms",
    "nfe_forward",
    "nfe_backward",
    "accepted",
    "rejected",
    "failure",
];

impl Row {
    /// A row without findings.
    pub fn new(problem: &'static str, end: Option<f64>, setting: &Setting) -> Self {
        Self {
            problem,
            strategy: setting.strategy,
            method: setting.method(),
            rtol: setting.rtol(),
            end,
            error: None,
            ms: None,
            nfe_forward: 0,
            nfe_backward: 0,
            accepted: 0,
            rejected: 0,
            failure: None,
        }
    }

    /// The same row, which failed.
    pub fn failed(self, error: &aca_core::Error) -> Self {
        // Errors of candle may carry a backtrace below their message.
        let message = error.to_string();
        Self { failure: message.lines().next().map(str::to_owned), ..self }
    }

    /// The row as JSON.
    pub fn json(&self) -> Value {
        let mut row = json!({
            "problem": self.problem, "method": self.method, "rtol": self.rtol, "error": self.error,
            "ms": self.ms, "nfe_forward": self.nfe_forward, "nfe_backward": self.nfe_backward,
            "accepted": self.accepted, "rejected": self.rejected,
        });
        if let Some(end) = self.end {
            row["T"] = end.into();
        }
        if let Some(failure) = &self.failure {
            row["failure"] = failure.as_str().into();
        }
        row
    }

    fn record(&self) -> [String; 12] {
        let optional = |number: Option<f64>| number.map_or_else(String::new, |x| format!("{x:e}"));
        [
            self.problem.to_owned(),
            self.strategy.name().to_owned(),
            self.method.clone(),
            optional(self.rtol),
            self.end.map_or_else(String::new, |end| end.to_string()),
            optional(self.error),
            optional(self.ms),
            self.nfe_forward.to_string(),
            self.nfe_backward.to_string(),
            self.accepted.to_string(),
            self.rejected.to_string(),
            self.failure.clone().unwrap_or_default(),
        ]
    }

    /// The cells of the printed table, that of `T` only where it varies.
    fn cells(&self) -> Vec<String> {
        let mut cells = vec![self.strategy.name().to_owned(), self.method.clone()];
        cells.push(self.rtol.map_or_else(|| "fixed".to_owned(), |rtol| format!("{rtol:e}")));
        cells.extend(self.end.map(|end| end.to_string()));
        let error = |error| if error == 0.0 { "0".to_owned() } else { format!("{error:.1e}") };
        cells.push(self.error.map_or_else(|| "failed".to_owned(), error));
        if self.failure.is_some() {
            return cells;
        }
        cells.push(self.ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.2}")));
        let counts = [self.nfe_forward, self.nfe_backward, self.accepted, self.rejected];
        cells.extend(counts.map(|count| count.to_string()));
        cells
    }
}

/// The rows as a printed table, and below it why some failed.
pub fn table<'a>(rows: impl Iterator<Item = &'a Row> + Clone) -> String {
    let with_end = rows.clone().any(|row| row.end.is_some());
    let heads = ["strategy", "method", "rtol", "T", "error", "ms"].into_iter();
    let heads = heads.chain(["nfe forward", "nfe backward", "accepted", "rejected"]);
    let heads = heads.filter(|&head| with_end || head != "T").map(str::to_owned).collect();
    let cells: Vec<_> = std::iter::once(heads).chain(rows.clone().map(Row::cells)).collect();
    let side = |column| if column < 2 { Side::Left } else { Side::Right };
    let mut lines = aligned(&cells, side);
    for row in rows {
        if let Some(failure) = &row.failure {
            let start = row.cells()[..if with_end { 4 } else { 3 }].join(" ");
            lines.push(format!("{start}: {failure}"));
        }
    }
    lines.join("\n")
}

/// Writes all rows to a CSV file.
pub fn write_csv(path: &Path, rows: &[Row]) -> Result<()> {
    let mut writer = csv::Writer::from_path(path)?;
    writer.write_record(HEADS)?;
    for row in rows {
        writer.write_record(row.record())?;
    }
    writer.flush().map_err(Error::file("write", path))
}

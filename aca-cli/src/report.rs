//! What the program prints and the errors it ends with.

use std::io::{self, Write};
use std::path::Path;
use std::{env, thread};

use aca_models::training::replace;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

mod error;
mod refusal;
mod words;

pub use error::{Error, Result};
pub use refusal::Refusal;

/// Prints an error as the one message that the program ends with.
pub fn failure(error: &Error) {
    let _ = writeln!(io::stderr(), "error: {}", words::of_options(&error.to_string()));
}

/// Prints a line; a closed pipe is not an error.
pub fn line(text: &str) -> Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::file("write", Path::new("the standard output"))(error))
        }
        _ => Ok(()),
    }
}

/// Prints one line of JSON.
pub fn json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string(value).unwrap_or_default();
    line(&text)
}

/// Returns a progress bar to so many steps, drawn as indicatif's `template` says.
pub fn progress(steps: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::new(steps);
    let style = ProgressStyle::with_template(template);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// Writes a whole table anew, so that the file never holds half a line or a row twice.
pub fn table<T: Serialize>(path: &Path, rows: impl IntoIterator<Item = T>) -> Result<()> {
    let mut table = csv::Writer::from_writer(Vec::new());
    rows.into_iter().try_for_each(|row| table.serialize(row))?;
    let bytes = table.into_inner().map_err(|error| Error::Csv(error.into_error().into()))?;
    Ok(replace(path, &bytes)?)
}

/// The side of its column that a text keeps to.
#[derive(Clone, Copy)]
pub enum Side {
    /// The start of a line, for words.
    Left,
    /// The end, for numbers.
    Right,
}

/// Lines of cells in columns two blanks apart, each column on its side; rows may be of different
/// length.
pub fn aligned(rows: &[Vec<String>], side: impl Fn(usize) -> Side) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cells = |column: usize| rows.iter().filter_map(move |row| row.get(column));
    let width = |column| cells(column).map(String::len).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let padded = row.iter().zip(&widths).enumerate();
        let padded = padded.map(|(column, (cell, &width))| match side(column) {
            Side::Left => format!("{cell:<width$}"),
            Side::Right => format!("{cell:>width$}"),
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// What a run starts with: heads and texts in two columns, and an empty line.
pub fn facts(rows: &[(&str, String)]) -> String {
    let rows: Vec<_> =
        rows.iter().map(|(head, text)| vec![(*head).to_owned(), text.clone()]).collect();
    aligned(&rows, |_| Side::Left).join("\n") + "\n"
}

/// The number of threads, which `main` leaves where rayon looks for it.
pub fn threads() -> String {
    let cores = || thread::available_parallelism().map_or(1, usize::from).to_string();
    env::var("RAYON_NUM_THREADS").unwrap_or_else(|_| cores())
}

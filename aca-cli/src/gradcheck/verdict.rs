//! What a list of findings says, in sentences.

use super::row::Row;
use crate::strategy::Strategy;

/// The tolerance at which the strategies are compared.
pub const RTOL: f64 = 1e-7;
/// Relative errors to be reached.
const CLOSE: f64 = 1e-2;
const CLOSER: f64 = 2e-4;

/// Compares the strategies at one tolerance, by the tolerance that a close gradient needs, and by
/// the time of a closer one.
pub fn text(rows: &[Row]) -> String {
    let lists = [
        (format!("off at rtol {RTOL:e} with dopri5"), list(|strategy| at_rtol(rows, strategy))),
        (format!("within {} from rtol", percent(CLOSE)), list(|strategy| needs(rows, strategy))),
        (format!("least ms for {}", percent(CLOSER)), list(|strategy| cheapest(rows, strategy))),
    ];
    let lines = lists.iter().map(|(head, list)| format!("{head}: {list}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// What is known of each strategy.
fn list(entry: impl Fn(Strategy) -> Option<String>) -> String {
    let entries = Strategy::ALL
        .into_iter()
        .filter_map(|strategy| entry(strategy).map(|entry| format!("{} {entry}", strategy.name())));
    entries.collect::<Vec<_>>().join(", ")
}

fn dopri5(rows: &[Row], strategy: Strategy) -> impl DoubleEndedIterator<Item = &Row> {
    rows.iter().filter(move |row| row.strategy == strategy && row.method == "dopri5")
}

fn at_rtol(rows: &[Row], strategy: Strategy) -> Option<String> {
    let row = dopri5(rows, strategy).find(|row| row.rtol == Some(RTOL))?;
    Some(row.error.map_or_else(|| "failed".to_owned(), percent))
}

/// The loosest tolerance from which on every tighter one gives a close gradient.
fn needs(rows: &[Row], strategy: Strategy) -> Option<String> {
    let close = |row: &&Row| row.error.is_some_and(|error| error <= CLOSE);
    let loosest = dopri5(rows, strategy).rev().take_while(close).last()?;
    loosest.rtol.map(|rtol| format!("{rtol:e}"))
}

fn cheapest(rows: &[Row], strategy: Strategy) -> Option<String> {
    let closer = |row: &&Row| row.error.is_some_and(|error| error <= CLOSER);
    let found = rows.iter().filter(|row| row.strategy == strategy).filter(closer);
    let time = |row: &Row| row.ms.unwrap_or(f64::INFINITY);
    let best = found.min_by(|a, b| time(a).total_cmp(&time(b)))?;
    Some(format!("{:.2} ({})", best.ms?, best.method))
}

/// Two significant digits of a part of a hundred.
fn percent(part: f64) -> String {
    let hundredths = 100.0 * part;
    let decimals = (1.0 - hundredths.log10().floor()).clamp(0.0, 12.0) as usize;
    let text = format!("{hundredths:.decimals$}");
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} %")
}

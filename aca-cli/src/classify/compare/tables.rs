//! Tables of a comparison.

use std::path::Path;

use super::{Summary, Trained};
use crate::report::{Error, Result, Side, aligned};

/// The summaries as a printed table.
pub fn printed(summaries: &[Summary]) -> Vec<String> {
    let heads = [
        "trained by",
        "mean accuracy, %",
        "least to most, %",
        "seconds",
        "ACA's time to it",
        "NFE a batch",
        "reliability (ICC)",
    ];
    let percent = |x: Option<&f64>| format!("{:.2}", 100.0 * x.copied().unwrap_or_default());
    let rows = summaries.iter().map(|summary| {
        let accuracies = &summary.accuracies;
        vec![
            summary.contestant.name().to_owned(),
            percent(Some(&summary.mean_accuracy)),
            format!("{} to {}", percent(accuracies.first()), percent(accuracies.last())),
            format!("{:.1}", summary.seconds),
            format!("{:.2}", summary.aca_time_ratio),
            format!("{:.0} + {:.0}", summary.nfe[0], summary.nfe[1]),
            summary.reliability.map_or_else(|| "-".to_owned(), |icc| format!("{icc:.3}")),
        ]
    });
    let rows: Vec<_> = std::iter::once(heads.map(str::to_owned).to_vec()).chain(rows).collect();
    aligned(&rows, |column| if column == 0 { Side::Left } else { Side::Right })
}

/// Writes the summaries, one per line.
pub fn write_summaries(path: &Path, summaries: &[Summary]) -> Result<()> {
    let mut csv = csv::Writer::from_path(path)?;
    let heads = ["trained_by", "mean_accuracy", "least_accuracy", "most_accuracy", "seconds"];
    let more = ["aca_time_ratio", "nfe_forward", "nfe_backward", "reliability"];
    csv.write_record(heads.iter().chain(&more))?;
    for summary in summaries {
        let accuracies = &summary.accuracies;
        csv.serialize((
            summary.contestant,
            summary.mean_accuracy,
            (accuracies.first(), accuracies.last()),
            (summary.seconds, summary.aca_time_ratio),
            summary.nfe,
            summary.reliability,
        ))?;
    }
    csv.flush().map_err(Error::file("write", path))
}

/// Writes the epochs of all trainings, one per line.
pub fn write_epochs(path: &Path, runs: &[Trained]) -> Result<()> {
    let mut csv = csv::Writer::from_path(path)?;
    csv.write_record([
        "trained_by",
        "seed",
        "epoch",
        "seconds",
        "train_accuracy",
        "test_accuracy",
    ])?;
    for run in runs {
        for row in &run.history {
            let accuracies = (row.train.accuracy(), row.test.accuracy());
            csv.serialize((run.contestant, run.seed, row.epoch, row.seconds, accuracies))?;
        }
    }
    csv.flush().map_err(Error::file("write", path))
}

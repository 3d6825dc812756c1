//! Figures of what classifiers reached.

use std::path::{Path, PathBuf};

use super::compare::{Contestant, Summary, Trained};
use super::test::Finding;
use crate::plot::{Color, Figure, HUES, Key, Label, Marker, Panel, Point, Scale};
use crate::report::Result;

/// Error over evaluations, one curve a method; the network's own solver is pointed out.
pub fn solvers(stem: &Path, trained: &str, findings: &[Finding]) -> Result<Vec<PathBuf>> {
    let mut methods: Vec<&str> = Vec::new();
    for found in findings {
        if !methods.contains(&found.method.as_str()) {
            methods.push(&found.method);
        }
    }
    let markers = [Marker::Dot, Marker::Square, Marker::Diamond, Marker::Triangle];
    let key = |(i, method): (usize, &&str)| Key {
        name: (*method).to_owned(),
        color: color(i),
        width: if *method == trained { 3.0 } else { 1.5 },
        marker: markers[i % markers.len()],
    };
    let panel = |name, value: fn(&Finding) -> f64| {
        let place = |found: &Finding| (found.nfe, value(found));
        let curve = |method: &&str| of_method(method, findings).map(place).collect();
        let label = |found| Label {
            at: place(found),
            text: "as trained".to_owned(),
            color: crate::plot::INK,
        };
        Panel {
            title: String::new(),
            x: (
                Scale::logarithmic(findings.iter().map(|found| found.nfe)),
                "evaluations per batch",
            ),
            y: (Scale::logarithmic(findings.iter().map(value)), name),
            curves: methods.iter().map(curve).collect(),
            labels: findings.iter().filter(|found| found.trained).map(label).collect(),
        }
    };
    let figure = Figure {
        caption: &format!("Trained with {trained}, tested with other solvers"),
        keys: &methods.iter().enumerate().map(key).collect::<Vec<_>>(),
        panels: &[
            panel("test error, %", |found| 100.0 * (1.0 - found.test_accuracy)),
            panel("test loss", |found| found.test_loss),
        ],
        columns: 2,
        size: (560.0, 480.0),
    };
    Ok(figure.write(stem)?.into())
}

fn of_method<'a>(method: &'a str, findings: &'a [Finding]) -> impl Iterator<Item = &'a Finding> {
    findings.iter().filter(move |found| found.method == method)
}

/// Accuracy over epochs and over time, spread of the runs, reliability.
pub fn compare(stem: &Path, runs: &[Trained], summaries: &[Summary]) -> Result<Vec<PathBuf>> {
    let key = |(i, contestant): (usize, Contestant)| Key {
        name: contestant.name().to_owned(),
        color: color(i),
        width: 2.0,
        marker: Marker::None,
    };
    let figure = Figure {
        caption: &format!("{} runs each, with the same seeds", runs.len() / Contestant::ALL.len()),
        keys: &Contestant::ALL.into_iter().enumerate().map(key).collect::<Vec<_>>(),
        panels: &[
            over(runs, "epoch", |run, epoch| run.history[epoch].epoch as f64),
            over(runs, "seconds of training", |run, epoch| run.history[epoch].seconds),
            spread(summaries),
            reliability(summaries),
        ],
        columns: 2,
        size: (560.0, 400.0),
    };
    Ok(figure.write(stem)?.into())
}

fn color(i: usize) -> Color {
    HUES[i % HUES.len()]
}

/// Mean error of the runs after each epoch, over some measure of its length.
fn over(runs: &[Trained], x: &'static str, length: fn(&Trained, usize) -> f64) -> Panel {
    let curve = |contestant| {
        let own: Vec<_> = runs.iter().filter(|run| run.contestant == contestant).collect();
        let epochs = own.iter().map(|run| run.history.len()).min().unwrap_or(0);
        let mean = |value: &dyn Fn(&Trained) -> f64| {
            own.iter().map(|run| value(run)).sum::<f64>() / own.len() as f64
        };
        let point = |epoch: usize| {
            let error = |run: &Trained| 100.0 * (1.0 - run.history[epoch].test.accuracy());
            (mean(&|run| length(run, epoch)), mean(&error))
        };
        (0..epochs).map(point).collect::<Vec<Point>>()
    };
    let curves = Contestant::ALL.map(curve).to_vec();
    let points = || curves.iter().flatten();
    let last = points().map(|point| point.0).fold(0.0, f64::max);
    let errors = Scale::logarithmic(points().map(|point| point.1));
    let (x, y) = ((Scale::Linear(0.0, last), x), (errors, "mean test error, %"));
    Panel { title: String::new(), x, y, curves, labels: Vec::new() }
}

/// A box from quartile to quartile of each contestant's accuracies, whiskers to the ends.
fn spread(summaries: &[Summary]) -> Panel {
    let ends = summaries.iter().flat_map(|summary| &summary.accuracies).map(|x| 100.0 * x);
    let (low, high) = ends.fold((f64::MAX, f64::MIN), |(low, high), x| (low.min(x), high.max(x)));
    let room = (0.15 * (high - low)).max(0.1);
    let whisker = |(i, summary): (usize, &Summary)| {
        let at = |q| 100.0 * quantile(&summary.accuracies, q);
        box_plot(i as f64 + 1.0, [0.0, 0.25, 0.5, 0.75, 1.0].map(at))
    };
    Panel {
        title: String::new(),
        x: (Scale::Linear(0.4, summaries.len() as f64 + 0.6), "trained by, in the legend's order"),
        y: (Scale::Linear(low - room, high + room), "test accuracy, %"),
        curves: summaries.iter().enumerate().map(whisker).collect(),
        labels: Vec::new(),
    }
}

/// A bar as high as each contestant's reliability.
fn reliability(summaries: &[Summary]) -> Panel {
    let bar = |(i, summary): (usize, &Summary)| {
        let (middle, height) = (i as f64 + 1.0, summary.reliability.unwrap_or(0.0));
        let (left, right) = (middle - 0.25, middle + 0.25);
        vec![(left, 0.0), (left, height), (right, height), (right, 0.0), (left, 0.0)]
    };
    let label = |(i, summary): (usize, &Summary)| {
        let icc = summary.reliability?;
        let (at, text) = ((i as f64 + 1.0, icc), format!("{icc:.3}"));
        Some(Label { at, text, color: color(i) })
    };
    Panel {
        title: String::new(),
        x: (Scale::Linear(0.4, summaries.len() as f64 + 0.6), "trained by, in the legend's order"),
        y: (Scale::Linear(0.0, 1.1), "reliability (ICC)"),
        curves: summaries.iter().enumerate().map(bar).collect(),
        labels: summaries.iter().enumerate().filter_map(label).collect(),
    }
}

/// The outline of a box with whiskers, in one stroke.
fn box_plot(x: f64, [least, low, middle, high, most]: [f64; 5]) -> Vec<Point> {
    let (cap, half) = (0.12, 0.25);
    vec![
        (x - cap, least),
        (x + cap, least),
        (x, least),
        (x, low),
        (x - half, low),
        (x - half, middle),
        (x + half, middle),
        (x - half, middle),
        (x - half, high),
        (x, high),
        (x, most),
        (x - cap, most),
        (x + cap, most),
        (x, most),
        (x, high),
        (x + half, high),
        (x + half, low),
        (x, low),
    ]
}

/// The number below which a share of sorted `numbers` lies, interpolated; 0 of none.
pub fn quantile(numbers: &[f64], share: f64) -> f64 {
    let Some(last) = numbers.len().checked_sub(1) else { return 0.0 };
    let place = share * last as f64;
    let (below, rest) = (place as usize, place.fract());
    numbers[below] + rest * (numbers[(below + 1).min(last)] - numbers[below])
}

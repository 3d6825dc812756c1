//! Figures of the findings.

use std::path::{Path, PathBuf};

use super::reverse::Return;
use super::row::Row;
use super::samples::Finding;
use super::trust::Trust;
use super::verdict;
use crate::plot::{Color, Figure, HUES, INK, Key, Label, Marker, Panel, Scale, faded};
use crate::report::Result;
use crate::strategy::Strategy;

const ERROR: &str = "relative error of the gradient";

/// One panel a tolerance: error over the length of the span, one curve a strategy.
pub fn linear(stem: &Path, rows: &[Row], rtols: &[f64]) -> Result<Vec<PathBuf>> {
    let errors = Scale::logarithmic(rows.iter().filter_map(|row| row.error));
    let points = |rtol: f64, strategy: Strategy| {
        let rows = rows.iter().filter(|row| row.rtol == Some(rtol) && row.strategy == strategy);
        rows.filter_map(|row| row.end.zip(row.error)).collect()
    };
    let panel = |&rtol: &f64| Panel {
        title: format!("rtol = {}", power(rtol)),
        x: (Scale::Linear(0.0, 20.0), "end of the span T"),
        y: (errors, if rtol == rtols[0] { ERROR } else { "" }),
        curves: Strategy::ALL.map(|strategy| points(rtol, strategy)).into(),
        labels: Vec::new(),
    };
    let figure = Figure {
        caption: "dz/dt = −z/2, L = z(T)²: error of dL/dz(0)",
        keys: &Strategy::ALL.map(|strategy| key(strategy, None)),
        panels: &rtols.iter().map(panel).collect::<Vec<_>>(),
        columns: rtols.len(),
        size: (1260.0 / rtols.len().max(2) as f64, 440.0),
    };
    Ok(figure.write(stem)?.into())
}

/// Error against time, one curve for each strategy and method.
pub fn work_precision(stem: &Path, caption: &str, rows: &[Row]) -> Result<Vec<PathBuf>> {
    let mut entrants: Vec<(Strategy, &str)> = Vec::new();
    for row in rows.iter().filter(|row| row.error.is_some()) {
        if !entrants.contains(&(row.strategy, &row.method)) {
            entrants.push((row.strategy, &row.method));
        }
    }
    let points = |(strategy, method): &(Strategy, &str)| {
        let rows = rows.iter().filter(|row| row.strategy == *strategy && row.method == *method);
        rows.filter_map(|row| row.ms.zip(row.error)).collect()
    };
    // Where one strategy steps by many methods, these are told apart by colour.
    let count = |strategy: Strategy| entrants.iter().filter(|own| own.0 == strategy).count();
    let many = entrants.iter().any(|own| count(own.0) > 3);
    let times = Scale::logarithmic(rows.iter().filter_map(|row| row.ms));
    let errors = Scale::logarithmic(rows.iter().filter_map(|row| row.error));
    let panel = Panel {
        title: String::new(),
        x: (times, "time of solve and gradient, ms"),
        y: (errors, ERROR),
        curves: entrants.iter().map(points).collect(),
        labels: rows.iter().filter(|_| !many).filter_map(same_tolerance).collect(),
    };
    let keys = entrants.iter().enumerate().map(|(i, &(strategy, method))| {
        let own = key(strategy, Some(method));
        if many { Key { color: HUES[i % HUES.len()], ..own } } else { own }
    });
    let figure = Figure {
        caption,
        keys: &keys.collect::<Vec<_>>(),
        panels: &[panel],
        columns: 1,
        size: (900.0, 560.0),
    };
    Ok(figure.write(stem)?.into())
}

/// Marks where the methods' tolerance is the same.
fn same_tolerance(row: &Row) -> Option<Label> {
    let at = row.ms.zip(row.error)?;
    let shown = row.rtol == Some(verdict::RTOL) && row.method == "dopri5";
    let color = key(row.strategy, None).color;
    shown.then(|| Label { at, text: format!("rtol {}", power(verdict::RTOL)), color })
}

/// Time and error over the spread of stiffness in a batch.
pub fn samples(stem: &Path, findings: &[Finding]) -> Result<Vec<PathBuf>> {
    let ways = [(false, "one step for all", HUES[1]), (true, "a clock for each", HUES[0])];
    let curves = |value: fn(&Finding) -> f64| {
        let of = |own| findings.iter().filter(move |found| found.own_clocks == own);
        ways.map(|(own, ..)| of(own).map(|found| (found.mu_max, value(found))).collect()).to_vec()
    };
    let panel = |name, value: fn(&Finding) -> f64| Panel {
        title: String::new(),
        x: (Scale::Log(1.0, 100.0), "largest stiffness μ in the batch (the smallest is 1)"),
        y: (Scale::logarithmic(findings.iter().map(value)), name),
        curves: curves(value),
        labels: Vec::new(),
    };
    let key = |(_, name, color): (bool, &str, Color)| Key {
        name: name.to_owned(),
        color,
        width: 2.0,
        marker: Marker::Dot,
    };
    let figure = Figure {
        caption: "256 van der Pol oscillators to t = 10, dopri5 at 10^−6",
        keys: &ways.map(key),
        panels: &[
            panel("solve and gradient, ms", |found| found.ms),
            panel(ERROR, |found| found.error),
        ],
        columns: 2,
        size: (560.0, 440.0),
    };
    Ok(figure.write(stem)?.into())
}

/// Bounds of losses' errors over the true ones, one curve a problem; on the diagonal both are the same.
pub fn trust(stem: &Path, findings: &[Trust]) -> Result<Vec<PathBuf>> {
    let mut names: Vec<&str> = findings.iter().map(|found| found.problem).collect();
    names.dedup();
    let measured = |found: &&Trust| found.error > 0.0 && found.bound > 0.0;
    let points = |name: &&str| {
        let own = findings.iter().filter(|found| found.problem == *name).filter(measured);
        own.map(|found| (found.error, found.bound)).collect()
    };
    let all = findings.iter().filter(measured);
    let scale = Scale::logarithmic(all.flat_map(|found| [found.error, found.bound]));
    let Scale::Log(low, high) = scale else { return Ok(Vec::new()) };
    let panel = Panel {
        title: String::new(),
        x: (scale, "true error of the loss"),
        y: (scale, "bound from its backward pass"),
        curves: names.iter().map(points).chain([vec![(low, low), (high, high)]]).collect(),
        labels: Vec::new(),
    };
    let markers = [Marker::Dot, Marker::Square, Marker::Ring, Marker::Diamond, Marker::Triangle];
    let looks = HUES.into_iter().zip(markers);
    let key = |(name, (color, marker)): (&&str, (Color, Marker))| Key {
        name: (*name).to_owned(),
        color,
        width: 2.0,
        marker,
    };
    let mut keys: Vec<Key> = names.iter().zip(looks).map(key).collect();
    let name = "bound = error".to_owned();
    keys.push(Key { name, color: faded(INK), width: 2.0, marker: Marker::None });
    let figure = Figure {
        caption: "The error of a loss, known from one backward pass: dopri5 at tolerances of 1e-3 to 1e-10",
        keys: &keys,
        panels: &[panel],
        columns: 1,
        size: (900.0, 620.0),
    };
    Ok(figure.write(stem)?.into())
}

/// The trajectory forward and back, and the distance between both.
pub fn reverse(stem: &Path, returns: &[Return]) -> Result<Vec<PathBuf>> {
    let Some(last) = returns.last() else { return Ok(Vec::new()) };
    let mut keys: Vec<_> = returns.iter().zip(HUES).map(back).collect();
    keys.push(Key {
        name: "forward".to_owned(),
        color: faded(INK),
        width: 7.0,
        marker: Marker::None,
    });
    let x = |y: &Vec<f64>| y[0];
    let back = |turned: &Return| {
        let places = turned.ts.iter().zip(&turned.backward);
        places.filter_map(|(&t, y)| y.as_ref().map(|y| (t, x(y)))).collect()
    };
    let forward = last.ts.iter().copied().zip(last.forward.iter().map(x)).collect();
    let time = (Scale::Linear(0.0, last.ts.last().copied().unwrap_or(1.0)), "time t");
    let replayed = "replayed from checkpoints: exactly 0".to_owned();
    let paths = Panel {
        title: String::new(),
        x: time,
        y: (Scale::Linear(-3.5, 3.5), "x(t)"),
        curves: returns.iter().map(back).chain([forward]).collect(),
        labels: returns.iter().zip(HUES).filter_map(failure).collect(),
    };
    let distances = Panel {
        title: String::new(),
        x: time,
        y: (Scale::Log(1e-15, 1e2), "distance to the forward solve"),
        curves: returns.iter().map(Return::distances).collect(),
        labels: vec![Label { at: (0.0, 1e-14), text: replayed, color: INK }],
    };
    let figure = Figure {
        caption: "Van der Pol, μ = 1: solved to t = 20, then back",
        keys: &keys,
        panels: &[paths, distances],
        columns: 1,
        size: (900.0, 330.0),
    };
    Ok(figure.write(stem)?.into())
}

fn back((turned, color): (&Return, Color)) -> Key {
    let name = format!("back, rtol = {}", power(turned.rtol));
    Key { name, color, width: 2.0, marker: Marker::None }
}

/// Says where a solve backward failed.
fn failure((turned, color): (&Return, Color)) -> Option<Label> {
    let first = turned.backward.iter().position(Option::is_some).filter(|&first| first > 0)?;
    let text = format!("fails at t = {:.1}", turned.ts[first]);
    Some(Label { at: (turned.ts[first], -3.1), text, color })
}

/// One colour a strategy, one marker a method.
fn key(strategy: Strategy, method: Option<&str>) -> Key {
    let (color, usual) = match strategy {
        Strategy::Aca | Strategy::AcaBudget => (HUES[0], Marker::Dot),
        Strategy::Naive => (HUES[2], Marker::Ring),
        Strategy::NaiveThroughStepSize => (HUES[4], Marker::Triangle),
        Strategy::Backsolve => (HUES[1], Marker::Square),
        Strategy::Mali => (HUES[3], Marker::Diamond),
    };
    let marker = match method {
        Some("tsit5") => Marker::Ring,
        Some("dop853") => Marker::Diamond,
        Some(method) if method.ends_with("no restart") => Marker::Ring,
        _ => usual,
    };
    let name = strategy.name().replace('_', " ");
    let name = method.map_or_else(|| name.clone(), |method| format!("{name}, {method}"));
    Key { name, color, width: 2.0, marker }
}

/// A power of ten as pictures write it.
fn power(x: f64) -> String {
    format!("10^−{}", -x.log10().round())
}

//! A solution over time, and its path through space.

use std::path::Path;

use super::HUES;
use super::axes::{Axes, Rect};
use super::axis::Axis;
use super::canvas::{Canvas, Point, render};
use super::curves::{self, Chart};
use super::legend::{self, Entry, Sample};
use super::orbits::{Orbits, paths};
use super::space::{Eye, Space};
use crate::report::Result;

/// A solution at many times.
pub struct Trajectory<'a> {
    pub ts: &'a [f64],
    /// One state a time.
    pub ys: &'a [Vec<f64>],
    /// Names of the state's entries.
    pub names: &'a [&'a str],
    /// The start from which time grows on a logarithmic axis.
    pub log_from: Option<f64>,
}

/// How the path through the state space is drawn.
#[derive(Clone, Copy, PartialEq)]
pub enum Portrait {
    /// Not at all.
    None,
    /// Two entries in a plane.
    Plane,
    /// Three entries in space.
    Space,
    /// Three bodies in space: the first nine entries are positions. Instead of curves over time.
    Bodies,
}

const HEIGHT: usize = 480;

/// Draws the solution over time and, to the right, its portrait.
pub fn trajectory(
    path: &Path,
    trajectory: &Trajectory<'_>,
    portrait: Portrait,
    caption: &str,
) -> Result<()> {
    if portrait == Portrait::Bodies {
        return paths(path, &bodies(trajectory.ys), None, caption);
    }
    let width = if portrait == Portrait::None { 860 } else { 1320 };
    let rect = Rect { left: 20.0, top: 64.0, width: 840.0, height: HEIGHT as f64 - 74.0 };
    let beside = Rect { left: 880.0, width: 420.0, ..rect };
    let image = render(width, HEIGHT, |canvas| {
        super::caption(canvas, caption, width as f64 - 24.0);
        over_time(canvas, rect, trajectory);
        match portrait {
            Portrait::Plane => plane(canvas, beside, trajectory),
            Portrait::Space => space(canvas, beside, trajectory),
            Portrait::None | Portrait::Bodies => {}
        }
    })?;
    image.write_png(path)
}

fn over_time(canvas: &mut Canvas, rect: Rect, trajectory: &Trajectory<'_>) {
    let Trajectory { ts, ys, names, log_from } = trajectory;
    let time = |t: f64| log_from.map_or(t, |t0| (t - t0).abs());
    let points = |i: usize| -> Vec<Point> {
        let all = ts.iter().zip(*ys).map(|(&t, y)| (time(t), y[i]));
        all.filter(|point| log_from.is_none() || point.0 > 0.0).collect()
    };
    let series: Vec<_> = names.iter().enumerate().map(|(i, &name)| (name, points(i))).collect();
    let y_label = match names {
        [only] => format!("{only} (dimensionless)"),
        _ => "state (dimensionless)".to_owned(),
    };
    let chart = Chart {
        series: &series,
        x_label: "time (dimensionless)",
        y_label: &y_label,
        caption: "",
        mark: None,
    };
    // Numbers of all sizes show their course by their powers of ten.
    let positive = ys.iter().skip(1).flatten().all(|y| *y > 0.0);
    let axis = |log: bool| if log { Axis::logarithmic } else { Axis::around };
    let (x, y) = (axis(log_from.is_some()), axis(positive && log_from.is_some()));
    curves::draw_on(canvas, rect, &chart, (|xs| x(xs, 0.0), y));
}

fn plane(canvas: &mut Canvas, rect: Rect, trajectory: &Trajectory<'_>) {
    let points: Vec<Point> = trajectory.ys.iter().map(|y| (y[0], y[1])).collect();
    let axis = |pick: fn(&Point) -> f64| Axis::around(points.iter().map(pick), 0.05);
    let (x, y) = (axis(|point| point.0), axis(|point| point.1));
    let axes = Axes::draw(canvas, rect, (x, trajectory.names[0]), (y, trajectory.names[1]));
    axes.curve(canvas, &points, 1.75, HUES[0]);
    ends(canvas, rect, points.iter().map(|&point| axes.place(point)));
}

fn space(canvas: &mut Canvas, rect: Rect, trajectory: &Trajectory<'_>) {
    let points = trajectory.ys.iter().map(|y| [y[0], y[1], y[2]]);
    let space = Space::around(points.clone(), Eye { yaw: -60.0, pitch: 20.0 }, rect);
    let names = [0, 1, 2].map(|i| trajectory.names[i]);
    space.draw_box(canvas, names);
    let places = points.map(|point| space.place(point));
    canvas.line(places.clone(), 1.25, HUES[0]);
    ends(canvas, rect, places);
}

/// Marks the start of a path by a hollow dot and its end by a filled one.
fn ends(canvas: &mut Canvas, rect: Rect, mut places: impl Iterator<Item = Point>) {
    let Some(start) = places.next() else { return };
    canvas.ring(start, 5.0, 1.75, HUES[0]);
    canvas.dot(places.last().unwrap_or(start), 5.0, HUES[0]);
    let entries = [
        Entry { text: "start", sample: Sample::Ring(HUES[0]) },
        Entry { text: "end", sample: Sample::Dot(HUES[0]) },
    ];
    legend::draw(canvas, (rect.left + rect.width - 14.0, rect.top - 16.0), &entries);
}

fn bodies(ys: &[Vec<f64>]) -> Orbits {
    let body = |i: usize| ys.iter().map(|y| [0, 1, 2].map(|x| y[3 * i + x])).collect();
    [body(0), body(1), body(2)]
}

//! Curves over a common x axis.

use std::path::Path;

use super::axes::{Axes, Rect};
use super::axis::Axis;
use super::canvas::{Canvas, Point, Type, render};
use super::legend::{self, Entry, Sample};
use super::{HUES, INK};
use crate::report::Result;

pub(super) const MARK_SIZE: f64 = 15.0;

/// Curves over a common x axis.
pub struct Chart<'a> {
    /// Names and points.
    pub series: &'a [(&'a str, Vec<Point>)],
    /// What x is.
    pub x_label: &'a str,
    /// What y is.
    pub y_label: &'a str,
    /// The line above the picture.
    pub caption: &'a str,
    /// A point to point out.
    pub mark: Option<Mark>,
}

/// A point with a label.
pub struct Mark {
    /// Where it lies.
    pub at: Point,
    /// What is said of it.
    pub label: String,
}

/// Draws curves with a logarithmic y axis; points with y <= 0 are left out.
pub fn loss_curve(path: &Path, chart: &Chart<'_>) -> Result<()> {
    let (width, height) = (900, 520);
    let rect =
        Rect { left: 20.0, top: 64.0, width: width as f64 - 30.0, height: height as f64 - 74.0 };
    let image = render(width, height, |canvas| {
        super::caption(canvas, chart.caption, width as f64 - 24.0);
        draw(canvas, rect, chart, Axis::logarithmic);
    })?;
    image.write_png(path)
}

/// Draws the chart into `rect`, its legend above.
pub fn draw(
    canvas: &mut Canvas,
    rect: Rect,
    chart: &Chart<'_>,
    y_axis: impl Fn(Vec<f64>, f64) -> Axis,
) {
    draw_on(canvas, rect, chart, (|xs| Axis::around(xs, 0.0), y_axis));
}

/// The same with an x axis that is asked for.
pub fn draw_on(
    canvas: &mut Canvas,
    rect: Rect,
    chart: &Chart<'_>,
    (x_axis, y_axis): (impl Fn(Vec<f64>) -> Axis, impl Fn(Vec<f64>, f64) -> Axis),
) {
    let marked = || chart.mark.iter().map(|mark| &mark.at);
    let points = || chart.series.iter().flat_map(|(_, points)| points).chain(marked());
    let x = x_axis(points().map(|point| point.0).collect());
    let y = y_axis(points().map(|point| point.1).collect(), 0.05);
    let axes = Axes::draw(canvas, rect, (x, chart.x_label), (y, chart.y_label));
    let mut entries = Vec::new();
    for ((name, points), color) in chart.series.iter().zip(HUES.into_iter().cycle()) {
        axes.curve(canvas, points, 2.0, color);
        entries.push(Entry { text: name, sample: Sample::Line { width: 3.0, color } });
    }
    if entries.len() > 1 {
        legend::draw(canvas, (rect.left + rect.width - 14.0, rect.top - 16.0), &entries);
    }
    if let Some(mark) = &chart.mark {
        let at = axes.place(mark.at);
        canvas.ring(at, 6.0, 2.0, INK);
        let place = free_place(canvas, axes.plane(), at, &mark.label);
        canvas.text(&mark.label, place, Type::new(MARK_SIZE, INK, 0.0));
    }
}

/// Where a text beside `at` covers the least: to the right, to the left, below or above.
pub(super) fn free_place(canvas: &Canvas, plane: Rect, at: Point, text: &str) -> Point {
    let (width, half) = (canvas.text_width(text, MARK_SIZE), 0.5 * MARK_SIZE);
    let (x, y) = at;
    let places = [
        (x + 14.0, y),
        (x - 14.0 - width, y),
        (x - width / 2.0, y + 20.0),
        (x - width / 2.0, y - 20.0),
    ];
    let covered = |&(left, y): &Point| {
        let inside = left > plane.left
            && left + width < plane.left + plane.width
            && y - half > plane.top
            && y + half < plane.top + plane.height;
        if inside { canvas.covered((left, left + width), (y - half, y + half)) } else { usize::MAX }
    };
    places.into_iter().min_by_key(covered).unwrap_or(at)
}

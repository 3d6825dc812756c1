//! Curves with markers in one or more panels, on plain or logarithmic axes, as PNG and SVG.

use std::path::{Path, PathBuf};

use super::axes::{Axes, Rect};
use super::axis::Axis;
use super::canvas::{Canvas, Color, Image, Point, Type, render, span};
use super::curves;
use super::legend::{self, Entry, Sample};
use super::{INK, WHITE};
use crate::report::Result;

/// Panels of one size that share a legend.
pub struct Figure<'a> {
    /// The line above the picture.
    pub caption: &'a str,
    /// Names and looks of the curves.
    pub keys: &'a [Key],
    /// The panels, row by row.
    pub panels: &'a [Panel],
    /// Panels in a row.
    pub columns: usize,
    /// Width and height of a panel in pixels, its ticks and labels included.
    pub size: (f64, f64),
}

/// Name and look of a curve.
pub struct Key {
    /// What the legend calls it.
    pub name: String,
    /// Its colour.
    pub color: Color,
    /// Width of its line in pixels.
    pub width: f64,
    /// What stands on its points.
    pub marker: Marker,
}

/// What stands on the points of a curve.
#[derive(Clone, Copy, PartialEq)]
pub enum Marker {
    /// Nothing.
    None,
    /// A filled dot.
    Dot,
    /// A hollow dot.
    Ring,
    /// A square.
    Square,
    /// A square on its corner.
    Diamond,
    /// A triangle.
    Triangle,
}

/// A plane with curves.
pub struct Panel {
    /// What stands above it.
    pub title: String,
    /// Scale and meaning of x.
    pub x: (Scale, &'static str),
    /// Scale and meaning of y.
    pub y: (Scale, &'static str),
    /// Curves in the order of the figure's keys, the first on top; a curve may be empty.
    pub curves: Vec<Vec<Point>>,
    /// Texts beside places of the plane.
    pub labels: Vec<Label>,
}

/// A text beside a place of the plane.
pub struct Label {
    pub at: Point,
    pub text: String,
    pub color: Color,
}

/// How numbers are laid along an axis.
#[derive(Clone, Copy)]
pub enum Scale {
    /// Evenly, from one number to another.
    Linear(f64, f64),
    /// By their powers of ten, from one number to another; others are left out.
    Log(f64, f64),
}

const TITLE_SIZE: f64 = 16.0;
const MARGIN: f64 = 20.0;
const LEGEND_ROW: f64 = 26.0;

impl Figure<'_> {
    /// Writes the figure to `stem` with the endings `.png` and `.svg`; returns both paths.
    pub fn write(&self, stem: &Path) -> Result<[PathBuf; 2]> {
        let image = self.render()?;
        let paths = ["png", "svg"].map(|ending| stem.with_extension(ending));
        image.write_png(&paths[0])?;
        image.write_svg(&paths[1])?;
        Ok(paths)
    }

    /// Writes the figure to a PNG file.
    pub fn write_png(&self, path: &Path) -> Result<()> {
        self.render()?.write_png(path)
    }

    fn render(&self) -> Result<Image> {
        let rows = self.panels.len().div_ceil(self.columns);
        let (panel_width, panel_height) = self.size;
        let width = 2.0 * MARGIN + panel_width * self.columns as f64;
        let chunks = self.legend_rows(width);
        let head = 60.0 + LEGEND_ROW * chunks.len() as f64;
        let height = head + panel_height * rows as f64;
        render(width as usize, height as usize, |canvas| {
            super::caption(canvas, self.caption, width - 24.0);
            for (row, keys) in chunks.iter().enumerate() {
                let y = 30.0 + LEGEND_ROW * (row + 1) as f64;
                let entries: Vec<Entry<'_>> = keys.iter().map(Key::entry).collect();
                legend::draw(canvas, (width - MARGIN - 14.0, y), &entries);
            }
            let size = Rect {
                left: MARGIN,
                top: head,
                width: panel_width - 6.0,
                height: panel_height - MARGIN,
            };
            let gutter = |panel: &Panel| Axes::gutter(canvas, size, &panel.y.0.axis());
            let gutters: Vec<f64> = self.panels.iter().map(gutter).collect();
            let widest = gutters.iter().copied().fold(0.0, f64::max);
            for (i, (panel, gutter)) in self.panels.iter().zip(gutters).enumerate() {
                let left = size.left + panel_width * (i % self.columns) as f64 + widest - gutter;
                let top = size.top + panel_height * (i / self.columns) as f64;
                let width = size.width - (widest - gutter);
                self.panel(canvas, Rect { left, top, width, ..size }, panel);
            }
        })
    }

    /// The keys in as many rows as they need, about as many keys in each.
    fn legend_rows(&self, width: f64) -> Vec<&[Key]> {
        let letters: usize = self.keys.iter().map(|key| key.name.len()).sum();
        let length = 60.0 * self.keys.len() as f64 + 7.5 * letters as f64;
        let rows = (length / width).ceil().max(1.0) as usize;
        self.keys.chunks(self.keys.len().div_ceil(rows).max(1)).collect()
    }

    fn panel(&self, canvas: &mut Canvas, rect: Rect, panel: &Panel) {
        let x = (panel.x.0.axis(), panel.x.1);
        let y = (panel.y.0.axis(), panel.y.1);
        let axes = Axes::draw(canvas, rect, x, y);
        let plane = axes.plane();
        let inside = |&(x, y): &Point| {
            let (right, bottom) = (plane.left + plane.width, plane.top + plane.height);
            x >= plane.left - 0.5 && x <= right + 0.5 && y >= plane.top && y <= bottom
        };
        let curves = panel.curves.iter().zip(self.keys).rev();
        let place = |&point: &Point| axes.place(point);
        for (points, key) in curves.clone() {
            let places: Vec<Point> = points.iter().map(place).collect();
            for run in places.split(|place| !inside(place)) {
                canvas.line(run.iter().copied(), key.width, key.color);
            }
        }
        for (points, key) in curves {
            for place in points.iter().map(place).filter(inside) {
                key.marker.draw(canvas, place, key.color);
            }
        }
        for Label { at, text, color } in &panel.labels {
            let place = curves::free_place(canvas, plane, axes.place(*at), text);
            canvas.text(text, place, Type::new(curves::MARK_SIZE, *color, 0.0));
        }
        let title = (plane.left + 10.0, plane.top + 14.0);
        canvas.text(&panel.title, title, Type::new(TITLE_SIZE, INK, 0.0));
    }
}

impl Key {
    fn entry(&self) -> Entry<'_> {
        let &Self { width, color, marker, .. } = self;
        let sample = match marker {
            Marker::None => Sample::Line { width, color },
            marker => Sample::Marked { width, color, marker },
        };
        Entry { text: &self.name, sample }
    }
}

impl Scale {
    /// A logarithmic scale of all positive ones of `numbers`, with a margin.
    pub fn logarithmic(numbers: impl Iterator<Item = f64>) -> Self {
        let (low, high) = span(numbers.filter(|&x| x > 0.0 && x.is_finite()));
        if low > high { Self::Log(0.1, 10.0) } else { Self::Log(low / 1.5, high * 1.5) }
    }

    fn axis(self) -> Axis {
        match self {
            Self::Linear(low, high) => Axis::new(low, high),
            Self::Log(low, high) => Axis::logarithmic([low, high], 0.0),
        }
    }
}

impl Marker {
    /// Draws the marker.
    pub fn draw(self, canvas: &mut Canvas, at: Point, color: Color) {
        let corners = |radius: f64, angles: &[f64]| {
            let corner = |angle: &f64| {
                let (sin, cos) = angle.to_radians().sin_cos();
                (at.0 + radius * cos, at.1 + radius * sin)
            };
            angles.iter().map(corner).collect::<Vec<Point>>()
        };
        match self {
            Self::None => {}
            Self::Dot => canvas.dot(at, 4.0, color),
            Self::Ring => {
                canvas.dot(at, 6.0, color);
                canvas.dot(at, 4.2, WHITE);
            }
            Self::Square => canvas.polygon(&corners(5.8, &[45.0, 135.0, 225.0, 315.0]), color),
            Self::Diamond => canvas.polygon(&corners(6.2, &[0.0, 90.0, 180.0, 270.0]), color),
            Self::Triangle => canvas.polygon(&corners(6.2, &[-90.0, 30.0, 150.0]), color),
        }
    }
}

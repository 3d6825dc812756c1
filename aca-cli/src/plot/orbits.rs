//! The orbits of three bodies.

use std::path::Path;

use super::axes::Rect;
use super::canvas::{Canvas, Type, render};
use super::legend::{self, Entry, Sample};
use super::space::{Eye, Space};
use super::{HUES, MUTED, WHITE, mixed};
use crate::report::Result;

/// The path of each of the three bodies.
pub type Orbits = [Vec<[f64; 3]>; 3];

/// Draws true and fitted orbits in space, seen from three sides.
pub fn orbits(path: &Path, truth: &Orbits, fitted: &Orbits, caption: &str) -> Result<()> {
    paths(path, truth, Some(fitted), caption)
}

/// Draws true orbits, and fitted ones on top, seen from three sides.
pub fn paths(path: &Path, truth: &Orbits, fitted: Option<&Orbits>, caption: &str) -> Result<()> {
    let eyes = [(-60.0, 22.0), (-15.0, 22.0), (-60.0, 75.0)];
    let (width, height) = (1500, 560);
    let image = render(width, height, |canvas| {
        canvas.text(caption, (24.0, 30.0), Type::caption());
        for (i, (yaw, pitch)) in eyes.into_iter().enumerate() {
            let left = 10.0 + 495.0 * i as f64;
            let rect = Rect { left, top: 60.0, width: 485.0, height: 480.0 };
            panel(canvas, rect, Eye { yaw, pitch }, truth, fitted);
        }
        explain(canvas, (width as f64 - 24.0, 30.0), fitted.is_some());
    })?;
    image.write_png(path)
}

fn panel(canvas: &mut Canvas, rect: Rect, eye: Eye, truth: &Orbits, fitted: Option<&Orbits>) {
    let points = truth.iter().chain(fitted.into_iter().flatten()).flatten().copied();
    let space = Space::around(points, eye, rect);
    space.draw_box(canvas, ["x", "y", "z"]);
    let (width, strength) = if fitted.is_some() { (6.0, 0.3) } else { (2.0, 1.0) };
    for (orbit, hue) in truth.iter().zip(HUES) {
        let places = orbit.iter().map(|&point| space.place(point));
        canvas.line(places, width, mixed(WHITE, hue, strength));
    }
    for (orbit, hue) in fitted.into_iter().flatten().zip(HUES) {
        canvas.line(orbit.iter().map(|&point| space.place(point)), 1.5, hue);
    }
    for (orbit, hue) in fitted.unwrap_or(truth).iter().zip(HUES) {
        if let (Some(&start), Some(&end)) = (orbit.first(), orbit.last()) {
            canvas.ring(space.place(start), 5.0, 1.75, hue);
            canvas.dot(space.place(end), 5.5, hue);
        }
    }
}

fn explain(canvas: &mut Canvas, right: (f64, f64), with_fit: bool) {
    let line = |width, color| Sample::Line { width, color };
    let mut entries = vec![
        Entry { text: "star 1", sample: line(3.0, HUES[0]) },
        Entry { text: "star 2", sample: line(3.0, HUES[1]) },
        Entry { text: "star 3", sample: line(3.0, HUES[2]) },
    ];
    if with_fit {
        entries.push(Entry { text: "true", sample: line(6.0, mixed(WHITE, MUTED, 0.35)) });
        entries.push(Entry { text: "fitted", sample: line(1.5, MUTED) });
    }
    entries.push(Entry { text: "start", sample: Sample::Ring(MUTED) });
    entries.push(Entry { text: "end", sample: Sample::Dot(MUTED) });
    legend::draw(canvas, right, &entries);
}

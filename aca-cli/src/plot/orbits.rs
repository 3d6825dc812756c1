//! The orbits of three bodies.

use std::path::Path;

use super::axes::Rect;
use super::canvas::{Canvas, Point, Type, render};
use super::legend::{self, Entry, Sample};
use super::space::{Eye, Space};
use super::{HUES, MUTED, WHITE, mixed};
use crate::report::Result;

/// Shows the orbits' loops with the least overlap.
pub const EYE: Eye = Eye { yaw: -60.0, pitch: 22.0 };

/// The path of each of the three bodies.
pub type Orbits = [Vec<[f64; 3]>; 3];

/// Draws true and fitted orbits in space, one panel a star.
pub fn orbits(path: &Path, truth: &Orbits, fitted: &Orbits, caption: &str) -> Result<()> {
    paths(path, truth, Some(fitted), caption)
}

/// Draws true orbits, and fitted ones on top, one panel a star.
pub fn paths(path: &Path, truth: &Orbits, fitted: Option<&Orbits>, caption: &str) -> Result<()> {
    let (width, height) = (1500, 560);
    let image = render(width, height, |canvas| {
        for star in 0..3 {
            let left = 10.0 + 495.0 * star as f64;
            let rect = Rect { left, top: 70.0, width: 485.0, height: 480.0 };
            panel(canvas, rect, star, truth, fitted);
        }
        let start = explain(canvas, (width as f64 - 24.0, 30.0), fitted.is_some());
        super::caption(canvas, caption, start);
        let foot = (width as f64 - 24.0, height as f64 - 16.0);
        canvas.text("lengths in units of 35.6 au", foot, Type::new(13.0, MUTED, 1.0));
    })?;
    image.write_png(path)
}

fn panel(canvas: &mut Canvas, rect: Rect, star: usize, truth: &Orbits, fitted: Option<&Orbits>) {
    let points = truth.iter().chain(fitted.into_iter().flatten()).flatten().copied();
    let space = Space::around(points, EYE, rect);
    space.draw_box(canvas, ["x", "y", "z"]);
    let title = Type::new(17.0, HUES[star], 0.0);
    canvas.text(&format!("star {}", star + 1), (rect.left + 14.0, rect.top + 10.0), title);
    let draw = |canvas: &mut Canvas, orbit: &[[f64; 3]], width, color| {
        canvas.line(orbit.iter().map(|&point| space.place(point)), width, color);
    };
    for other in (0..3).filter(|&other| other != star) {
        draw(canvas, &truth[other], 1.25, mixed(WHITE, HUES[other], 0.3));
    }
    let (hue, strength) = (HUES[star], if fitted.is_some() { 0.35 } else { 1.0 });
    draw(
        canvas,
        &truth[star],
        if fitted.is_some() { 7.0 } else { 2.0 },
        mixed(WHITE, hue, strength),
    );
    if let Some(fitted) = fitted {
        draw(canvas, &fitted[star], 1.75, hue);
    }
    let orbit = &fitted.unwrap_or(truth)[star];
    if let (Some(&start), Some(&end)) = (orbit.first(), orbit.last()) {
        canvas.ring(space.place(start), 5.0, 1.75, hue);
        canvas.dot(space.place(end), 5.5, hue);
    }
}

fn explain(canvas: &mut Canvas, right: Point, with_fit: bool) -> f64 {
    let line = |text, width, color| Entry { text, sample: Sample::Line { width, color } };
    let mut entries = Vec::new();
    if with_fit {
        entries.push(line("true", 7.0, mixed(WHITE, MUTED, 0.35)));
        entries.push(line("fitted", 1.75, MUTED));
    }
    entries.push(line("other stars", 1.25, mixed(WHITE, MUTED, 0.4)));
    entries.push(Entry { text: "start", sample: Sample::Ring(MUTED) });
    entries.push(Entry { text: "end", sample: Sample::Dot(MUTED) });
    legend::draw(canvas, right, &entries)
}

//! What lines and dots mean.

use super::INK;
use super::canvas::{Canvas, Color, Point, Type};
use super::figure::Marker;

/// One entry of a legend.
pub struct Entry<'a> {
    pub text: &'a str,
    pub sample: Sample,
}

/// What an entry explains.
#[derive(Clone, Copy)]
pub enum Sample {
    Line { width: f64, color: Color },
    Marked { width: f64, color: Color, marker: Marker },
    Dot(Color),
    Ring(Color),
}

const SIZE: f64 = 15.0;
const SAMPLE: f64 = 26.0;
const GAP: f64 = 22.0;

/// Draws entries in a row that ends at `right`; returns where it starts.
pub fn draw(canvas: &mut Canvas, right: Point, entries: &[Entry<'_>]) -> f64 {
    let (mut x, y) = right;
    for entry in entries.iter().rev() {
        let place = Type::new(SIZE, INK, 1.0);
        canvas.text(entry.text, (x, y), place);
        x -= canvas.text_width(entry.text, SIZE) + 8.0;
        x = match entry.sample {
            Sample::Line { width, color } => {
                canvas.line([(x - SAMPLE, y), (x, y)], width, color);
                x - SAMPLE
            }
            Sample::Marked { width, color, marker } => {
                canvas.line([(x - SAMPLE, y), (x, y)], width, color);
                marker.draw(canvas, (x - SAMPLE / 2.0, y), color);
                x - SAMPLE
            }
            Sample::Dot(color) => {
                canvas.dot((x - 5.0, y), 5.0, color);
                x - 10.0
            }
            Sample::Ring(color) => {
                canvas.ring((x - 5.0, y), 5.0, 1.75, color);
                x - 10.0
            }
        } - GAP;
    }
    x
}

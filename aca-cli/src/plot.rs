//! Pictures: PNG and GIF, with smooth lines and a font of their own.

mod animation;
mod axes;
mod axis;
mod canvas;
mod curves;
mod figure;
mod film;
mod legend;
mod orbits;
mod space;
mod svg;
mod trajectory;

pub use animation::animation;
pub use canvas::{Color, Point};
pub use curves::{Chart, Mark, loss_curve};
pub use figure::{Figure, Key, Label, Marker, Panel, Scale};
pub use orbits::{Orbits, orbits};
pub use trajectory::{Portrait, Trajectory, trajectory};

use canvas::{Canvas, Type};

const WHITE: Color = [255; 3];
/// Colour of text.
pub const INK: Color = [34, 34, 34];
const MUTED: Color = [75, 75, 75];
const FRAME: Color = [165, 165, 165];
const GRID: Color = [228, 228, 228];

/// Hues that the colour-blind tell apart, darkest first.
///
/// Okabe and Ito, Color Universal Design, 2008.
pub const HUES: [Color; 6] =
    [[0, 114, 178], [213, 94, 0], [0, 158, 115], [204, 121, 167], [230, 159, 0], [86, 180, 233]];

/// `part` of `color` on top of `ground`.
fn mixed(ground: Color, color: Color, part: f64) -> Color {
    let mix = |i: usize| f64::from(ground[i]) * (1.0 - part) + f64::from(color[i]) * part;
    [0, 1, 2].map(|i| mix(i).round() as u8)
}

/// A quarter of `color` on white.
pub fn faded(color: Color) -> Color {
    mixed(WHITE, color, 0.25)
}

impl Type {
    fn new(size: f64, color: Color, align: f64) -> Self {
        Self { size, color, align, upright: false }
    }
}

/// Writes the line above a picture, smaller if it would else pass `right`.
fn caption(canvas: &mut Canvas, text: &str, right: f64) {
    let (left, size) = (24.0, 20.0);
    let fit = (right - left) / canvas.text_width(text, size);
    canvas.text(text, (left, 30.0), Type::new(size * fit.min(1.0), INK, 0.0));
}

//! A picture as SVG: shapes written down one after the other, sharp at any size.

use super::canvas::{Color, Point, Type};

/// Shapes written down one after the other.
pub struct Svg {
    width: usize,
    height: usize,
    shapes: String,
}

/// Height of the em square as a part of a line's height, in the font of pictures.
const EM: f64 = 1000.0 / 1121.0;

impl Svg {
    /// An empty white picture.
    pub fn new(width: usize, height: usize) -> Self {
        Self { width, height, shapes: String::new() }
    }

    /// A line through `points`, with round joints and ends.
    pub fn line(&mut self, points: &[Point], width: f64, color: Color) {
        let (places, color) = (places(points), hex(color));
        self.push(&format!(
            r#"<polyline points="{places}" fill="none" stroke="{color}" stroke-width="{width}" stroke-linecap="round" stroke-linejoin="round"/>"#
        ));
    }

    /// A filled dot.
    pub fn dot(&mut self, at: Point, radius: f64, color: Color) {
        let ((x, y), color) = (at, hex(color));
        self.push(&format!(r#"<circle cx="{x:.2}" cy="{y:.2}" r="{radius:.2}" fill="{color}"/>"#));
    }

    /// A filled polygon.
    pub fn polygon(&mut self, corners: &[Point], color: Color) {
        let (places, color) = (places(corners), hex(color));
        self.push(&format!(r#"<polygon points="{places}" fill="{color}"/>"#));
    }

    /// A text that starts `offset` along and across its direction away from `at` and is `length`
    /// pixels long whatever font the reader has.
    pub fn text(&mut self, text: &str, at: Point, offset: Point, length: f64, style: Type) {
        let (x, y) = (at.0 + offset.0, at.1 + offset.1);
        let turn = match style.upright {
            true => format!(r#" transform="rotate(-90 {:.2} {:.2})""#, at.0, at.1),
            false => String::new(),
        };
        let (size, color, text) = (EM * style.size, hex(style.color), escaped(text));
        self.push(&format!(
            r#"<text x="{x:.2}" y="{y:.2}" font-size="{size:.2}" textLength="{length:.2}" lengthAdjust="spacingAndGlyphs" fill="{color}"{turn}>{text}</text>"#
        ));
    }

    /// The whole file.
    pub fn finish(&self) -> String {
        let Self { width, height, shapes } = self;
        format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-family="Ubuntu, 'Segoe UI', Helvetica, Arial, sans-serif" font-weight="300">
<rect width="100%" height="100%" fill="#ffffff"/>
{shapes}</svg>
"##
        )
    }

    fn push(&mut self, shape: &str) {
        self.shapes.push_str(shape);
        self.shapes.push('\n');
    }
}

fn places(points: &[Point]) -> String {
    let places = points.iter().map(|(x, y)| format!("{x:.2},{y:.2}"));
    places.collect::<Vec<_>>().join(" ")
}

fn hex([red, green, blue]: Color) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// Text as XML has it, which has no control characters.
fn escaped(text: &str) -> String {
    let text = text.replace(|c: char| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'), " ");
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

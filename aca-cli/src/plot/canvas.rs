//! A picture to draw on: shapes of SVG, which a library turns into pixels.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::sync::Arc;

use ab_glyph::{Font, FontRef, PxScale, ScaleFont};
use epaint_default_fonts::UBUNTU_LIGHT;
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};

use super::svg::Svg;
use crate::report::{Error, Result};

/// Distance of the samples of a line that [`Canvas::covered`] counts, in pixels.
const SAMPLE: f64 = 2.0;

/// A place in pixels from the upper left corner.
pub type Point = (f64, f64);

/// Red, green and blue.
pub type Color = [u8; 3];

/// How a text is set; its place is the middle of its capitals' height.
#[derive(Clone, Copy)]
pub struct Type {
    /// Height of a line in pixels.
    pub size: f64,
    pub color: Color,
    /// The part of the text's length that lies before its place: 0, 1/2 or 1.
    pub align: f64,
    /// Whether the text runs upwards.
    pub upright: bool,
}

/// A finished picture.
pub struct Image {
    pub width: usize,
    pub height: usize,
    /// Three bytes a pixel, row by row.
    pub rgb: Vec<u8>,
    /// The same picture as shapes.
    svg: String,
}

/// What a picture is drawn on; lengths are in pixels of the picture.
pub struct Canvas {
    svg: Svg,
    font: FontRef<'static>,
    /// Places that lines, dots and texts cover, the grid left out.
    covered: Vec<Point>,
}

/// Runs `draw` on a white canvas and returns the picture.
pub fn render(width: usize, height: usize, draw: impl FnOnce(&mut Canvas)) -> Result<Image> {
    let font = FontRef::try_from_slice(UBUNTU_LIGHT)?;
    let mut canvas = Canvas { svg: Svg::new(width, height), font, covered: Vec::new() };
    draw(&mut canvas);
    let svg = canvas.svg.finish();
    let rgb = pixels(&svg, width, height)?;
    Ok(Image { width, height, rgb, svg })
}

/// Turns SVG into pixels; its texts are set in the one font that the program brings.
fn pixels(svg: &str, width: usize, height: usize) -> Result<Vec<u8>> {
    let mut fonts = fontdb::Database::new();
    fonts.load_font_data(UBUNTU_LIGHT.to_vec());
    let options = Options { fontdb: Arc::new(fonts), ..Options::default() };
    let tree = Tree::from_str(svg, &options)?;
    let mut pixmap = Pixmap::new(width as u32, height as u32).ok_or(Error::EmptyPicture)?;
    resvg::render(&tree, Transform::identity(), &mut pixmap.as_mut());
    Ok(pixmap.data().as_chunks::<4>().0.iter().flat_map(|&[r, g, b, _]| [r, g, b]).collect())
}

impl Image {
    /// Writes the picture as a PNG file.
    pub fn write_png(&self, path: &Path) -> Result<()> {
        let file = BufWriter::new(File::create(path).map_err(Error::file("create", path))?);
        let mut encoder = png::Encoder::new(file, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_compression(png::Compression::High);
        let written = encoder.write_header().and_then(|mut png| png.write_image_data(&self.rgb));
        written.map_err(|error| Error::picture(path, &error))
    }

    /// Writes the picture as an SVG file.
    pub fn write_svg(&self, path: &Path) -> Result<()> {
        std::fs::write(path, &self.svg).map_err(Error::file("create", path))
    }
}

impl Canvas {
    /// How much of what is drawn, the grid left out, lies in a rectangle.
    pub fn covered(&self, xs: (f64, f64), ys: (f64, f64)) -> usize {
        let inside = |&&(x, y): &&Point| xs.0 <= x && x <= xs.1 && ys.0 <= y && y <= ys.1;
        self.covered.iter().filter(inside).count()
    }

    /// Draws a line through `points`, with round joints and ends.
    pub fn line(&mut self, points: impl IntoIterator<Item = Point>, width: f64, color: Color) {
        let points: Vec<Point> = points.into_iter().collect();
        self.svg.line(&points, width, color);
        if color != super::GRID {
            points.windows(2).for_each(|ends| self.cover(ends[0], ends[1]));
        }
    }

    /// Draws a filled dot.
    pub fn dot(&mut self, at: Point, radius: f64, color: Color) {
        self.svg.dot(at, radius, color);
        self.cover((at.0 - radius, at.1), (at.0 + radius, at.1));
    }

    /// Fills a polygon.
    pub fn polygon(&mut self, corners: &[Point], color: Color) {
        self.svg.polygon(corners, color);
        let ends = corners.iter().zip(corners.iter().cycle().skip(1));
        ends.for_each(|(&from, &to)| self.cover(from, to));
    }

    /// Draws a hollow dot.
    pub fn ring(&mut self, at: Point, radius: f64, width: f64, color: Color) {
        self.dot(at, radius, color);
        self.dot(at, radius - width, super::WHITE);
    }

    /// Writes a text; what follows a `^` is raised.
    pub fn text(&mut self, text: &str, at: Point, style: Type) {
        let (mut x, y) = (-style.align * self.text_width(text, style.size), 0.27 * style.size);
        for (part, size, raised) in parts(text, style.size) {
            let length = self.part_width(part, size);
            self.svg.text(part, at, (x, y - raised), length, Type { size, ..style });
            if !style.upright {
                self.cover((at.0 + x, at.1), (at.0 + x + length, at.1));
            }
            x += length;
        }
    }

    /// The length of a text.
    pub fn text_width(&self, text: &str, size: f64) -> f64 {
        parts(text, size).into_iter().map(|(part, size, _)| self.part_width(part, size)).sum()
    }

    fn part_width(&self, text: &str, size: f64) -> f64 {
        let font = self.font.as_scaled(PxScale::from(size as f32));
        let ids: Vec<_> = text.chars().map(|letter| font.glyph_id(letter)).collect();
        let kerning: f32 = ids.windows(2).map(|pair| font.kern(pair[0], pair[1])).sum();
        f64::from(ids.iter().map(|&id| font.h_advance(id)).sum::<f32>() + kerning)
    }

    fn cover(&mut self, from: Point, to: Point) {
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let count = (dx.hypot(dy) / SAMPLE).ceil().max(1.0);
        let place = |i: usize| (from.0 + dx * i as f64 / count, from.1 + dy * i as f64 / count);
        self.covered.extend((0..=count as usize).map(place));
    }
}

/// The parts of a text with their sizes and heights above the line.
fn parts(text: &str, size: f64) -> Vec<(&str, f64, f64)> {
    match text.split_once('^') {
        Some((base, raised)) => vec![(base, size, 0.0), (raised, 0.75 * size, 0.3 * size)],
        None => vec![(text, size, 0.0)],
    }
}

/// The smallest and the largest of some numbers.
pub fn span(numbers: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let widened = |(low, high): (f64, f64), x: f64| (low.min(x), high.max(x));
    numbers.into_iter().fold((f64::INFINITY, f64::NEG_INFINITY), widened)
}

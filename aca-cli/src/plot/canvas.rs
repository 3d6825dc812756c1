//! A bitmap to draw on, finer than the picture that it becomes.
//!
//! Everything is painted without regard to edges and then averaged: that makes smooth lines of any
//! width, whose joints do not show.

use std::fs::File;
use std::io::BufWriter;
use std::ops::Range;
use std::path::Path;

use ab_glyph::{Font, FontRef, Glyph, PxScale, ScaleFont, point};
use epaint_default_fonts::UBUNTU_LIGHT;

use crate::report::{Error, Result};

/// Fine pixels along each side of a pixel.
const FINE: usize = 4;

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
}

/// What a picture is drawn on; lengths are in pixels of the picture.
pub struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<Color>,
    font: FontRef<'static>,
}

/// Runs `draw` on a white canvas and returns the picture.
pub fn render(width: usize, height: usize, draw: impl FnOnce(&mut Canvas)) -> Result<Image> {
    let font = FontRef::try_from_slice(UBUNTU_LIGHT)?;
    let pixels = vec![super::WHITE; FINE * width * FINE * height];
    let mut canvas = Canvas { width: FINE * width, height: FINE * height, pixels, font };
    draw(&mut canvas);
    Ok(Image { width, height, rgb: canvas.averaged() })
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
}

impl Canvas {
    /// The number of fine pixels in a rectangle that are neither white nor grid.
    pub fn covered(&self, xs: (f64, f64), ys: (f64, f64)) -> usize {
        let columns = cells(xs, self.width);
        let rows = cells(ys, self.height).map(|y| &self.pixels[y * self.width..][columns.clone()]);
        rows.flatten().filter(|&&color| color != super::WHITE && color != super::GRID).count()
    }

    /// Draws a line through `points`, with round joints and ends.
    pub fn line(&mut self, points: impl IntoIterator<Item = Point>, width: f64, color: Color) {
        let mut points = points.into_iter();
        let Some(mut from) = points.next() else { return };
        for to in points {
            self.capsule(from, to, width / 2.0, color);
            from = to;
        }
    }

    /// Draws a filled dot.
    pub fn dot(&mut self, at: Point, radius: f64, color: Color) {
        self.capsule(at, at, radius, color);
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
            for (glyph, advance) in self.glyphs(part, size) {
                self.glyph(glyph, at, (x, y - raised), style);
                x += advance;
            }
        }
    }

    /// The length of a text.
    pub fn text_width(&self, text: &str, size: f64) -> f64 {
        let parts = parts(text, size).into_iter();
        parts.flat_map(|(part, size, _)| self.glyphs(part, size)).map(|glyph| glyph.1).sum()
    }

    /// The glyphs of a text at the origin, each with the distance to the next.
    fn glyphs(&self, text: &str, size: f64) -> Vec<(Glyph, f64)> {
        let font = self.font.as_scaled(PxScale::from((size * FINE as f64) as f32));
        let ids: Vec<_> = text.chars().map(|letter| font.glyph_id(letter)).collect();
        let next = ids.iter().skip(1).map(Some).chain([None]);
        let advance = |(&id, next): (_, Option<_>)| {
            let kern = next.map_or(0.0, |&next| font.kern(id, next));
            let glyph = id.with_scale(font.scale());
            (glyph, f64::from(font.h_advance(id) + kern) / FINE as f64)
        };
        ids.iter().zip(next).map(advance).collect()
    }

    /// Paints one glyph, `offset` along and across the text's direction away from `at`.
    fn glyph(&mut self, mut glyph: Glyph, at: Point, offset: Point, style: Type) {
        let fine = |length: f64| (length * FINE as f64) as f32;
        glyph.position = point(fine(offset.0), fine(offset.1));
        let Some(outline) = self.font.outline_glyph(glyph) else { return };
        let (corner, origin) = (outline.px_bounds().min, (fine(at.0), fine(at.1)));
        outline.draw(|x, y, coverage| {
            let (x, y) = (corner.x + x as f32, corner.y + y as f32);
            let (x, y) = if style.upright { (y, -x) } else { (x, y) };
            let (x, y) = ((origin.0 + x).round(), (origin.1 + y).round());
            if x >= 0.0 && y >= 0.0 && (x as usize) < self.width && (y as usize) < self.height {
                let pixel = &mut self.pixels[y as usize * self.width + x as usize];
                *pixel = super::mixed(*pixel, style.color, f64::from(coverage));
            }
        });
    }

    /// Paints the points that are no farther than `radius` from the segment.
    fn capsule(&mut self, from: Point, to: Point, radius: f64, color: Color) {
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let inverse = 1.0 / (dx * dx + dy * dy).max(1e-12);
        let wide = |(low, high): (f64, f64)| (low - radius, high + radius);
        let (xs, ys) = (span([from.0, to.0]), span([from.1, to.1]));
        self.paint(wide(xs), wide(ys), color, |x, y| {
            let (x, y) = (x - from.0, y - from.1);
            let s = ((x * dx + y * dy) * inverse).clamp(0.0, 1.0);
            let (x, y) = (x - s * dx, y - s * dy);
            x * x + y * y <= radius * radius
        });
    }

    /// Paints the fine pixels of a rectangle whose middle is `inside`.
    fn paint(&mut self, xs: Point, ys: Point, color: Color, inside: impl Fn(f64, f64) -> bool) {
        let middle = |cell: usize| (cell as f64 + 0.5) / FINE as f64;
        for y in cells(ys, self.height) {
            for x in cells(xs, self.width) {
                if inside(middle(x), middle(y)) {
                    self.pixels[y * self.width + x] = color;
                }
            }
        }
    }

    fn averaged(&self) -> Vec<u8> {
        let width = self.width / FINE;
        let mut sums = vec![[0u32; 3]; width * (self.height / FINE)];
        for (y, row) in self.pixels.chunks_exact(self.width).enumerate() {
            let sums = &mut sums[y / FINE * width..][..width];
            for (sum, pixels) in sums.iter_mut().zip(row.chunks_exact(FINE)) {
                for pixel in pixels {
                    (0..3).for_each(|part| sum[part] += u32::from(pixel[part]));
                }
            }
        }
        let count = (FINE * FINE) as u32;
        sums.into_iter().flatten().map(|sum| ((sum + count / 2) / count) as u8).collect()
    }
}

/// The fine pixels between two places of a side with `count` of them.
fn cells((low, high): (f64, f64), count: usize) -> Range<usize> {
    let cell = |x: f64| (x * FINE as f64).clamp(0.0, count as f64) as usize;
    cell(low)..(cell(high) + 1).min(count)
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

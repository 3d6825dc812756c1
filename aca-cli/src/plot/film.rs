//! Endless GIFs of pictures in this program's colours.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use gif::{DisposalMethod, Encoder, EncodingError, Frame, Repeat};

use super::canvas::{Color, Image};
use super::{HUES, INK, WHITE, mixed};
use crate::report::{Error, Result};

/// Time that a picture stays, in hundredths of a second.
const DELAY: u16 = 7;
/// Time that the last one stays.
const PAUSE: u16 = 150;
/// Shades of each hue.
const SHADES: usize = 62;
/// The palette's entry for points that stay as they were.
const SAME: u8 = 255;

/// Writes the pictures, all of one size, as a GIF that repeats for ever.
pub fn write(path: &Path, images: impl ExactSizeIterator<Item = Result<Image>>) -> Result<()> {
    let last = images.len().saturating_sub(1);
    let mut colors = Colors::new();
    let mut before: Vec<u8> = Vec::new();
    let mut encoder = None;
    for (i, image) in images.enumerate() {
        let image = image?;
        let encoder = match &mut encoder {
            Some(encoder) => encoder,
            none => none.insert(start(path, &image, &colors)?),
        };
        let now: Vec<_> = image.rgb.as_chunks().0.iter().map(|&rgb| colors.nearest(rgb)).collect();
        let delay = if i == last { PAUSE } else { DELAY };
        let frame = Frame { delay, ..change(&before, &now, image.width) };
        encoder.write_frame(&frame).map_err(|error| Error::picture(path, &error))?;
        before = now;
    }
    Ok(())
}

type Output = Encoder<BufWriter<File>>;

fn start(path: &Path, image: &Image, colors: &Colors) -> Result<Output> {
    let file = BufWriter::new(File::create(path).map_err(Error::file("create", path))?);
    let size = (image.width as u16, image.height as u16);
    let start = || -> std::result::Result<Output, EncodingError> {
        let mut encoder = Encoder::new(file, size.0, size.1, &colors.palette.concat())?;
        encoder.set_repeat(Repeat::Infinite)?;
        Ok(encoder)
    };
    start().map_err(|error| Error::picture(path, &error))
}

/// The smallest rectangle that holds what changed, the rest of it left as it was.
fn change(before: &[u8], now: &[u8], width: usize) -> Frame<'static> {
    let changed = |at: usize| before.get(at) != Some(&now[at]);
    let changes: Vec<_> = (0..now.len()).filter(|&at| changed(at)).collect();
    let (top, bottom) = match changes[..] {
        [first, .., last] => (first / width, last / width + 1),
        _ => (0, 1),
    };
    let columns = || changes.iter().map(|at| at % width);
    let (left, right) = (columns().min().unwrap_or(0), columns().max().unwrap_or(0) + 1);
    let points = (top..bottom).flat_map(|y| (left..right).map(move |x| y * width + x));
    let buffer: Vec<_> = points.map(|at| if changed(at) { now[at] } else { SAME }).collect();
    Frame {
        dispose: DisposalMethod::Keep,
        transparent: Some(SAME),
        left: left as u16,
        top: top as u16,
        width: (right - left) as u16,
        height: (bottom - top) as u16,
        buffer: Cow::Owned(buffer),
        ..Frame::default()
    }
}

/// The palette of all frames: shades from white to ink and to three hues.
struct Colors {
    palette: Vec<Color>,
    known: HashMap<Color, u8>,
}

impl Colors {
    fn new() -> Self {
        let shade = |color: Color, i: usize| mixed(WHITE, color, i as f64 / (SHADES - 1) as f64);
        let ends = [INK, HUES[0], HUES[1], HUES[2]].into_iter();
        let shades = ends.flat_map(|color| (0..SHADES).map(move |i| shade(color, i)));
        let mut palette: Vec<_> = shades.collect();
        palette.resize(256, WHITE);
        Self { palette, known: HashMap::new() }
    }

    fn nearest(&mut self, color: Color) -> u8 {
        let palette = &self.palette[..4 * SHADES];
        let distance = |other: &Color| -> u32 {
            color.iter().zip(other).map(|(x, y)| u32::from(x.abs_diff(*y)).pow(2)).sum()
        };
        let find = || (0u8..).zip(palette).min_by_key(|(_, other)| distance(other));
        *self.known.entry(color).or_insert_with(|| find().map_or(0, |(index, _)| index))
    }
}

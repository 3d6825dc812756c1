//! From the bytes of an image to the numbers a network sees.

use super::{
    Images, Recipe,
    stream::{Purpose, Stream},
};
use crate::{Error, Result};

/// Writes images as numbers, cropped and flipped by chance where asked.
pub(super) struct Augment {
    /// What each of the 256 bytes becomes, by channel: one load a pixel, and no rounding that
    /// depends on the processor.
    tables: Vec<[f32; 256]>,
    size: [usize; 2],
    padding: usize,
    flip: bool,
    chance: Option<(u64, u64)>,
}

/// Where the crop starts in the padded image, and whether it is mirrored.
struct View {
    top: usize,
    left: usize,
    mirrored: bool,
}

impl Augment {
    /// Prepares a recipe for images of `shape`; `chance` is the seed and epoch, or `None` to leave
    /// all images as they are.
    pub(super) fn new(
        recipe: &Recipe,
        shape: [usize; 3],
        chance: Option<(u64, u64)>,
    ) -> Result<Self> {
        let [channels, height, width] = shape;
        check(recipe, channels)?;
        check_padding(recipe.crop_padding, height.min(width))?;
        let tables = recipe.mean.iter().zip(&recipe.std);
        let tables = tables.map(|(mean, std)| table(recipe.scale, *mean, *std)).collect();
        let (padding, flip) = (recipe.crop_padding, recipe.flip);
        Ok(Self { tables, size: [height, width], padding, flip, chance })
    }

    /// Appends the image at `position` to `out`.
    pub(super) fn render(&self, images: &Images, position: usize, out: &mut Vec<f32>) {
        let [height, width] = self.size;
        let view = self.view(position);
        let plane = |channel: usize| {
            let start = (position * self.tables.len() + channel) * height * width;
            &images.pixels()[start..start + height * width]
        };
        for (channel, table) in self.tables.iter().enumerate() {
            let plane = plane(channel);
            for row in view.top..view.top + height {
                let inside = row.checked_sub(self.padding).filter(|row| *row < height);
                let bytes = inside.map(|row| &plane[row * width..(row + 1) * width]);
                self.write_row(bytes, &view, table, out);
            }
        }
    }

    fn view(&self, position: usize) -> View {
        let Some((seed, epoch)) = self.chance else {
            return View { top: self.padding, left: self.padding, mirrored: false };
        };
        let mut stream = Stream::new(Purpose::Augment, seed, epoch, position);
        let offsets = 2 * self.padding + 1;
        let (top, left) = (stream.below(offsets), stream.below(offsets));
        View { top, left, mirrored: stream.below(2) == 1 && self.flip }
    }

    /// Appends one row of a crop, of which `None` is all padding.
    fn write_row(&self, bytes: Option<&[u8]>, view: &View, table: &[f32; 256], out: &mut Vec<f32>) {
        let width = self.size[1];
        // Padding is black before normalisation, as in torchvision's RandomCrop on bytes.
        let black = table[0];
        let Some(bytes) = bytes else {
            out.extend(std::iter::repeat_n(black, width));
            return;
        };
        let before = self.padding.saturating_sub(view.left);
        let after = view.left.saturating_sub(self.padding);
        let seen = bytes[after..width - before].iter().map(|byte| table[usize::from(*byte)]);
        let (first, last) = if view.mirrored { (after, before) } else { (before, after) };
        out.extend(std::iter::repeat_n(black, first));
        match view.mirrored {
            true => out.extend(seen.rev()),
            false => out.extend(seen),
        }
        out.extend(std::iter::repeat_n(black, last));
    }
}

fn table(scale: f32, mean: f32, std: f32) -> [f32; 256] {
    let (scale, mean, std) = (f64::from(scale), f64::from(mean), f64::from(std));
    std::array::from_fn(|byte| ((byte as f64 * scale - mean) / std) as f32)
}

fn check(recipe: &Recipe, channels: usize) -> Result<()> {
    let (means, stds) = (recipe.mean.len(), recipe.std.len());
    if means != channels || stds != channels {
        return Err(Error::RecipeChannels { means, stds, channels });
    }
    let finite = [recipe.scale].into_iter().map(|scale| ("scale", scale));
    let mut finite = finite.chain(recipe.mean.iter().map(|mean| ("mean", *mean)));
    if let Some((name, value)) = finite.find(|(_, value)| !value.is_finite()) {
        return Err(Error::RecipeNumber { name, value, range: "finite" });
    }
    match recipe.std.iter().find(|std| !(std.is_finite() && **std > 0.0)) {
        Some(std) => {
            Err(Error::RecipeNumber { name: "std", value: *std, range: "positive and finite" })
        }
        None => Ok(()),
    }
}

fn check_padding(padding: usize, side: usize) -> Result<()> {
    if padding <= side {
        return Ok(());
    }
    let range = "at most the smaller side of the images";
    Err(Error::RecipeNumber { name: "crop_padding", value: padding as f32, range })
}

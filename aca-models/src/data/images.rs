//! Images and their labels, as bytes.

use crate::{Error, Result};

/// Images of one shape with a label each, kept as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    pixels: Vec<u8>,
    labels: Vec<u8>,
    shape: [usize; 3],
    classes: usize,
}

impl Images {
    /// Takes the images' bytes one after the other, each channel by channel and row by row.
    ///
    /// # Shapes
    /// `shape`: channels, height, width. `pixels`: as many bytes as `labels` times `shape` say.
    ///
    /// # Errors
    /// [`Error::PixelCount`] when the sizes disagree, [`Error::Label`] for a label that is not
    /// below `classes`.
    pub fn new(
        pixels: Vec<u8>,
        labels: Vec<u8>,
        shape: [usize; 3],
        classes: usize,
    ) -> Result<Self> {
        let bytes = shape.iter().try_fold(labels.len(), |product, n| product.checked_mul(*n));
        if bytes != Some(pixels.len()) {
            return Err(Error::PixelCount { pixels: pixels.len(), labels: labels.len(), shape });
        }
        match labels.iter().position(|label| usize::from(*label) >= classes) {
            Some(image) => Err(Error::Label {
                image,
                from: "the collection".to_owned(),
                label: labels[image],
                last: classes.saturating_sub(1),
            }),
            None => Ok(Self { pixels, labels, shape, classes }),
        }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Channels, height and width.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Number of classes; labels are below it.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Bytes of image `i` by channel, row and column, or `None` behind the last one.
    pub fn image(&self, i: usize) -> Option<&[u8]> {
        let size = self.pixels.len().checked_div(self.len())?;
        (i < self.len()).then(|| &self.pixels[i * size..(i + 1) * size])
    }

    /// Class of image `i`, or `None` behind the last one.
    pub fn label(&self, i: usize) -> Option<u8> {
        self.labels.get(i).copied()
    }

    /// Bytes of all images, one image after the other.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Classes of all images.
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// The images at `positions`, all of which exist.
    pub(super) fn select(&self, positions: &[usize]) -> Self {
        let size = self.shape.iter().product::<usize>();
        let images = positions.iter().flat_map(|i| &self.pixels[i * size..(i + 1) * size]);
        let labels = positions.iter().map(|i| self.labels[*i]);
        Self { pixels: images.copied().collect(), labels: labels.collect(), ..*self }
    }
}

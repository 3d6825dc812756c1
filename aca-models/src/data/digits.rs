//! The handwritten digits that lie in this crate.

use std::{cmp::Reverse, io::Read, path::PathBuf, sync::Arc};

use flate2::read::GzDecoder;

use super::{
    DataSet, Images, Recipe,
    stream::{Purpose, Stream},
};
use crate::{Error, Result};

const PACKED: &[u8] = include_bytes!("../../data/digits.csv.gz");
const SIDE: usize = 8;
const CLASSES: usize = 10;
const TEST_IMAGES: usize = 360;
const SCALE: f32 = 1.0 / 16.0;

impl DataSet {
    /// The 1797 handwritten digits of 8 x 8 pixels, split into 1437 for training and 360 for tests.
    ///
    /// Each class has the same share of both parts, up to one image, and the split is always the
    /// same. The recipe standardises by the training part and varies nothing: at this size a
    /// shifted digit loses strokes and a mirrored one is no digit.
    ///
    /// # Errors
    /// None, as long as the embedded file is whole.
    ///
    /// # Source
    /// E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
    /// Repository, 1998 (CC BY 4.0); see `data/README.md` of this crate.
    ///
    /// # Example
    /// ```
    /// # fn main() -> aca_models::Result<()> {
    /// let digits = aca_models::data::DataSet::digits()?;
    /// assert_eq!((digits.train.len(), digits.test.len()), (1437, 360));
    /// # Ok(())
    /// # }
    /// ```
    pub fn digits() -> Result<Self> {
        let mut text = String::new();
        GzDecoder::new(PACKED).read_to_string(&mut text).map_err(|source| Error::File {
            action: "unpack",
            path: PathBuf::from("digits.csv.gz"),
            source,
        })?;
        let all = parse(&text)?;
        let (train, test) = split(all.labels());
        let train = all.select(&train);
        let recipe = standardise(train.pixels());
        let test = Arc::new(all.select(&test));
        Ok(Self { name: "digits", train: Arc::new(train), test, recipe })
    }
}

fn parse(text: &str) -> Result<Images> {
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        let row: Option<Vec<u8>> = line.split(',').map(|number| number.parse().ok()).collect();
        match row.as_deref() {
            Some([image @ .., label]) if image.len() == SIDE * SIDE => {
                pixels.extend_from_slice(image);
                labels.push(*label);
            }
            _ => return Err(Error::Row { line: index + 1, expected: SIDE * SIDE + 1 }),
        }
    }
    Images::new(pixels, labels, [1, SIDE, SIDE], CLASSES)
}

/// Positions of the training and of the test images, each in the order of the file.
fn split(labels: &[u8]) -> (Vec<usize>, Vec<usize>) {
    let mut members = vec![Vec::new(); CLASSES];
    for (position, label) in labels.iter().enumerate() {
        members[usize::from(*label)].push(position);
    }
    let shares = shares(&members, labels.len());
    let mut in_test = vec![false; labels.len()];
    for (class, (members, share)) in members.iter_mut().zip(shares).enumerate() {
        Stream::new(Purpose::Split, 0, 0, class).shuffle(members);
        members.iter().take(share).for_each(|position| in_test[*position] = true);
    }
    (0..labels.len()).partition(|position| !in_test[*position])
}

/// Test images of each class: its proportional part, and what rounding down left over goes to the
/// classes that lost most by it.
fn shares(members: &[Vec<usize>], images: usize) -> Vec<usize> {
    let part = |class: usize| members[class].len() * TEST_IMAGES;
    let mut shares: Vec<_> = (0..CLASSES).map(|class| part(class) / images).collect();
    let mut by_loss: Vec<_> = (0..CLASSES).collect();
    by_loss.sort_by_key(|class| Reverse(part(*class) % images));
    let left = TEST_IMAGES - shares.iter().sum::<usize>();
    by_loss.iter().take(left).for_each(|class| shares[*class] += 1);
    shares
}

fn standardise(pixels: &[u8]) -> Recipe {
    let count = pixels.len() as f64;
    let values = || pixels.iter().map(|byte| f64::from(*byte) * f64::from(SCALE));
    let mean = values().sum::<f64>() / count;
    let variance = values().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    Recipe {
        scale: SCALE,
        mean: vec![mean as f32],
        std: vec![variance.sqrt() as f32],
        crop_padding: 0,
        flip: false,
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn malformed_row_is_named_by_its_line() {
        let whole = vec!["1"; 65].join(",");
        let error = parse(&format!("{whole}\n1,2,x")).unwrap_err().to_string();
        assert_eq!(error, "line 2 of the embedded digits is not 65 numbers below 256");
    }
}

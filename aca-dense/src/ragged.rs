//! Lists of states of different lengths, one per sample.

use aca_core::{Error, Result};
use candle_core::Tensor;

/// Outputs of a batch whose samples may have different numbers of them.
///
/// It uses candle's operations only, so it is differentiable if the outputs are.
#[derive(Clone, Debug)]
pub struct Ragged {
    flat: Tensor,
    counts: Vec<usize>,
}

impl Ragged {
    /// Makes a list from the outputs of all samples, one sample after the other, and the number of outputs of each.
    ///
    /// # Shapes
    /// `flat`: `[sum(counts), ..state]`.
    ///
    /// # Errors
    /// [`Error::SampleCount`] when the counts do not add up.
    pub fn new(flat: Tensor, counts: Vec<usize>) -> Result<Self> {
        let (got, expected) = (flat.dims().first().copied().unwrap_or(0), counts.iter().sum());
        match got == expected {
            true => Ok(Self { flat, counts }),
            false => Err(Error::SampleCount { what: "outputs", got, expected }),
        }
    }

    /// All outputs, `[sum(counts), ..state]`.
    pub fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// How many outputs each sample has.
    pub fn counts(&self) -> &[usize] {
        &self.counts
    }

    /// The outputs of one sample, `[outputs, ..state]`.
    ///
    /// # Errors
    /// [`Error::SampleCount`] beyond the batch.
    pub fn sample(&self, sample: usize) -> Result<Tensor> {
        let Some(&count) = self.counts.get(sample) else {
            let (what, expected) = ("samples", self.counts.len());
            return Err(Error::SampleCount { what, got: sample + 1, expected });
        };
        Ok(self.flat.narrow(0, self.counts[..sample].iter().sum(), count)?)
    }

    /// All outputs as one tensor padded with zeros, and a mask that is 1 where there is an output.
    ///
    /// # Shapes
    /// `[batch, most outputs, ..state]`, and `[batch, most outputs]` of `u8`.
    pub fn padded(&self) -> Result<(Tensor, Tensor)> {
        let most = self.counts.iter().copied().max().unwrap_or(0);
        let (mut index, mut mask, mut start) = (Vec::new(), Vec::new(), 0);
        for &count in &self.counts {
            index.extend((0..most).map(|m| if m < count { (start + m) as u32 } else { 0 }));
            mask.extend((0..most).map(|m| u8::from(m < count)));
            start += count;
        }
        let device = self.flat.device();
        let index = Tensor::new(index, device)?;
        let mask = Tensor::from_vec(mask, (self.counts.len(), most), device)?;
        let mut shape = vec![self.counts.len(), most];
        let ones = vec![1; self.flat.rank() - 1];
        let column = mask.reshape([&shape[..], &ones[..]].concat())?;
        shape.extend(&self.flat.dims()[1..]);
        let rows = self.flat.index_select(&index, 0)?.reshape(shape)?;
        // Failed samples hold NaN, which a product with zero would keep: fillings are chosen instead.
        let column = column.broadcast_as(rows.shape())?;
        Ok((column.where_cond(&rows, &rows.zeros_like()?)?, mask))
    }
}

//! A number that tells contents apart.

use candle_core::{DType, Tensor};

use crate::kernels::{self, View};
use crate::{Error, Result};

/// A hash of 64 bits: it always changes with a change of any eight bytes, and almost always with other changes.
///
/// # Source
/// Each word is mixed in by an odd multiplier and a shift, as in Appleby's MurmurHash (2008).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// That of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut fingerprint = Self::default();
        fingerprint.add(bytes);
        fingerprint
    }

    /// Takes in the bytes and their number.
    pub fn add(&mut self, bytes: &[u8]) {
        let chunks = bytes.chunks(8).map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(word)
        });
        chunks.chain([bytes.len() as u64]).for_each(|word| self.mix(word));
    }

    /// Takes in the bits of a tensor; of one on a GPU those of its sum and of its sum of squares, which need not leave
    /// it.
    ///
    /// # Errors
    /// When the tensor cannot be read; for dtypes that are no floats.
    pub fn add_tensor(&mut self, tensor: &Tensor) -> Result<()> {
        if !tensor.device().is_cpu() {
            let single = tensor.to_dtype(DType::F32)?.contiguous()?;
            self.mix(kernels::dot(&single, &single)?.to_bits());
            self.mix(u64::from(single.sum_all()?.to_scalar::<f32>()?.to_bits()));
            return Ok(());
        }
        let halves = matches!(tensor.dtype(), DType::BF16 | DType::F16);
        let tensor = if halves { tensor.to_dtype(DType::F32)? } else { tensor.contiguous()? };
        let view = View::new(&tensor)?;
        match tensor.dtype() {
            DType::F32 => self.add_words(view.slice::<f32>()?, |x| x.to_bits().into()),
            DType::F64 => self.add_words(view.slice::<f64>()?, |x| x.to_bits()),
            dtype => return Err(Error::UnsupportedDType { dtype }),
        }
        Ok(())
    }

    /// Mixes numbers in lanes, which wait for one another at the end alone.
    fn add_words<T: Copy>(&mut self, numbers: &[T], bits: impl Fn(T) -> u64) {
        const LANES: usize = 8;
        let mut lanes: [Self; LANES] = std::array::from_fn(|lane| Self(lane as u64));
        let (whole, rest) = numbers.as_chunks::<LANES>();
        for chunk in whole {
            lanes.iter_mut().zip(chunk).for_each(|(lane, x)| lane.mix(bits(*x)));
        }
        lanes.iter_mut().zip(rest).for_each(|(lane, x)| lane.mix(bits(*x)));
        lanes.iter().for_each(|lane| self.mix(lane.0));
        self.mix(numbers.len() as u64);
    }

    /// The upper and the lower half.
    pub fn halves(self) -> [u32; 2] {
        [(self.0 >> 32) as u32, self.0 as u32]
    }

    fn mix(&mut self, word: u64) {
        // The constant is added so that zeros count; its digits are those of the golden ratio.
        let product = (self.0 ^ word).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ (product >> 32);
    }
}

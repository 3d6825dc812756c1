//! A number that tells contents apart.

use aca_core::kernels::View;
use candle_core::{DType, Device, Tensor};

use crate::Result;

/// 64 bits that follow from contents; a change of any eight bytes changes it for sure, and other
/// changes almost surely.
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

    /// Takes in the bits of a tensor of `f32` or `f64`.
    ///
    /// # Errors
    /// For other dtypes.
    pub fn add_tensor(&mut self, tensor: &Tensor) -> Result<()> {
        let tensor = tensor.to_device(&Device::Cpu)?.contiguous()?;
        let view = View::new(&tensor)?;
        match tensor.dtype() {
            DType::F32 => {
                view.slice::<f32>()?.iter().for_each(|x| self.mix(u64::from(x.to_bits())));
            }
            _ => view.slice::<f64>()?.iter().for_each(|x| self.mix(x.to_bits())),
        }
        Ok(())
    }

    /// The upper and the lower half.
    pub(super) fn halves(self) -> [u32; 2] {
        [(self.0 >> 32) as u32, self.0 as u32]
    }

    fn mix(&mut self, word: u64) {
        // The constant is added so that zeros count; its digits are those of the golden ratio.
        let product = (self.0 ^ word).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ (product >> 32);
    }
}

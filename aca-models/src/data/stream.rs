//! Random numbers that are a pure function of what they are for.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

/// What a stream of random numbers decides, so that no two uses share one.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    Split = 1,
    Order,
    Augment,
}

/// A stream of random numbers.
pub(super) struct Stream(ChaCha8Rng);

impl Stream {
    /// Starts the stream number `index` of a seed, an epoch and a purpose.
    pub(super) fn new(purpose: Purpose, seed: u64, epoch: u64, index: usize) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&epoch.to_le_bytes());
        key[16] = purpose as u8;
        let mut generator = ChaCha8Rng::from_seed(key);
        generator.set_stream(index as u64);
        Self(generator)
    }

    /// A number below `n`.
    ///
    /// Not rand's own method, which may change its values from release to release; the bias of
    /// this one is below `n / 2^64`.
    pub(super) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.0.next_u64()) * n as u128) >> 64) as usize
    }

    /// Puts the items in a random order, by the algorithm of Fisher and Yates.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

//! Spectra that were used lately.
//!
//! A solve and its backward apply the same kernels dozens of times, and where images are small their
//! spectrum costs as much as the convolution: a fifth of a training step of NODE18. Variables change
//! in place and nothing tells, so the weights a spectrum was made of are kept beside it and
//! compared, which takes a tenth of making it anew.

use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;

use super::lanes::Lanes;
use super::spectrum::{Kernels, Spectrum};

/// Bytes of weights and spectra to keep for a type of numbers; NODE18's need 240 MB.
const LIMIT: usize = 320 << 20;

/// Numbers that a thread compares at a time.
const PIECE: usize = 1 << 16;

/// Spectra for one type of numbers, the last used at the end.
pub(crate) struct Spectra<T>(Mutex<Vec<Entry<T>>>);

struct Entry<T> {
    /// Where the weights lie; another tensor may have come to lie there since.
    place: usize,
    kernels: Kernels,
    weight: Arc<[T]>,
    spectrum: Arc<Spectrum<T>>,
}

impl<T: Lanes> Spectra<T> {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// The spectrum of `weight`, `[outer, inner, 3, 3]`, kept or made.
    pub(super) fn of(&self, weight: &[T], sizes: [usize; 2], kernels: Kernels) -> Arc<Spectrum<T>> {
        let place = weight.as_ptr() as usize;
        let is_it = |entry: &Entry<T>| {
            entry.place == place && entry.kernels == kernels && entry.weight.len() == weight.len()
        };
        if let Some(entry) = self.take(is_it)
            && entry.spectrum.fits(sizes, kernels)
            && same(&entry.weight, weight)
        {
            let spectrum = entry.spectrum.clone();
            self.keep(entry);
            return spectrum;
        }
        let spectrum = Arc::new(Spectrum::new(weight, sizes, kernels));
        let entry = Entry { place, kernels, weight: weight.into(), spectrum: spectrum.clone() };
        self.keep(entry);
        spectrum
    }

    /// Takes an entry out, so that no lock is held while it is compared.
    fn take(&self, is_it: impl Fn(&Entry<T>) -> bool) -> Option<Entry<T>> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = entries.iter().position(is_it)?;
        Some(entries.remove(found))
    }

    /// Puts an entry at the end, and lets the longest unused go until all fit the limit.
    fn keep(&self, entry: Entry<T>) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.push(entry);
        let bytes =
            |entry: &Entry<T>| size_of::<T>() * (entry.weight.len() + entry.spectrum.count());
        let mut total: usize = entries.iter().map(bytes).sum();
        let mut gone = 0;
        while total > LIMIT && gone < entries.len() {
            total -= bytes(&entries[gone]);
            gone += 1;
        }
        entries.drain(..gone);
    }
}

fn same<T: Lanes>(a: &[T], b: &[T]) -> bool {
    a.par_chunks(PIECE).zip(b.par_chunks(PIECE)).all(|(a, b)| a == b)
}

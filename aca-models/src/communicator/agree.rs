//! What ranks find out about each other.

use std::fmt::Display;

use candle_core::{Device, Tensor};

use super::{Communicator, Fingerprint, RanksError};
use crate::{Error, Result};

/// Returns the numbers of every rank, in the order of the ranks; each gives as many.
///
/// # Errors
/// Those of [`Communicator::all_reduce`].
///
/// # Cost
/// Every rank receives the numbers of all.
pub fn gather<C: Communicator + ?Sized>(
    communicator: &C,
    numbers: &[f64],
) -> Result<Vec<Vec<f64>>> {
    let (rank, size) = (communicator.rank(), communicator.size());
    if size == 1 {
        return Ok(vec![numbers.to_vec()]);
    }
    // A sum with zeros in the other ranks' places: exact, and no method more in the trait.
    let mut all = vec![0.0; size * numbers.len()];
    all[rank * numbers.len()..][..numbers.len()].copy_from_slice(numbers);
    let mut sums = [Tensor::from_vec(all, (size, numbers.len()), &Device::Cpu)?];
    communicator.all_reduce(&mut sums)?;
    Ok(sums[0].to_vec2()?)
}

/// Returns the outcome if all ranks have succeeded, and otherwise the same error on all of them: that
/// of the lowest rank that failed.
///
/// Alone it returns the outcome as it is.
///
/// # Errors
/// [`RanksError::Failed`], and those of [`Communicator::all_reduce`].
pub fn together<T, E>(
    communicator: &dyn Communicator,
    outcome: Result<T, E>,
) -> std::result::Result<T, E>
where
    E: Display + From<Error>,
{
    if communicator.size() == 1 {
        return outcome;
    }
    let text = outcome.as_ref().err().map(ToString::to_string);
    let texts = gather_texts(communicator, text.as_deref())?;
    match texts.into_iter().enumerate().find_map(|(rank, text)| Some((rank, text?))) {
        None => outcome,
        Some((rank, reason)) => Err(Error::from(RanksError::Failed { rank, reason }).into()),
    }
}

/// Returns what every rank says, in the order of the ranks.
///
/// # Errors
/// Those of [`Communicator::all_reduce`].
///
/// # Cost
/// A number per rank where none says anything, otherwise eight times the longest text for each.
pub fn gather_texts(
    communicator: &dyn Communicator,
    text: Option<&str>,
) -> Result<Vec<Option<String>>> {
    // One more than its length, so that an empty text counts too.
    let length = text.map_or(0.0, |text| text.len() as f64 + 1.0);
    let lengths = gather(communicator, &[length])?;
    let longest = lengths.iter().map(|length| length[0] as usize).max().unwrap_or(0);
    if longest == 0 {
        return Ok(vec![None; lengths.len()]);
    }
    let mut bytes = vec![0.0; longest];
    for (place, byte) in bytes.iter_mut().zip(text.unwrap_or_default().bytes()) {
        *place = f64::from(byte);
    }
    let read = |(row, length): (Vec<f64>, Vec<f64>)| {
        let length = (length[0] as usize).checked_sub(1)?;
        let bytes: Vec<u8> = row[..length].iter().map(|byte| *byte as u8).collect();
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    Ok(gather(communicator, &bytes)?.into_iter().zip(lengths).map(read).collect())
}

/// Succeeds if all ranks give the same fingerprint of `what`.
///
/// # Errors
/// [`RanksError::Differs`] on every rank, and those of [`Communicator::all_reduce`].
///
/// # Example
/// ```
/// use aca_models::communicator::{Alone, Fingerprint, same};
///
/// # fn main() -> aca_models::Result<()> {
/// same(&Alone, "seeds", Fingerprint::of(b"0..64"))?;
/// # Ok(())
/// # }
/// ```
pub fn same(communicator: &dyn Communicator, what: &str, fingerprint: Fingerprint) -> Result<()> {
    let halves = fingerprint.halves().map(f64::from);
    let all = gather(communicator, &halves)?;
    match all.iter().position(|halves| *halves != all[0]) {
        None => Ok(()),
        Some(rank) => Err(RanksError::Differs { rank, what: what.to_owned() }.into()),
    }
}

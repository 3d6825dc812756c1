//! Ranks whose images are normalised together.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use crate::Result;
use crate::communicator::{Communicator, gather};
use crate::layers::kernels::norm::{Moments, Parts};

/// The ranks that batch norms share statistics with; its copies change together.
#[derive(Clone, Default)]
pub(crate) struct Peers(Arc<RwLock<Option<Arc<dyn Communicator>>>>);

impl Peers {
    /// Shares statistics with these ranks from now on.
    pub(crate) fn set(&self, communicator: Arc<dyn Communicator>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(communicator);
    }

    /// The ranks, unless this one is alone.
    pub(super) fn get(&self) -> Option<Arc<dyn Communicator>> {
        let ranks = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        ranks.filter(|ranks| ranks.size() > 1)
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranks = self.get().map_or(1, |ranks| ranks.size());
        write!(f, "Peers({ranks} ranks)")
    }
}

/// The moments of every channel over the images of all ranks, and how many numbers a channel has there.
pub(super) fn moments(
    ranks: &dyn Communicator,
    own: &[Moments],
    count: usize,
) -> Result<(Vec<Moments>, f64)> {
    let mut numbers = vec![count as f64];
    numbers.extend(own.iter().flat_map(|moments| [moments.mean, moments.variance]));
    let rows = gather(ranks, &numbers)?;
    let mut all = vec![Parts::default(); own.len()];
    for row in &rows {
        for (all, &[mean, variance]) in all.iter_mut().zip(row[1..].as_chunks().0) {
            all.add(row[0], Moments { mean, variance });
        }
    }
    let count = rows.iter().map(|row| row[0]).sum();
    Ok((all.into_iter().map(Parts::moments).collect(), count))
}

/// The sums over all ranks, in the order of the ranks.
pub(super) fn sums(ranks: &dyn Communicator, own: &[[f64; 2]]) -> Result<Vec<[f64; 2]>> {
    let rows = gather(ranks, own.as_flattened())?;
    let add = |channel: usize, i: usize| rows.iter().map(|row| row[2 * channel + i]).sum();
    Ok((0..own.len()).map(|channel| [add(channel, 0), add(channel, 1)]).collect())
}

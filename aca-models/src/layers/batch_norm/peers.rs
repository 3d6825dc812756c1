//! Others whose images are normalised together with those here.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use crate::Result;
use crate::layers::kernels::norm::{Moments, Parts};

/// Others who have images of the same batch, as a batch norm sees them: the ranks of a distributed run, for instance.
pub trait BatchPeers: Send + Sync {
    /// How many they are, this one included.
    fn count(&self) -> usize;

    /// Returns the numbers of each, in an order that is the same for all; each gives as many.
    ///
    /// # Errors
    /// When the others cannot be reached.
    fn gather(&self, numbers: &[f64]) -> Result<Vec<Vec<f64>>>;
}

/// Those with whom batch norms share statistics; its copies change together.
#[derive(Clone, Default)]
pub(crate) struct Peers(Arc<RwLock<Option<Arc<dyn BatchPeers>>>>);

impl Peers {
    /// Shares statistics with these from now on.
    pub(crate) fn set(&self, peers: Arc<dyn BatchPeers>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(peers);
    }

    /// The peers, unless this one is alone.
    pub(super) fn get(&self) -> Option<Arc<dyn BatchPeers>> {
        let peers = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        peers.filter(|peers| peers.count() > 1)
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peers({})", self.get().map_or(1, |peers| peers.count()))
    }
}

/// The moments of every channel over the images of all peers, and how many numbers a channel has there.
pub(super) fn moments(
    peers: &dyn BatchPeers,
    own: &[Moments],
    count: usize,
) -> Result<(Vec<Moments>, f64)> {
    let mut numbers = vec![count as f64];
    numbers.extend(own.iter().flat_map(|moments| [moments.mean, moments.variance]));
    let rows = peers.gather(&numbers)?;
    let mut all = vec![Parts::default(); own.len()];
    for row in &rows {
        for (all, &[mean, variance]) in all.iter_mut().zip(row[1..].as_chunks().0) {
            all.add(row[0], Moments { mean, variance });
        }
    }
    let count = rows.iter().map(|row| row[0]).sum();
    Ok((all.into_iter().map(Parts::moments).collect(), count))
}

/// The sums over all peers, in their order.
pub(super) fn sums(peers: &dyn BatchPeers, own: &[[f64; 2]]) -> Result<Vec<[f64; 2]>> {
    let rows = peers.gather(own.as_flattened())?;
    let add = |channel: usize, i: usize| rows.iter().map(|row| row[2 * channel + i]).sum();
    Ok((0..own.len()).map(|channel| [add(channel, 0), add(channel, 1)]).collect())
}

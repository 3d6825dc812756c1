//! Many processes that train one network.
//!
//! A [`Communicator`] joins the processes of a run, its *ranks*. Each computes gradients of its own
//! images; the sum over all ranks is the same on each of them, bit for bit, so their parameters stay
//! equal without being sent. [`Trainer::distributed`](crate::training::Trainer::distributed) does
//! all of this; a training loop of your own needs [`sum_gradients`].
//!
//! | body | ranks |
//! |---|---|
//! | [`Alone`] | this process |
//! | `Mpi`, with the feature `mpi` | the processes that `mpirun` or Slurm started |
//! | `Nccl`, with the feature `nccl` | the same, each with a GPU |
//!
//! Ranks call the same functions in the same order. Use [`together`] for work that can fail on one rank alone: then all
//! ranks get the error, and none waits for one that has ended.

mod agree;
mod gradients;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(feature = "nccl")]
mod nccl;

use candle_core::Tensor;

pub use aca_core::Fingerprint;
pub use agree::{gather, gather_texts, same, together};
pub use gradients::sum_gradients;
pub(crate) use gradients::{listed, stored};
#[cfg(feature = "mpi")]
pub use mpi::Mpi;
#[cfg(feature = "nccl")]
pub use nccl::Nccl;

use crate::Result;
use crate::layers::BatchPeers;

/// The processes that train one network, seen from one of them.
///
/// Every rank calls the same methods in the same order, with tensors of the same shapes and dtypes.
/// A new way of communication is a new body of this trait.
pub trait Communicator: BatchPeers {
    /// Number of this process, from 0.
    fn rank(&self) -> usize;

    /// Number of processes.
    fn size(&self) -> usize;

    /// Replaces every tensor by its sum over the ranks, which is the same on each, bit for bit, and in
    /// every run: terms are added in the order of the ranks.
    ///
    /// # Errors
    /// For tensors that the body cannot send.
    fn all_reduce(&self, tensors: &mut [Tensor]) -> Result<()>;

    /// Replaces every tensor by that of rank `root`.
    ///
    /// # Errors
    /// For tensors that the body cannot send, and a rank that does not exist.
    fn broadcast(&self, tensors: &mut [Tensor], root: usize) -> Result<()>;

    /// Returns when all ranks have come here.
    ///
    /// # Errors
    /// When the connection fails.
    fn barrier(&self) -> Result<()>;
}

impl<C: Communicator + ?Sized> BatchPeers for C {
    fn count(&self) -> usize {
        self.size()
    }

    fn gather(&self, numbers: &[f64]) -> Result<Vec<Vec<f64>>> {
        gather(self, numbers)
    }
}

/// One process: nothing is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alone;

impl Communicator for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn all_reduce(&self, _: &mut [Tensor]) -> Result<()> {
        Ok(())
    }

    fn broadcast(&self, _: &mut [Tensor], root: usize) -> Result<()> {
        check_root(root, 1)
    }

    fn barrier(&self) -> Result<()> {
        Ok(())
    }
}

fn check_root(root: usize, size: usize) -> Result<()> {
    if root < size { Ok(()) } else { Err(RanksError::Root { root, size }.into()) }
}

/// What ends a run of many processes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RanksError {
    /// A rank failed, and all know it.
    #[error("rank {rank}: {reason}")]
    Failed {
        /// The lowest rank that failed.
        rank: usize,
        /// What it said.
        reason: String,
    },
    /// A rank is not like the first, and all know it.
    #[error(
        "rank {rank} has other {what} than rank 0; start all ranks with the same program, options and files"
    )]
    Differs {
        /// The lowest rank that differs.
        rank: usize,
        /// In what.
        what: String,
    },
    /// There is no such rank.
    #[error("there is no rank {root} among {size}; ranks count from 0")]
    Root {
        /// The rank asked for.
        root: usize,
        /// Number of ranks.
        size: usize,
    },
    /// A tensor of another type or device than can be sent.
    #[error("a tensor of {dtype} on {device} cannot be sent; give f32 or f64 on the CPU")]
    Tensor {
        /// Its dtype.
        dtype: String,
        /// Its device.
        device: String,
    },
    /// MPI can be started once in a process.
    #[error("MPI was started in this process before; share its communicator")]
    Started,
    /// The MPI library may be called by its first thread alone.
    #[error("this MPI library does not support MPI_THREAD_SERIALIZED; use one that does")]
    Threads,
}

impl RanksError {
    /// Whether every rank got this error, so that none waits for another.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::Differs { .. })
    }
}

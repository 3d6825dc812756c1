//! Ranks that talk by MPI.

use std::sync::{Mutex, PoisonError};

use aca_core::kernels::View;
use candle_core::{DType, Device, Tensor, WithDType};
use mpi::{
    Threading,
    environment::Universe,
    topology::SimpleCommunicator,
    traits::{Communicator as _, CommunicatorCollectives, Equivalence, Root},
};

use super::{Communicator, RanksError, check_root};
use crate::{Real, Result};

/// Numbers that are sent at once: a bound on the memory of the messages, 16 MiB of `f32`.
const BUCKET: usize = 1 << 22;

/// The processes that `mpirun` or Slurm started, each with tensors on the CPU.
///
/// Tensors are flattened and travel in buckets. Each rank receives its part of a bucket from all
/// others, adds the parts in the order of the ranks, and sends the sum to all: the order is fixed,
/// which MPI's own reductions do not promise, and no rank sends more than twice the bucket.
///
/// Dropped by a thread that panics, it ends all ranks; dropped otherwise, it waits for them.
pub struct Mpi {
    /// MPI wants its calls one at a time.
    universe: Mutex<Universe>,
    rank: usize,
    size: usize,
}

impl Mpi {
    /// Joins the ranks.
    ///
    /// # Errors
    /// [`RanksError::Started`] the second time, [`RanksError::Threads`]. MPI itself ends the process
    /// with a message where it cannot start.
    pub fn start() -> Result<Self> {
        let started = mpi::initialize_with_threading(Threading::Serialized);
        let (universe, threading) = started.ok_or(RanksError::Started)?;
        if threading < Threading::Serialized {
            return Err(RanksError::Threads.into());
        }
        let world = universe.world();
        let (rank, size) = (world.rank() as usize, world.size() as usize);
        Ok(Self { universe: Mutex::new(universe), rank, size })
    }

    /// Ends all ranks at once, for a failure that they do not know of.
    pub fn abort(&self) -> ! {
        self.with(|world| world.abort(1))
    }

    fn with<R>(&self, work: impl FnOnce(SimpleCommunicator) -> R) -> R {
        let universe = self.universe.lock().unwrap_or_else(PoisonError::into_inner);
        work(universe.world())
    }

    fn sum<T: Real + Equivalence>(&self, bucket: &mut [T]) {
        let part = bucket.len().div_ceil(self.size);
        let mut all = bucket.to_vec();
        all.resize(part * self.size, T::zero());
        let mut received = vec![T::zero(); all.len()];
        self.with(|world| world.all_to_all_into(&all[..], &mut received[..]));
        let (sums, others) = received.split_at_mut(part);
        for other in others.chunks_exact(part) {
            sums.iter_mut().zip(other).for_each(|(sum, x)| *sum += *x);
        }
        self.with(|world| world.all_gather_into(&*sums, &mut all[..]));
        bucket.copy_from_slice(&all[..bucket.len()]);
    }

    /// Runs `work` on the buckets of the tensors of one type.
    fn each<T: Real + Equivalence>(
        &self,
        tensors: &mut [Tensor],
        work: impl Fn(&mut [T]),
    ) -> Result<()> {
        let own: Vec<_> = tensors.iter_mut().filter(|x| x.dtype() == T::DTYPE).collect();
        let mut numbers = flat::<T>(&own)?;
        numbers.chunks_mut(BUCKET).for_each(work);
        let mut rest = &numbers[..];
        for tensor in own {
            let (head, tail) = rest.split_at(tensor.elem_count());
            *tensor = Tensor::from_slice(head, tensor.shape(), &Device::Cpu)?;
            rest = tail;
        }
        Ok(())
    }
}

impl Communicator for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn all_reduce(&self, tensors: &mut [Tensor]) -> Result<()> {
        check(tensors)?;
        if self.size > 1 {
            self.each::<f32>(tensors, |bucket| self.sum(bucket))?;
            self.each::<f64>(tensors, |bucket| self.sum(bucket))?;
        }
        Ok(())
    }

    fn broadcast(&self, tensors: &mut [Tensor], root: usize) -> Result<()> {
        check(tensors)?;
        check_root(root, self.size)?;
        self.each::<f32>(tensors, |bucket| send(self, bucket, root))?;
        self.each::<f64>(tensors, |bucket| send(self, bucket, root))
    }

    fn barrier(&self) -> Result<()> {
        self.with(|world| world.barrier());
        Ok(())
    }
}

impl Drop for Mpi {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Finalising would wait for ranks that wait for this one.
            self.abort();
        }
    }
}

fn send<T: Equivalence>(mpi: &Mpi, bucket: &mut [T], root: usize) {
    mpi.with(|world| world.process_at_rank(root as i32).broadcast_into(bucket));
}

/// The numbers of all tensors, one after the other.
fn flat<T: WithDType>(tensors: &[&mut Tensor]) -> Result<Vec<T>> {
    let mut numbers = Vec::with_capacity(tensors.iter().map(|x| x.elem_count()).sum());
    for tensor in tensors {
        let tensor = tensor.contiguous()?;
        numbers.extend_from_slice(View::new(&tensor)?.slice::<T>()?);
    }
    Ok(numbers)
}

fn check(tensors: &[Tensor]) -> Result<()> {
    let sends = |x: &Tensor| x.device().is_cpu() && matches!(x.dtype(), DType::F32 | DType::F64);
    match tensors.iter().find(|x| !sends(x)) {
        None => Ok(()),
        Some(x) => {
            let (dtype, device) = (x.dtype().as_str().to_owned(), format!("{:?}", x.device()));
            Err(RanksError::Tensor { dtype, device }.into())
        }
    }
}

//! Ranks whose tensors live on GPUs.

use std::sync::Arc;

use aca_core::kernels::combine;
use candle_core::{DType, Device, Tensor};

use super::{Communicator, Mpi, RanksError, check_root};
use crate::Result;
use crate::layers::kernels::cuda::{Collective, Sent};

/// Numbers that are sent at once: a bound on the memory of the messages, 64 MiB of `f32`.
const BUCKET: usize = 1 << 24;

/// The processes that `mpirun` or Slurm started, each with a GPU.
///
/// Tensors on the GPU go from GPU to GPU; those on the CPU go by [`Mpi`], which the ranks find each other by too.
///
/// Tensors are flattened and travel in buckets. Each rank receives its part of a bucket from all others, adds the
/// parts in the order of the ranks in one launch, and sends the sum to all. NCCL's own reduction chooses rings or
/// trees by the machine, and so the order of its sums; to gather whole buckets everywhere and add them there would
/// send half as many times more numbers as there are ranks.
///
/// # Example
/// ```no_run
/// use aca_models::communicator::{Communicator, Mpi, Nccl};
///
/// # fn main() -> aca_models::Result<()> {
/// let mpi = std::sync::Arc::new(Mpi::start()?);
/// let gpu = aca_core::kernels::cuda::device(mpi.rank() % 8)?;
/// let ranks = Nccl::join(mpi, &gpu)?;
/// assert!(ranks.rank() < ranks.size());
/// # Ok(())
/// # }
/// ```
pub struct Nccl {
    mpi: Arc<Mpi>,
    gpus: Collective,
}

impl Nccl {
    /// Joins the ranks of `mpi`, each with its own GPU.
    ///
    /// # Errors
    /// When the device is no GPU; when the GPUs cannot reach each other.
    pub fn join(mpi: Arc<Mpi>, device: &Device) -> Result<Self> {
        let gpu = device.as_cuda_device()?;
        // Letters travel as numbers: MPI's body sends those.
        let own = if mpi.rank() == 0 { Collective::name()? } else { [0; 128] };
        let letters = own.iter().map(|&letter| f32::from(letter));
        let mut letters = [Tensor::from_iter(letters, &Device::Cpu)?];
        mpi.broadcast(&mut letters, 0)?;
        let mut name = [0; 128];
        for (letter, number) in name.iter_mut().zip(letters[0].to_vec1::<f32>()?) {
            *letter = number as u8;
        }
        let gpus = Collective::join(gpu, [mpi.rank(), mpi.size()], name)?;
        Ok(Self { mpi, gpus })
    }

    /// The sum of a bucket over the ranks.
    fn sum<T: Sent>(&self, bucket: &Tensor) -> Result<Tensor> {
        let (size, ranks) = (bucket.elem_count(), self.size());
        let part = size.div_ceil(ranks);
        let padded = bucket.pad_with_zeros(0, 0, part * ranks - size)?.contiguous()?;
        let received = self.gpus.exchange::<T>(&padded.reshape((ranks, part))?)?;
        let rows =
            (0..ranks).map(|rank| received.get(rank)).collect::<candle_core::Result<Vec<_>>>()?;
        let terms: Vec<(f64, &Tensor)> = rows[1..].iter().map(|row| (1.0, row)).collect();
        let sum = combine(Some(&rows[0]), &terms)?;
        Ok(self.gpus.gather::<T>(&sum, ranks)?.narrow(0, 0, size)?)
    }

    /// Sums the tensors of one type on the GPU.
    fn sum_all<T: Sent>(&self, tensors: &mut [&mut Tensor]) -> Result<()> {
        if tensors.is_empty() || self.size() == 1 {
            return Ok(());
        }
        let flat = tensors.iter().map(|x| x.detach().flatten_all());
        let flat = Tensor::cat(&flat.collect::<candle_core::Result<Vec<_>>>()?, 0)?;
        let buckets = (0..flat.elem_count()).step_by(BUCKET).map(|start| {
            let bucket = flat.narrow(0, start, BUCKET.min(flat.elem_count() - start))?;
            self.sum::<T>(&bucket)
        });
        let sums = Tensor::cat(&buckets.collect::<Result<Vec<_>>>()?, 0)?;
        let mut start = 0;
        for tensor in tensors {
            let own = sums.narrow(0, start, tensor.elem_count())?;
            start += tensor.elem_count();
            **tensor = own.reshape(tensor.shape())?.force_contiguous()?;
        }
        Ok(())
    }

    /// Runs `cpu` on the tensors there, and the others on those of each type on this rank's GPU.
    fn split(
        &self,
        tensors: &mut [Tensor],
        cpu: impl FnOnce(&mut [Tensor]) -> Result<()>,
        single: impl FnOnce(&mut [&mut Tensor]) -> Result<()>,
        double: impl FnOnce(&mut [&mut Tensor]) -> Result<()>,
    ) -> Result<()> {
        let [mut here, mut singles, mut doubles] = [const { Vec::<&mut Tensor>::new() }; 3];
        let own = Device::Cuda(self.gpus.device().clone());
        for tensor in tensors {
            match tensor.dtype() {
                _ if tensor.device().is_cpu() => here.push(tensor),
                DType::F32 if tensor.device().same_device(&own) => singles.push(tensor),
                DType::F64 if tensor.device().same_device(&own) => doubles.push(tensor),
                dtype => {
                    let device = format!("{:?}", tensor.device());
                    return Err(
                        RanksError::Tensor { dtype: dtype.as_str().to_owned(), device }.into()
                    );
                }
            }
        }
        let mut copies: Vec<Tensor> = here.iter().map(|tensor| (**tensor).clone()).collect();
        cpu(&mut copies)?;
        here.into_iter().zip(copies).for_each(|(tensor, copy)| *tensor = copy);
        single(&mut singles)?;
        double(&mut doubles)
    }
}

impl Communicator for Nccl {
    fn rank(&self) -> usize {
        self.mpi.rank()
    }

    fn size(&self) -> usize {
        self.mpi.size()
    }

    fn all_reduce(&self, tensors: &mut [Tensor]) -> Result<()> {
        self.split(
            tensors,
            |tensors| self.mpi.all_reduce(tensors),
            |tensors| self.sum_all::<f32>(tensors),
            |tensors| self.sum_all::<f64>(tensors),
        )
    }

    fn broadcast(&self, tensors: &mut [Tensor], root: usize) -> Result<()> {
        check_root(root, self.size())?;
        self.split(
            tensors,
            |tensors| self.mpi.broadcast(tensors, root),
            |tensors| spread::<f32>(&self.gpus, tensors, root),
            |tensors| spread::<f64>(&self.gpus, tensors, root),
        )
    }

    fn barrier(&self) -> Result<()> {
        Device::Cuda(self.gpus.device().clone()).synchronize()?;
        self.mpi.barrier()
    }
}

fn spread<T: Sent>(gpus: &Collective, tensors: &mut [&mut Tensor], root: usize) -> Result<()> {
    for tensor in tensors {
        **tensor = gpus.broadcast::<T>(&tensor.detach().contiguous()?, root)?;
    }
    Ok(())
}

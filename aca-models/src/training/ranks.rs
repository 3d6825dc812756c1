//! What a training loop of many ranks does in common.

use candle_core::{Device, Tensor, Var, backprop::GradStore};

use super::{Tally, TrainPlan};
use crate::{
    Error, Result,
    communicator::{Communicator, Fingerprint, gather, listed, same, stored, together},
    data::DataSet,
    networks::Network,
};

/// What images gave, of one rank or of all.
#[derive(Default)]
pub(super) struct Learned {
    pub(super) gradients: GradStore,
    pub(super) sums: Tally,
}

/// Adds up what all ranks have learned, unless one of them has failed.
///
/// The sums travel with the gradients, and so does a failure: a rank that said nothing of it would
/// leave the others waiting.
pub(super) fn share(
    communicator: &dyn Communicator,
    vars: &[Var],
    own: Result<Learned>,
) -> Result<Learned> {
    let (rank, size) = (communicator.rank(), communicator.size());
    if size == 1 {
        return own;
    }
    let (mut tensors, sums) = match &own {
        Ok(Learned { gradients, sums }) => (listed(vars, gradients)?, sums.clone()),
        Err(_) => (listed(vars, &GradStore::default())?, Tally::default()),
    };
    // The number of failures, the sums, and a place for the steps of each rank: of them the smallest
    // and the largest is wanted, not the sum.
    let mut numbers = vec![f64::from(u8::from(own.is_err()))];
    numbers.extend(sums.sums());
    let steps = numbers.len();
    numbers.resize(steps + 2 * size, 0.0);
    numbers[steps + 2 * rank..][..2].copy_from_slice(&[sums.h_smallest, sums.h_largest]);
    let count = numbers.len();
    tensors.push(Tensor::from_vec(numbers, count, &Device::Cpu)?);
    communicator.all_reduce(&mut tensors)?;
    let numbers = tensors.pop().map_or(Ok(Vec::new()), |numbers| numbers.to_vec1::<f64>())?;
    let (head, steps) = numbers.split_at(steps);
    if head[0] > 0.0 {
        return together(communicator, own);
    }
    let sums = std::array::from_fn(|i| head[i + 1]);
    let sums = Tally::from_sums(sums, steps.as_chunks().0);
    Ok(Learned { gradients: stored(vars, tensors), sums })
}

/// Whether it is so on any rank.
pub(super) fn any(communicator: &dyn Communicator, own: bool) -> Result<bool> {
    let all = gather(communicator, &[f64::from(u8::from(own))])?;
    Ok(all.iter().any(|own| own[0] > 0.0))
}

/// Gives every rank the means of the ranks' variables.
pub(super) fn average(communicator: &dyn Communicator, vars: &[(String, Var)]) -> Result<()> {
    let size = communicator.size() as f64;
    exchange(communicator, vars, |tensors| {
        communicator.all_reduce(tensors)?;
        tensors.iter_mut().try_for_each(|sum| {
            *sum = (&*sum / size)?;
            Ok(())
        })
    })
}

/// Gives every rank the variables of rank 0.
pub(super) fn broadcast(communicator: &dyn Communicator, vars: &[(String, Var)]) -> Result<()> {
    exchange(communicator, vars, |tensors| communicator.broadcast(tensors, 0))
}

/// Sets variables to what `work` makes of them, unless this rank is alone.
fn exchange(
    communicator: &dyn Communicator,
    vars: &[(String, Var)],
    work: impl FnOnce(&mut [Tensor]) -> Result<()>,
) -> Result<()> {
    if communicator.size() == 1 {
        return Ok(());
    }
    // Copies, since a communicator may leave tensors as they are, and no variable is set to itself.
    let copies = vars.iter().map(|(_, var)| var.copy());
    let mut tensors = copies.collect::<candle_core::Result<Vec<_>>>()?;
    work(&mut tensors)?;
    for ((_, var), tensor) in vars.iter().zip(tensors) {
        var.set(&tensor)?;
    }
    Ok(())
}

/// Refuses an epoch whose last step has no image for some rank.
pub(super) fn check_last_step(ranks: usize, plan: &TrainPlan, data: &DataSet) -> Result<()> {
    let (images, step) = (data.train.len(), plan.batch_size * ranks);
    match images % step {
        left if left > 0 && left < ranks => Err(Error::EmptyRank { images, step, left, ranks }),
        _ => Ok(()),
    }
}

/// Refuses an epoch in which some batch is one image and the network's batch norms see one number a channel
/// of it, which has no variance. It would fail at the end of the epoch, after hours.
pub(super) fn check_smallest_batch(
    ranks: usize,
    plan: &TrainPlan,
    data: &DataSet,
    network: &Network,
) -> Result<()> {
    let (images, batch_size) = (data.train.len(), plan.batch_size);
    // With the statistics of all ranks a step is one batch of them all.
    let (shares, step) = match plan.sync_batch_norm {
        true => ([images; 2], batch_size * ranks),
        false => ([images / ranks, images.div_ceil(ranks)], batch_size),
    };
    let ends_alone = |share: &usize| share % step == 1 || (step == 1 && *share > 0);
    match shares.into_iter().find(ends_alone) {
        Some(images) if network.fewest_numbers(data.train.shape()) == 1 => {
            let network = network.name().as_str();
            Err(Error::LoneImage { images, batch_size: step, network })
        }
        _ => Ok(()),
    }
}

/// Refuses ranks whose network, plan or data are not those of rank 0.
pub(super) fn same_start(
    communicator: &dyn Communicator,
    network: &Network,
    plan: &TrainPlan,
    data: &DataSet,
) -> Result<()> {
    if communicator.size() == 1 {
        return Ok(());
    }
    same(communicator, "network", Fingerprint::of(network.settings().as_bytes()))?;
    same(communicator, "training plan", Fingerprint::of(format!("{plan:?}").as_bytes()))?;
    let mut fingerprint = Fingerprint::of(format!("{} {:?}", data.name, data.recipe).as_bytes());
    for images in [&data.train, &data.test] {
        fingerprint.add(images.pixels());
        fingerprint.add(images.labels());
    }
    same(communicator, "images", fingerprint)
}

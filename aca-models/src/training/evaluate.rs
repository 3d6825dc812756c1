//! Judging a network by images that it did not learn from.

use std::sync::Arc;

use candle_core::{D, DType, Tensor};

use super::Tally;
use crate::{
    Result,
    data::{Batch, BatchPlan, Batches, Images, Recipe},
    networks::{Mode, Network},
};

/// The result of evaluating a network on images.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Sums over the images.
    pub sums: Tally,
    /// Probability that the network gives to the true class of each image, in the order of the images.
    pub certainties: Vec<f64>,
}

/// Evaluates `network` on all images, in batches of at most `batch_size`.
///
/// Batch normalisation uses its running statistics, so that no image changes another's result.
///
/// # Errors
/// Those of [`Batches::new`], and what the network's fields and solver refuse.
pub fn evaluate(
    network: &Network,
    images: &Arc<Images>,
    recipe: &Recipe,
    batch_size: usize,
) -> Result<Verdict> {
    evaluate_shard(network, images, recipe, batch_size, (0, 1))
}

/// Judges `network` by one of the equal shares of the images, (share, shares), which may be empty.
pub(super) fn evaluate_shard(
    network: &Network,
    images: &Arc<Images>,
    recipe: &Recipe,
    batch_size: usize,
    shard: (usize, usize),
) -> Result<Verdict> {
    let count = images.len().saturating_sub(shard.0).div_ceil(shard.1);
    let (mut sums, mut certainties) = (Tally::default(), Vec::with_capacity(count));
    if count == 0 && shard.1 > 1 {
        return Ok(Verdict { sums, certainties });
    }
    let plan = BatchPlan { shard, ..BatchPlan::evaluation(batch_size.min(count)) };
    for batch in Batches::new(images.clone(), recipe, &plan, 0)? {
        let Batch { images, labels, .. } = batch?.to(network.device(), network.dtype())?;
        network.reset_evaluations();
        let logits = network.forward(&images, Mode::Eval)?;
        let loss = candle_nn::loss::cross_entropy(&logits, &labels)?;
        sums.add(&tally(network, &logits, &loss, &labels)?);
        let shares = candle_nn::ops::softmax_last_dim(&logits)?;
        let of_class = shares.gather(&labels.unsqueeze(1)?, 1)?.flatten_all()?;
        certainties.extend(of_class.to_dtype(DType::F64)?.to_vec1::<f64>()?);
    }
    Ok(Verdict { sums, certainties })
}

/// The sums of one batch.
pub(super) fn tally(
    network: &Network,
    logits: &Tensor,
    loss: &Tensor,
    labels: &Tensor,
) -> Result<Tally> {
    let images = labels.elem_count();
    let found = logits.argmax(D::Minus1)?.eq(labels)?;
    let correct = found.to_vec1::<u8>()?.into_iter().map(usize::from).sum();
    let loss = loss.to_dtype(DType::F64)?.to_scalar::<f64>()? * images as f64;
    let work = network.evaluations();
    Ok(Tally {
        loss,
        correct,
        images,
        batches: 1,
        nfe_forward: work.nfe_forward,
        nfe_backward: work.nfe_backward,
        accepted: work.accepted,
        rejected: work.rejected,
        length: work.length,
        h_smallest: work.h_smallest,
        h_largest: work.h_largest,
    })
}

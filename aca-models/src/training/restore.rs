//! Variables that take what a checkpoint holds.

use candle_core::Var;

use super::Checkpoint;
use crate::{
    Error, Result,
    networks::{Network, NetworkName},
};

/// Gives `network` the parameters and running statistics of `checkpoint`.
///
/// # Errors
/// [`Error::OtherNetwork`], [`Error::Tensors`]; the network is as it was then.
pub fn load_network(network: &Network, checkpoint: &Checkpoint) -> Result<()> {
    restore(network.name(), network_vars(network), checkpoint)
}

/// Variables of a network by their names in checkpoints.
pub(super) fn network_vars(network: &Network) -> Vec<(String, Var)> {
    let parameters = keyed("parameters", network.parameters());
    parameters.chain(keyed("statistics", network.statistics())).collect()
}

pub(super) fn keyed(kind: &str, vars: Vec<(String, Var)>) -> impl Iterator<Item = (String, Var)> {
    vars.into_iter().map(move |(name, var)| (format!("{kind}/{name}"), var))
}

/// Sets all variables to what the checkpoint holds for them.
pub(super) fn restore(
    network: NetworkName,
    vars: Vec<(String, Var)>,
    checkpoint: &Checkpoint,
) -> Result<()> {
    let (found, expected) = (&checkpoint.about.network, network.as_str());
    if found != expected {
        return Err(Error::OtherNetwork { found: found.clone(), expected });
    }
    let saved = |name: &String, var: &Var| {
        let saved = checkpoint.tensors.get(name)?;
        (saved.dims() == var.dims() && saved.dtype() == var.dtype()).then(|| saved.clone())
    };
    // All are looked at before the first is set: half a network is worse than none.
    let pairs: Vec<_> = vars.iter().map(|(name, var)| (name, var, saved(name, var))).collect();
    let bad = pairs.iter().filter(|(.., saved)| saved.is_none());
    let names: Vec<String> = bad.map(|(name, ..)| (*name).clone()).collect();
    if !names.is_empty() {
        return Err(Error::Tensors { names });
    }
    for (_, var, saved) in pairs {
        saved.map_or(Ok(()), |saved| var.set(&saved.to_device(var.device())?))?;
    }
    Ok(())
}

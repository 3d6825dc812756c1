//! Checkpoints of PyTorch.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use candle_core::pickle::read_all_with_key;
use candle_core::{Tensor, Var};

use crate::{Error, Result};

/// Where state dicts hide in dicts of other things; at first the file is one itself.
const KEYS: [Option<&str>; 5] =
    [None, Some("state_dict"), Some("model_state_dict"), Some("model"), Some("net")];

/// What a checkpoint had for a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Variables that were set, in the network's order.
    pub loaded: Vec<String>,
    /// Variables that the file lacks, in the network's order.
    pub missing: Vec<String>,
    /// Tensors that the network has no use for, by the file's names, sorted.
    pub extra: Vec<String>,
}

/// Sets `variables` to the tensors of a file; all of them or, in case of an error, none.
pub(super) fn load(path: &Path, variables: &[(String, Var)]) -> Result<LoadReport> {
    let mut tensors = read(path)?;
    let mut report = LoadReport::default();
    let mut values = Vec::new();
    for (name, var) in variables {
        let Some((known_as, tensor)) = tensors.remove(name) else {
            report.missing.push(name.clone());
            continue;
        };
        if tensor.shape() != var.shape() {
            let (got, expected) = (tensor.dims().to_vec(), var.dims().to_vec());
            return Err(Error::CheckpointShape { name: known_as, got, expected });
        }
        values.push((var, tensor.to_dtype(var.dtype())?));
        report.loaded.push(name.clone());
    }
    report.extra = tensors.into_values().map(|(known_as, _)| known_as).collect();
    report.extra.sort();
    if report.loaded.is_empty() {
        let (path, first) = (path.to_owned(), report.extra.first().cloned().unwrap_or_default());
        return Err(Error::ForeignCheckpoint { path, tensors: report.extra.len(), first });
    }
    values.into_iter().try_for_each(|(var, value)| var.set(&value))?;
    Ok(report)
}

/// The tensors of a file by our names, each with the file's own.
fn read(path: &Path) -> Result<BTreeMap<String, (String, Tensor)>> {
    std::fs::File::open(path).map_err(|source| {
        let path = path.to_owned();
        Error::File { action: "open", path, source }
    })?;
    for key in KEYS {
        let tensors = read_key(path, key)?;
        if !tensors.is_empty() {
            let counts = |name: &str| name.ends_with("num_batches_tracked");
            let tensors = tensors.into_iter().filter(|(name, _)| !counts(name));
            return Ok(tensors.map(|(name, tensor)| (ours(&name), (name, tensor))).collect());
        }
    }
    Err(Error::EmptyCheckpoint { path: path.to_owned() })
}

/// The tensors of the dict under `key`; none where there is no such key.
fn read_key(path: &Path, key: Option<&str>) -> Result<Vec<(String, Tensor)>> {
    // Candle's reader indexes into what it unpickles, so a damaged file can make it panic.
    let tensors = catch_unwind(AssertUnwindSafe(|| read_all_with_key(path, key)));
    let unreadable = |reason: String| Error::Checkpoint { path: path.to_owned(), reason };
    match tensors {
        Ok(Ok(tensors)) => Ok(tensors),
        Ok(Err(error)) => {
            // What follows the first line is a backtrace.
            let reason = error.to_string().lines().next().unwrap_or_default().to_owned();
            match key {
                Some(key) if reason == format!("key {key} not found") => Ok(Vec::new()),
                _ => Err(unreadable(reason)),
            }
        }
        Err(_) => Err(unreadable("its pickle is malformed".to_owned())),
    }
}

/// Our name of a tensor.
fn ours(name: &str) -> String {
    let name = name.strip_prefix("module.").unwrap_or(name);
    let parts = name.split('.').map(|part| match part {
        "fc" => "linear",
        "downsample" => "shortcut",
        part => part,
    });
    parts.collect::<Vec<_>>().join(".")
}

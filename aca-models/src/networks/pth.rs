//! Checkpoints of PyTorch.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::Read;
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
    let Found { mut tensors, mut extra } = read(path, variables)?;
    let (mut loaded, mut missing, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for (name, var) in variables {
        let Some((known_as, tensor)) = tensors.remove(name) else {
            missing.push(name.clone());
            continue;
        };
        if tensor.shape() != var.shape() {
            let (got, expected) = (tensor.dims().to_vec(), var.dims().to_vec());
            return Err(Error::CheckpointShape { name: known_as, got, expected });
        }
        values.push((var, tensor.to_dtype(var.dtype())?));
        loaded.push(name.clone());
    }
    extra.extend(tensors.into_values().map(|(known_as, _)| known_as));
    extra.sort();
    if loaded.is_empty() {
        let (path, first) = (path.to_owned(), extra.first().cloned().unwrap_or_default());
        return Err(Error::ForeignCheckpoint { path, tensors: extra.len(), first });
    }
    values.into_iter().try_for_each(|(var, value)| var.set(&value))?;
    Ok(LoadReport { loaded, missing, extra })
}

/// The tensors of a dict by our names, each with the file's own, and the names of those that another took.
#[derive(Default)]
struct Found {
    tensors: BTreeMap<String, (String, Tensor)>,
    extra: Vec<String>,
}

impl Found {
    /// Where two names are one of ours, the one that is spelled so counts, else the first by the alphabet.
    fn new(mut named: Vec<(String, Tensor)>) -> Self {
        named.retain(|(name, _)| !name.ends_with("num_batches_tracked"));
        named.sort_by_cached_key(|(name, _)| (ours(name) != *name, name.clone()));
        let mut found = Self::default();
        for (name, tensor) in named {
            match found.tensors.entry(ours(&name)) {
                Entry::Vacant(place) => {
                    place.insert((name, tensor));
                }
                Entry::Occupied(_) => found.extra.push(name),
            }
        }
        found
    }

    /// Whether the network knows one of the tensors.
    fn knows_any(&self, variables: &[(String, Var)]) -> bool {
        variables.iter().any(|(name, _)| self.tensors.contains_key(name))
    }
}

/// The first dict of a file that knows a variable, else the first with tensors.
fn read(path: &Path, variables: &[(String, Var)]) -> Result<Found> {
    let file = std::fs::File::open(path).map_err(|source| {
        let path = path.to_owned();
        Error::File { action: "open", path, source }
    })?;
    check_byte_order(path, file)?;
    let mut foreign = None;
    for key in KEYS {
        let found = Found::new(read_key(path, key)?);
        if found.knows_any(variables) {
            return Ok(found);
        }
        foreign = foreign.or(Some(found).filter(|found| !found.tensors.is_empty()));
    }
    foreign.ok_or_else(|| Error::EmptyCheckpoint { path: path.to_owned() })
}

/// Refuses files whose numbers are the other way round than candle's reader takes them; what is no zip file is
/// left to it.
fn check_byte_order(path: &Path, file: std::fs::File) -> Result<()> {
    let Ok(mut zip) = zip::ZipArchive::new(file) else { return Ok(()) };
    let named = (0..zip.len()).find(|&i| {
        zip.by_index(i)
            .is_ok_and(|entry| entry.name().is_ok_and(|name| name.ends_with("/byteorder")))
    });
    let Some(mut entry) = named.and_then(|i| zip.by_index(i).ok()) else { return Ok(()) };
    let mut order = String::new();
    // An entry that cannot be read says nothing of the others.
    if entry.read_to_string(&mut order).is_ok() && order.trim() == "big" {
        let reason = "its numbers are big-endian".to_owned();
        let remedy = "save it anew on a little-endian machine";
        return Err(Error::Checkpoint { path: path.to_owned(), reason, remedy });
    }
    Ok(())
}

/// The tensors of the dict under `key`; none where there is no such key.
fn read_key(path: &Path, key: Option<&str>) -> Result<Vec<(String, Tensor)>> {
    // Candle's reader indexes into what it unpickles, so a damaged file can make it panic.
    let tensors = catch_unwind(AssertUnwindSafe(|| read_all_with_key(path, key)));
    let unreadable = |reason: String| {
        let remedy = match () {
            () if reason.contains("non-contiguous") => {
                "save {k: v.contiguous() for k, v in state_dict.items()} in its place"
            }
            () if reason.contains("op-code") => {
                "save it with torch.save and its default pickle_protocol, 2"
            }
            () => "save it with torch.save, whose zip form is the default since PyTorch 1.6",
        };
        Error::Checkpoint { path: path.to_owned(), reason, remedy }
    };
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

//! A training run in one file.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::Path,
};

use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{EpochRow, Position, TrainPlan};
use crate::files::{file_error, replace};
use crate::{Error, Result};

/// Version of the layout of checkpoint files.
const FORMAT: u32 = 1;
/// Key of [`About`] in the file's metadata.
const KEY: &str = "aca";

/// Everything that is needed to resume a training run: tensors by name, and what they belong to.
///
/// The file is a safetensors file, so other programs read its tensors; names begin with
/// `parameters/`, `statistics/` or `momentum/`.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// What the tensors belong to.
    pub about: About,
    /// Tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
}

/// What the tensors of a [`Checkpoint`] belong to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// Version of the file's layout.
    format: u32,
    /// Name of the network.
    pub network: String,
    /// Name of the data set.
    pub data: String,
    /// Plan of the run.
    pub plan: TrainPlan,
    /// Processes that learned it, each in batches of the plan's size.
    #[serde(default = "one")]
    pub ranks: usize,
    /// Position of the run.
    pub position: Position,
    /// Its completed epochs.
    pub history: Vec<EpochRow>,
    /// Settings of the program, which the library stores without reading them.
    pub settings: Value,
}

/// Checkpoints of the time before there were ranks do not name their number.
fn one() -> usize {
    1
}

impl About {
    pub(super) fn new(names: [&str; 2], plan: TrainPlan, settings: Value) -> Self {
        Self {
            format: FORMAT,
            network: names[0].to_owned(),
            data: names[1].to_owned(),
            plan,
            ranks: 1,
            position: Position::default(),
            history: Vec::new(),
            settings,
        }
    }
}

impl Checkpoint {
    /// Reads a checkpoint.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be read, [`Error::NoCheckpoint`] when it is damaged or
    /// something else.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(file_error("read", path))?;
        let foreign = |reason: String| Error::NoCheckpoint { path: path.to_owned(), reason };
        let (_, header) =
            SafeTensors::read_metadata(&bytes).map_err(|error| foreign(error.to_string()))?;
        let about = header.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
        let about =
            about.ok_or_else(|| foreign("it was not written by this project".to_owned()))?;
        let about: About =
            serde_json::from_str(about).map_err(|error| foreign(error.to_string()))?;
        if about.format != FORMAT {
            return Err(foreign(format!(
                "its layout has version {}, this program reads {FORMAT}",
                about.format
            )));
        }
        // The header alone does not say whether the data behind it are whole.
        SafeTensors::deserialize(&bytes).map_err(|error| foreign(error.to_string()))?;
        let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)?;
        Ok(Self { about, tensors: tensors.into_iter().collect() })
    }

    /// Writes the checkpoint so that `path` holds either the old file or the whole new one,
    /// whatever happens in between.
    ///
    /// # Errors
    /// [`Error::File`]; the old file is as it was then.
    pub fn save(&self, path: &Path) -> Result<()> {
        let about = serde_json::to_string(&self.about)
            .map_err(|error| file_error("write", path)(io::Error::other(error)))?;
        let metadata = HashMap::from([(KEY.to_owned(), about)]);
        let bytes = safetensors::serialize(&self.tensors, Some(metadata))
            .map_err(|error| file_error("write", path)(io::Error::other(error)))?;
        replace(path, &bytes)
    }
}

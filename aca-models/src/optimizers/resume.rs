//! A training loop in one file.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;

use candle_core::{Device, Tensor, Var};
use safetensors::SafeTensors;

use crate::files::{file_error, replace};
use crate::{Error, Result};

/// Key of the number of steps in the file's metadata.
const STEPS: &str = "aca-loop-steps";

/// An optimizer whose state can be saved.
pub trait Resumable {
    /// The optimizer's state: every variable, besides the parameters, on which the next steps depend, with its name.
    /// Setting these variables resumes an interrupted run bit for bit.
    fn state(&self) -> Vec<(String, Var)>;
}

/// Writes parameters, the optimizer's state and the number of steps done to `path`, which holds either the old file or the
/// whole new one, whatever happens in between.
///
/// # Errors
/// [`Error::File`]; the old file is as it was then.
///
/// # Example
/// ```
/// use aca_models::optimizers::{Adam, AdamConfig, load_state, save_state};
/// use candle_core::{Device, Var};
///
/// # fn main() -> aca_models::Result<()> {
/// # let path = std::env::temp_dir().join(format!("aca-loop-{}.safetensors", std::process::id()));
/// let parameters = vec![("x".to_owned(), Var::new(&[3.0f64], &Device::Cpu)?)];
/// let mut adam = Adam::new(parameters.clone(), AdamConfig::default())?;
/// adam.step(&parameters[0].1.sqr()?.backward()?)?;
/// save_state(&path, &parameters, &adam, 1)?;
///
/// let parameters = vec![("x".to_owned(), Var::new(&[0.0f64], &Device::Cpu)?)];
/// let adam = Adam::new(parameters.clone(), AdamConfig::default())?;
/// assert_eq!(load_state(&path, &parameters, &adam)?, 1);
/// assert!((parameters[0].1.to_vec1::<f64>()?[0] - 2.999).abs() < 1e-6);
/// # let _ = std::fs::remove_file(&path);
/// # Ok(())
/// # }
/// ```
pub fn save_state(
    path: &Path,
    parameters: &[(String, Var)],
    optimizer: &dyn Resumable,
    steps: usize,
) -> Result<()> {
    let tensors: BTreeMap<String, Tensor> = all(parameters, optimizer)
        .into_iter()
        .map(|(name, var)| (name, var.as_detached_tensor()))
        .collect();
    let metadata = HashMap::from([(STEPS.to_owned(), steps.to_string())]);
    let bytes = safetensors::serialize(&tensors, Some(metadata))
        .map_err(|error| file_error("write", path)(io::Error::other(error)))?;
    replace(path, &bytes)
}

/// Sets parameters and the optimizer's state to what [`save_state`] wrote to `path`; returns the number of steps done.
///
/// # Errors
/// [`Error::File`] when it cannot be read; [`Error::NoCheckpoint`] when it is damaged, something else, or of other
/// parameters or another optimizer. Nothing is changed then.
pub fn load_state(
    path: &Path,
    parameters: &[(String, Var)],
    optimizer: &dyn Resumable,
) -> Result<usize> {
    let bytes = std::fs::read(path).map_err(file_error("read", path))?;
    let foreign = |reason: String| Error::NoCheckpoint { path: path.to_owned(), reason };
    let (_, header) =
        SafeTensors::read_metadata(&bytes).map_err(|error| foreign(error.to_string()))?;
    let steps = header.metadata().as_ref().and_then(|metadata| metadata.get(STEPS));
    let steps = steps.and_then(|steps| steps.parse().ok());
    let steps = steps.ok_or_else(|| foreign("save_state did not write it".to_owned()))?;
    let mut found = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
        .map_err(|error| foreign(error.to_string()))?;
    let mut settings = Vec::new();
    for (name, var) in all(parameters, optimizer) {
        let tensor = found.remove(&name).ok_or_else(|| foreign(format!("it has no {name}")))?;
        if tensor.shape() != var.shape() || tensor.dtype() != var.dtype() {
            let (got, expected) = (tensor.dims(), var.dims());
            let (from, to) = (tensor.dtype().as_str(), var.dtype().as_str());
            let reason = format!("its {name} is {from} {got:?} where {to} {expected:?} is needed");
            return Err(foreign(reason));
        }
        settings.push((var, tensor));
    }
    if let Some(name) = found.keys().min() {
        return Err(foreign(format!("it has {name}, which is not among those to be set")));
    }
    for (var, tensor) in settings {
        var.set(&tensor.to_device(var.device())?)?;
    }
    Ok(steps)
}

/// All variables of a loop by their names in the file.
fn all(parameters: &[(String, Var)], optimizer: &dyn Resumable) -> Vec<(String, Var)> {
    let named = |group: &str, vars: Vec<(String, Var)>| {
        let name = |(name, var): (String, Var)| (format!("{group}/{name}"), var);
        vars.into_iter().map(name).collect::<Vec<_>>()
    };
    [named("parameters", parameters.to_vec()), named("optimizer", optimizer.state())].concat()
}

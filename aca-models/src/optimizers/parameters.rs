//! Named parameters of an optimizer.

use std::collections::HashSet;

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var, bail};

/// Parameters and their names, each once.
#[derive(Debug)]
pub(super) struct Parameters(pub(super) Vec<(String, Var)>);

impl Parameters {
    /// Takes parameters; one that is listed twice is the same parameter.
    pub(super) fn new(parameters: Vec<(String, Var)>) -> Self {
        let mut seen = HashSet::new();
        Self(parameters.into_iter().filter(|(_, var)| seen.insert(var.id())).collect())
    }

    /// Names parameters by their positions.
    pub(super) fn numbered(vars: Vec<Var>) -> Vec<(String, Var)> {
        vars.into_iter().enumerate().map(|(i, var)| (i.to_string(), var)).collect()
    }

    /// One variable of zeros for each.
    pub(super) fn zeros(&self) -> Result<Vec<Var>> {
        self.0.iter().map(|(_, var)| Var::from_tensor(&var.zeros_like()?)).collect()
    }

    /// Refuses gradients that do not fit, so that no parameter moves before all are seen to.
    pub(super) fn check(&self, gradients: &GradStore) -> Result<()> {
        for (name, parameter) in &self.0 {
            let gradient = gradients.get(parameter).map_or(parameter.shape(), Tensor::shape);
            if gradient != parameter.shape() {
                let (got, expected) = (gradient.dims(), parameter.dims());
                bail!("the gradient of {name} has shape {got:?}, but the parameter {expected:?}");
            }
        }
        Ok(())
    }

    /// Variables that belong to the parameters, by their names with `suffix`.
    pub(super) fn beside(&self, vars: &[Var], suffix: &str) -> Vec<(String, Var)> {
        let names = self.0.iter().map(|(name, _)| format!("{name}{suffix}"));
        names.zip(vars.iter().cloned()).collect()
    }
}

/// Refuses settings that are not finite.
pub(super) fn check_finite(settings: &[(&str, f64)]) -> Result<()> {
    match settings.iter().find(|(_, value)| !value.is_finite()) {
        Some((name, value)) => bail!("the {name} is {value}; give a finite number"),
        None => Ok(()),
    }
}

//! The network for digits.

use super::OdeOptions;
use super::layer::Layer;
use super::residual::continuous;
use super::variables::Scope;
use crate::Result;
use crate::layers::Conv2dConfig;

/// Channels before and after the image is halved.
const CHANNELS: [usize; 2] = [16, 32];

/// `conv1`, `bn1`, an ODE `block1`, `conv2` of stride 2, `bn2`, an ODE `block2`, the mean, `linear`.
pub(super) fn layers(
    scope: &Scope<'_>,
    inputs: usize,
    classes: usize,
    ode: &OdeOptions,
) -> Result<Vec<Layer>> {
    let [wide, narrow] = CHANNELS;
    let same = Conv2dConfig::same([3, 3]);
    let half = Conv2dConfig { stride: 2, ..same };
    let block = |name: &str, channels| continuous(&scope.pp(name), channels, ode);
    Ok(vec![
        Layer::Unit(scope.unit(["conv1", "bn1"], [inputs, wide], same, true)?),
        block("block1", wide)?,
        Layer::Unit(scope.unit(["conv2", "bn2"], [wide, narrow], half, true)?),
        block("block2", narrow)?,
        Layer::Pool,
        Layer::Linear(scope.linear("linear", narrow, classes)?),
    ])
}

//! ResNet18, and NODE18 beside it.

use super::OdeOptions;
use super::layer::{Layer, Residual};
use super::ode_block::OdeBlock;
use super::variables::Scope;
use crate::Result;
use crate::fields::ConvBlock;
use crate::layers::Conv2dConfig;

/// Channels of the four stages.
const CHANNELS: [usize; 4] = [64, 128, 256, 512];

/// The layers of ResNet18; with `ode` those of NODE18.
///
/// Source: He et al., "Deep residual learning for image recognition", 2016, as it is done for CIFAR;
/// NODE18 by Zhuang et al., "Adaptive checkpoint adjoint method", 2020.
pub(super) fn layers(
    scope: &Scope<'_>,
    inputs: usize,
    classes: usize,
    ode: Option<&OdeOptions>,
) -> Result<Vec<Layer>> {
    let same = Conv2dConfig::same([3, 3]);
    let mut layers =
        vec![Layer::Unit(scope.unit(["conv1", "bn1"], [inputs, CHANNELS[0]], same, true)?)];
    let mut before = CHANNELS[0];
    for (index, channels) in CHANNELS.into_iter().enumerate() {
        let (stage, sizes) = (index + 1, [before, channels]);
        match ode {
            None => {
                let stage = scope.pp(format!("layer{stage}"));
                layers.push(basic(&stage.pp("0"), sizes)?);
                layers.push(basic(&stage.pp("1"), [channels; 2])?);
            }
            Some(ode) => {
                layers.push(basic(&scope.pp(format!("layer{stage}_1.0")), sizes)?);
                layers.push(continuous(&scope.pp(format!("layer{stage}_2.0")), channels, ode)?);
            }
        }
        before = channels;
    }
    layers.push(Layer::Pool);
    layers.push(Layer::Linear(scope.linear("linear", before, classes)?));
    Ok(layers)
}

/// A plain block, which halves the image where it widens it.
fn basic(scope: &Scope<'_>, sizes: [usize; 2]) -> Result<Layer> {
    let [inputs, outputs] = sizes;
    let same = Conv2dConfig::same([3, 3]);
    let stride = if inputs == outputs { 1 } else { 2 };
    let first = scope.unit(["conv1", "bn1"], sizes, Conv2dConfig { stride, ..same }, true)?;
    let second = scope.unit(["conv2", "bn2"], [outputs; 2], same, false)?;
    let shortcut = (inputs != outputs).then(|| {
        let config = Conv2dConfig { stride, ..Conv2dConfig::same([1, 1]) };
        scope.unit(["shortcut.0", "shortcut.1"], sizes, config, false)
    });
    let (branch, shortcut) = (vec![first, second], shortcut.transpose()?);
    Ok(Layer::Residual(Residual { branch, shortcut }))
}

/// A block as an ODE.
pub(super) fn continuous(scope: &Scope<'_>, channels: usize, ode: &OdeOptions) -> Result<Layer> {
    let field = field(&scope.pp("odefunc"), channels)?;
    let variables = field.variables();
    Ok(Layer::Ode(Box::new(OdeBlock::new(scope, field, variables, ode)?)))
}

/// The layers of a block as a field.
fn field(scope: &Scope<'_>, channels: usize) -> Result<ConvBlock> {
    let same = Conv2dConfig::same([3, 3]);
    let unit = |names| scope.unit(names, [channels; 2], same, true);
    let (first, second) = (unit(["conv1", "bn1"])?, unit(["conv2", "bn2"])?);
    Ok(ConvBlock::from_layers([(first.conv, first.norm), (second.conv, second.norm)])?)
}

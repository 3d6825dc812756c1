//! SqueezeNext-23 of width 1 with ODE blocks.

use super::OdeOptions;
use super::layer::{ConvNorm, Layer, Residual};
use super::ode_block::OdeBlock;
use super::variables::Scope;
use crate::Result;
use crate::fields::ConvBlock;
use crate::layers::Conv2dConfig;

/// Channels before the first stage, of the four stages, and before the end.
const STEM: usize = 64;
const CHANNELS: [usize; 4] = [32, 64, 128, 256];
const HEAD: usize = 128;

/// The layers; convolutions have a bias, as in the ACA paper's code.
///
/// Source: Gholami et al., "SqueezeNext: hardware-aware neural network design", 2018; as ODEs by
/// Zhuang et al., "Adaptive checkpoint adjoint method", 2020.
pub(super) fn layers(
    scope: &Scope<'_>,
    inputs: usize,
    classes: usize,
    ode: &OdeOptions,
) -> Result<Vec<Layer>> {
    let stem = biased([3, 3], 1);
    let mut layers = vec![Layer::Unit(scope.unit(["conv1", "bn1"], [inputs, STEM], stem, true)?)];
    let mut before = STEM;
    for (index, channels) in CHANNELS.into_iter().enumerate() {
        let (stage, stride) = (index + 1, if index == 0 { 1 } else { 2 });
        let plain = scope.pp(format!("stage{stage}_1.0"));
        layers.push(plain_block(&plain, [before, channels], stride)?);
        layers.push(ode_block(&scope.pp(format!("stage{stage}_2.0")), channels, ode)?);
        before = channels;
    }
    let head = scope.unit(["conv2", "bn2"], [before, HEAD], biased([1, 1], 1), true)?;
    let linear = scope.linear("linear", HEAD, classes)?;
    layers.extend([Layer::Unit(head), Layer::Pool, Layer::Linear(linear)]);
    Ok(layers)
}

fn biased(kernel: [usize; 2], stride: usize) -> Conv2dConfig {
    Conv2dConfig { bias: true, stride, ..Conv2dConfig::same(kernel) }
}

/// Squeezed twice, two flat kernels, and wide again: five units, each with a relu.
fn bottleneck(scope: &Scope<'_>, sizes: [usize; 2], stride: usize) -> Result<Vec<ConvNorm>> {
    let [inputs, outputs] = sizes;
    let middle = match stride {
        2 => inputs,
        _ if inputs > outputs => inputs / 4,
        _ => inputs / 2,
    };
    let units = [
        (["conv1", "bn1"], [inputs, middle], biased([1, 1], stride)),
        (["conv2", "bn2"], [middle, middle / 2], biased([1, 1], 1)),
        (["conv3", "bn3"], [middle / 2, middle], biased([1, 3], 1)),
        (["conv4", "bn4"], [middle, middle], biased([3, 1], 1)),
        (["conv5", "bn5"], [middle, outputs], biased([1, 1], 1)),
    ];
    let units =
        units.into_iter().map(|(names, sizes, config)| Ok(scope.unit(names, sizes, config, true)?));
    units.collect()
}

fn plain_block(scope: &Scope<'_>, sizes: [usize; 2], stride: usize) -> Result<Layer> {
    let branch = bottleneck(scope, sizes, stride)?;
    let names = ["shortcut.0", "shortcut.1"];
    let shortcut = Some(scope.unit(names, sizes, biased([1, 1], stride), true)?);
    Ok(Layer::Residual(Residual { branch, shortcut }))
}

fn ode_block(scope: &Scope<'_>, channels: usize, ode: &OdeOptions) -> Result<Layer> {
    let units = bottleneck(&scope.pp("odefunc"), [channels; 2], 1)?;
    let field = ConvBlock::from_layers(units.into_iter().map(|unit| (unit.conv, unit.norm)))?;
    let variables = field.variables();
    Ok(Layer::Ode(Box::new(OdeBlock::new(scope, field, variables, ode)?)))
}

//! What networks are made of.

use candle_core::Tensor;
use candle_nn::Module;

use super::ode_block::OdeBlock;
use crate::Result;
use crate::layers::{Activation, BatchNorm2d, Conv2d, Linear};

/// A convolution and its batch norm.
pub(super) struct ConvNorm {
    pub(super) conv: Conv2d,
    pub(super) norm: BatchNorm2d,
}

impl Module for ConvNorm {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.norm.forward(&self.conv.forward(x)?)
    }
}

/// `relu(branch(x) + shortcut(x))`; a shortcut without layers is `x` itself.
pub(super) struct Residual {
    pub(super) branch: Vec<ConvNorm>,
    pub(super) shortcut: Option<ConvNorm>,
}

impl Module for Residual {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let branch = self.branch.iter().try_fold(x.clone(), |x, unit| unit.forward(&x))?;
        let sum = match &self.shortcut {
            Some(shortcut) => (branch + shortcut.forward(x)?)?,
            None => (branch + x)?,
        };
        Activation::Relu.forward(&sum)
    }
}

/// A part of a network.
pub(super) enum Layer {
    Unit(ConvNorm),
    Residual(Residual),
    Ode(Box<OdeBlock>),
    /// The mean of every channel.
    Pool,
    Linear(Linear),
}

impl Layer {
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Unit(unit) => unit.forward(x)?,
            Self::Residual(block) => block.forward(x)?,
            Self::Ode(block) => block.forward(x)?,
            Self::Pool => x.flatten_from(2)?.mean(2)?,
            Self::Linear(linear) => linear.forward(x)?,
        })
    }
}

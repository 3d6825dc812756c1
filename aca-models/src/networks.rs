//! Networks that classify images, with ODE blocks where the ACA paper has them.
//!
//! | network | layers | parameters for 10 classes | state of its ODE blocks, CIFAR |
//! |---|---|---|---|
//! | [`NetworkName::ResNet18`] | four stages of two residual blocks | 11 173 962 | |
//! | [`NetworkName::Node18`] | the second block of each stage is an ODE | 11 173 962 | 64 x 32 x 32, 128 x 16 x 16, 256 x 8 x 8, 512 x 4 x 4 |
//! | [`NetworkName::SqueezeNext`] | four stages of a bottleneck and one as an ODE | 461 466 | 32 x 32 x 32, 64 x 16 x 16, 128 x 8 x 8, 256 x 4 x 4 |
//! | [`NetworkName::Digits`] | two ODE blocks between plain layers, for 8 x 8 pixels | 28 410 | 16 x 8 x 8, 32 x 4 x 4 |
//!
//! Variables are called as PyTorch calls those of the same network, so that checkpoints of either can be
//! [read](Network::load_pth): `conv1.weight`, `bn1.bias`, `linear.weight` around stages whose first block is
//! `layer2.0.conv1.weight` (ResNet18), `layer2_1.0.conv1.weight` (Node18) or `stage2_1.0.conv1.weight`
//! (SqueezeNext), with `shortcut.0` and `shortcut.1` beside it; an ODE block adds `odefunc`, as in
//! `layer2_2.0.odefunc.bn2.weight`. Statistics end in `running_mean` and `running_var`.
//!
//! Initial values depend on the seed alone, whatever the device: convolutions with a bias start as Xavier's
//! with gain sqrt(2) and the bias at 0, as in the original of the paper; everything else as in PyTorch.

mod digits;
mod evaluations;
mod layer;
mod network;
mod ode_block;
mod pth;
mod residual;
mod squeezenext;
mod variables;

use aca_adjoint::Gradient;
use aca_core::{Solver, Tolerance};
use candle_core::{DType, Device};

pub use evaluations::Evaluations;
pub use network::{Network, Parameter};
pub use pth::LoadReport;

/// Which network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NetworkName {
    /// ResNet18 for small images: the first kernels are 3x3 with stride 1, and there is no pooling before the end.
    ResNet18,
    /// ResNet18 whose second block of each stage is an ODE over the same layers, without its shortcut.
    Node18,
    /// SqueezeNext-23 of width 1 whose second block of each stage is an ODE.
    SqueezeNext,
    /// A small network for digits of 8x8 pixels.
    Digits,
}

impl NetworkName {
    /// Every network.
    pub const ALL: [Self; 4] = [Self::ResNet18, Self::Node18, Self::SqueezeNext, Self::Digits];

    /// What the network is called: `resnet18`, `node18`, `squeezenext` or `digits`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ResNet18 => "resnet18",
            Self::Node18 => "node18",
            Self::SqueezeNext => "squeezenext",
            Self::Digits => "digits",
        }
    }
}

/// What a network is made of.
#[derive(Clone, Debug)]
pub struct NetworkSpec {
    /// Which network.
    pub name: NetworkName,
    /// Number of classes.
    pub classes: usize,
    /// Channels of the images.
    pub channels: usize,
    /// Type of its variables: `f32` or `f64`.
    pub dtype: DType,
    /// Device of the variables and of the images.
    pub device: Device,
    /// Seed of the initial values.
    pub seed: u64,
}

impl NetworkSpec {
    /// The network for ten classes of images of three channels (of one for digits), in `f32` on the CPU, from
    /// seed 0.
    pub fn of(name: NetworkName) -> Self {
        let channels = if name == NetworkName::Digits { 1 } else { 3 };
        Self { name, classes: 10, channels, dtype: DType::F32, device: Device::Cpu, seed: 0 }
    }
}

/// Whether a network is trained or evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Batch norms use the statistics of the batch and update the running ones; the result is part of candle's graph.
    Train,
    /// Batch norms use the running statistics, and the result is outside candle's graph.
    Eval,
}

/// How the ODE blocks of a network are solved and differentiated.
#[derive(Clone, Debug)]
pub struct OdeOptions {
    /// Method and tolerances.
    pub solver: Solver,
    /// How gradients are found.
    pub gradient: Gradient,
    /// Start and end time of the blocks.
    pub span: (f64, f64),
    /// Whether the block's result is an output at the requested end time, instead of the end of the solve.
    pub multi_time: bool,
}

impl OdeOptions {
    /// What the ACA paper trains with: Heun-Euler steps at tolerances of 0.01 from 0 to 1, by ACA.
    pub fn cifar() -> Self {
        let tolerance = Tolerance { rtol: 1e-2, atol: 1e-2 };
        let solver = Solver::adaptive(aca_tableau::HEUN_EULER, tolerance);
        Self { solver, gradient: Gradient::Aca, span: (0.0, 1.0), multi_time: false }
    }

    /// As [`cifar`](Self::cifar) at tolerances of 0.1, which is three steps per solve.
    ///
    /// Twelve epochs of batches of 32 images (learning rate 0.1 after a rise, then a cosine; momentum 0.9,
    /// weight decay 0.0005) bring [`NetworkName::Digits`] to 98.9 to 99.4 % of the test images with each of
    /// the seeds 0 to 4, and with every strategy. Tolerances of 0.01 give the same (99.2 %) in 1.6 times
    /// the time. Tested with two Euler steps or with Dormand and Prince's at 0.0001, the networks change
    /// by less than 0.3 %.
    pub fn digits() -> Self {
        let tolerance = Tolerance { rtol: 1e-1, atol: 1e-1 };
        let solver = Solver::adaptive(aca_tableau::HEUN_EULER, tolerance);
        Self { solver, ..Self::cifar() }
    }
}

//! Trainable vector fields with closed-form derivatives.

mod conv_block;
mod mlp;

pub use conv_block::ConvBlock;
pub use mlp::{Mlp, MlpConfig, TimeInput};

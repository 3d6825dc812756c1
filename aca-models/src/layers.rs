//! Layers with their own backward, on kernels of our own.

pub(crate) mod activation;
pub(crate) mod batch_norm;
mod conv2d;
mod elements;
pub(crate) mod kernels;
pub(crate) mod linear;
mod operation;

pub use activation::Activation;
pub use batch_norm::{BatchNorm2d, BatchNormMode, BatchPeers};
pub use conv2d::{Conv2d, Conv2dConfig};
pub use linear::{Linear, LinearCotangents, LinearPullback};

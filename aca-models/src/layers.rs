//! Layers with their own backward, on kernels of our own.

pub(crate) mod kernels;

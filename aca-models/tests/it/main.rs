//! What this crate promises, one claim a test.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod activation_values;
mod activations;
mod batch_norm;
mod batches;
mod closed_forms;
mod communicator;
mod conv2d;
mod conv_block;
mod cuda;
mod data_cifar;
mod data_digits;
#[cfg(feature = "download")]
mod download;
mod events;
mod forced;
mod linear;
mod mlp_field;
mod mlp_refusals;
mod networks;
mod node18_training;
mod optimizers;
mod pth;
mod sgd;
mod slices;
mod statistics;
mod stiff;
mod strategies;
mod three_body;
mod training;
mod trust;

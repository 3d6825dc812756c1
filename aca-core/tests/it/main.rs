//! What this crate promises, one claim a test.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod additive;
mod clock;
mod common;
mod control;
mod convergence;
mod counts;
mod cuda;
mod failures;
mod fields;
mod first_step;
mod implicit;
mod inputs;
mod jacobian;
mod kernel_sums;
mod kernel_threads;
mod kernels;
mod large_stack;
mod packed;
mod properties;
mod replay;
mod settings;
mod slice_rows;
mod slices;
mod splitting;
mod statistics;
mod steps;
mod stops;
mod switching;
mod times;
mod tolerance;

//! What this crate promises, one claim a test.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod additive;
mod adjoint_state;
mod attached;
mod common;
mod cuda;
mod differences;
mod discrete;
mod event_rows;
mod event_trust;
mod events;
mod explicit;
mod half;
mod implicit;
mod jacobian;
mod large_stack;
mod mali;
mod refusals;
mod replays;
mod resting;
mod samples;
mod schemes;
mod second_order;
mod strategies;
mod switching;
mod symplectic;
mod times;

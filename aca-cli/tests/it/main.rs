//! What the program promises, one claim a test.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod classify;
mod common;
mod distributed;
mod ensemble;
mod gradcheck;
mod method_files;
mod misuse;
mod remedies;
mod solve;
mod solve_options;
mod tableau;
mod tensorboard;
mod three_body;

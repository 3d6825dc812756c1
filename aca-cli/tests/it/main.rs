//! What the program promises, one claim a test.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod classify;
mod common;
mod gradcheck;
mod method_files;
mod solve;
mod tableau;
mod tensorboard;
mod three_body;

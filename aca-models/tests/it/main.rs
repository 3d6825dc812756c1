//! What this crate promises, one claim a test.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod closed_forms;
mod strategies;
mod three_body;

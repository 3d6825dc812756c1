//! What this crate promises, one claim a test.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod common;
mod counts;
mod errors;
mod event_edges;
mod events;
mod interpolants;
mod save_at;
mod sinks;
mod stiff;
mod trajectory;

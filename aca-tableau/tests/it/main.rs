//! What this crate promises, one claim a test.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod built_in;
mod drafts;
mod errors;
#[cfg(feature = "serde")]
mod files;
mod implicit;
mod interpolants;
mod names;
mod perturbed;
mod stability;
mod trees;

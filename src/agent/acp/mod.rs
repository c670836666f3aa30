//! Any program that speaks the Agent Client Protocol (version 1: JSON-RPC, a message a line).
//!
//! A program of our own stands in between (see `bridge`): it starts the agent, is its client ([`serve`]), and turns what
//! is said there into events. It claims no abilities: the agent reads, writes and runs by itself, in its own processes,
//! which are confined and ended with ours. The messages are read as plain JSON: the protocol's crates switch on
//! `serde_json/preserve_order`, for the whole build, and records are canonical because that is off.

mod client;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzzing;
mod launch;
mod permit;
mod scene;
mod serve;

pub use launch::Acp;
pub use serve::{Patience, serve};

//! `git orchestra` turns a git repository into its own orchestrator of coding agents.
//!
//! Agents, tasks, findings, decisions and merges are git objects under one namespace of refs and notes. There is
//! no server, no daemon and no database: every command opens the repository, does its work and ends.
//!
//! # Layers
//!
//! ```text
//! cli ──▶ orchestrate ──▶ agent ──▶ process
//!  │            ├───────▶ store ──▶ git ──▶ process
//!  └──▶ config ─┘                        (model: plain data, importable by all)
//! ```
//!
//! - [`model`]: plain data, no I/O, no clock.
//! - `process`: the only home of child processes, signals and the clock.
//! - `git`: the only place that names gix or runs git.
//! - `store`: state as refs and notes; no terminal, no processes.
//! - `agent`: how a program is started and how its lines become events; no git, no store.
//! - `orchestrate`: the use cases: spawn, supervise, overlap, merge.
//! - `config`: layered settings and what the user has approved.
//! - `cli`: the only module that prints, prompts or reads the environment (feature `cli`).
//!
//! The test `layers` reads `src/` and fails on an arrow that runs the wrong way.

pub mod agent;
#[cfg(feature = "cli")]
pub mod cli;
pub mod config;
pub mod git;
pub mod model;
pub mod orchestrate;
pub mod process;
pub mod store;

//! The integration tests, one binary; modules are named like the code.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the rules of the product, not of its tests"
)]

mod acceptance;
mod acceptance_acp;
mod acceptance_api;
mod acceptance_codex;
mod acceptance_findings;
mod acceptance_gemini;
mod acceptance_layouts;
mod acceptance_tell;
mod acceptance_troubles;
mod agent;
mod agent_teams;
mod answers;
mod apply;
mod archive;
mod astray;
mod broken_refs;
mod budgets;
mod canary;
mod check;
mod claims;
mod cli;
mod confined;
mod console;
mod cut;
mod demo;
mod doctor;
mod drain;
mod elsewhere;
mod escapes;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod faults;
mod floods;
mod gates;
mod gc;
mod generated;
mod harmless;
mod harness;
mod history;
mod insider;
mod kill;
mod ladder;
mod layers;
mod life;
mod limits;
mod lock_files;
mod losses;
mod mends;
mod merge;
mod namesakes;
mod outgoing;
mod pipeline;
mod places;
mod plan;
mod planted;
mod prefixes;
mod prune;
mod pulse;
mod radar;
mod readme;
mod real;
mod recover;
mod removal;
mod replay;
mod review;
mod spawn;
mod standing;
mod streams;
mod suspects;
mod sync;
mod take;
mod teams;
mod trust;
mod undo;
mod undo_fleet;
mod verify;
mod worker;
mod worktrees;

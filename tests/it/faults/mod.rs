//! The standing fault suites: a kill at every system call that changes a file, calls that fail, and what must hold
//! after each: what was acknowledged is there, what was not is wholly there or wholly absent, the next ordinary
//! command works, and so does the user's own git.
//!
//! In CI a few points of each command; `ORCHESTRA_FAULTS=all` takes every point (see CONTRIBUTING.md), and
//! `ORCHESTRA_FAULT_COMMAND=spawn` those of one command.

mod campaign;
mod cases;
mod errors;
mod kills;
mod layouts;
mod tracer;
mod writers;

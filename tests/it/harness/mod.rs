//! What the tests share: hermetic repositories, the real agent programs and their scripted endpoint.
//!
//! Nothing here reads the developer's own git configuration, HOME, credentials or running agents: every child is
//! started with a cleared environment.
#![allow(
    dead_code,
    unused_imports,
    reason = "helpers of suites that are written independently of each other"
)]

pub(crate) mod anthropic;
pub(crate) mod gemini;
mod http;
pub(crate) mod openai;
mod picture;
pub(crate) mod programs;
pub(crate) mod sandbox;
pub(crate) mod scripted;
pub(crate) mod servers;
pub(crate) mod terminal;

pub(crate) use anthropic::{Endpoint, Odd, Step};
pub(crate) use sandbox::{Fingerprint, Layout, Output, Sandbox, wait_for};
pub(crate) use scripted::{Answer, Model};
pub(crate) use terminal::Terminal;

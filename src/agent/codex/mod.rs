//! Codex: `codex exec --json`. Nothing here starts a process or reads a file.

mod conversation;
mod decode;
mod launch;
#[cfg(test)]
mod tests;
mod wire;

pub use decode::CodexDecoder;
pub(super) use decode::without_shell;
pub use launch::Codex;

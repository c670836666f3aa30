//! Claude Code: `claude -p` with streams of JSON both ways. Nothing here starts a process or reads a file.

mod conversation;
mod decode;
pub mod hook;
mod launch;
mod tally;
#[cfg(test)]
mod tests;
mod wire;

pub use decode::ClaudeDecoder;
pub use launch::Claude;

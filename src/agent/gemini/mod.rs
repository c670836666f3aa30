//! Gemini CLI: `gemini -o stream-json`. Nothing here starts a process or reads a file.

mod complaints;
mod decode;
mod launch;
#[cfg(test)]
mod tests;
mod wire;

pub use decode::GeminiDecoder;
pub use launch::Gemini;

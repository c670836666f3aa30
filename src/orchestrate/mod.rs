//! The use cases: spawn, supervise, overlap, merge.

pub mod overlap;
#[cfg(test)]
mod testing;

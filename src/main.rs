//! The `git-orchestra` program.

fn main() {}

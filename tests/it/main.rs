//! The integration tests, one binary; modules are named like the code.

mod harness;

//! Gates on real repositories.

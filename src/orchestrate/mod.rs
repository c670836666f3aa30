//! The use cases: spawn, supervise, overlap, merge.

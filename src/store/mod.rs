//! State as refs and notes: no terminal, no processes.

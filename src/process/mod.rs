//! Child processes, signals and the clock: the only home of all three.
//!
//! Every child starts from an explicit environment; nothing here knows git, agents or the state.

mod clock;
mod command;

pub use clock::{Clock, ManualClock, SystemClock};
pub use command::{Command, CommandError, Input, Output};

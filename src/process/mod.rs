//! Child processes, signals, local sockets and the clock: the only home of all four.
//!
//! Every child starts from an explicit environment; nothing here knows git, agents or the state.

mod apart;
mod badge;
mod child;
mod clock;
mod command;
mod conversation;
mod deadline;
mod disk;
mod identity;
mod lines;
mod lock;
mod memory;
mod port;
mod presence;
mod runtime;
mod sandbox;
mod signal;
mod socket;
mod tree;
mod veil;
mod watched;

pub use apart::step_away;
pub use child::{Budget, Child, ChildEvent, ChildOptions, Exit, InputError, Source};
pub use clock::{Clock, ManualClock, SystemClock, Uptime};
pub use command::{Command, CommandError, Input, Output};
pub use conversation::Conversation;
pub use disk::{clone_or_copy, free_files, free_space, open_no_link};
pub use identity::{Identity, host_name};

pub use lines::{Line, LineSplitter};
pub use lock::FileLock;
pub use memory::{available_memory, memory_kills};
pub use port::is_port_free;
pub use presence::is_at_work;
pub use runtime::runtime;
pub use sandbox::{COMMAND as CONFINE, Confiners, Reach, SandboxError, become_confined, confine};
pub use signal::{Change, Changes, Heed, Interrupt, Interrupts, Watch, is_in_front};
pub use socket::{Connection, Lines, Listener};
pub use tree::{descends, end_orphans, sweep_strays};
pub use veil::hide_environment;
pub use watched::Cut;

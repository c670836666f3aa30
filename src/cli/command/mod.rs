//! The commands, one file each.
//!
//! To add one: write `command/<verb>.rs` (or `command/<noun>/<verb>.rs`) with
//!
//! ```text
//! /// Do the thing            (help text: imperative, no full stop; a second paragraph becomes the long help)
//! #[derive(Debug, clap::Args)]
//! #[command(after_help = "Example:\n  git orchestra verb …")]
//! pub(crate) struct Args { … }
//!
//! pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> { … }
//! ```
//!
//! and add one line to its group in the list below. Completion, the manual and `-h` follow from it
//! (`BLESS=1 cargo test --test it generated` rewrites the generated files).

/// Makes the enum of commands and its dispatch from one list, in the order in which help shows them. With headings
/// in it, also the groups of the help.
macro_rules! commands {
    ($($heading:literal { $($(#[$attribute:meta])* $variant:ident => $module:ident),* $(,)? })*) => {
        commands! { $($($(#[$attribute])* $variant => $module,)*)* }

        /// The tree of one command by its name, so that to run one the others need not be made.
        pub(crate) fn alone(name: &str) -> Option<clap::Command> {
            $($(if name == stringify!($module) {
                let command = clap::Command::new(stringify!($module));
                return Some(<$module::Args as clap::Args>::augment_args(command));
            })*)*
            None
        }

        /// What the help calls a group of commands, and their names.
        pub(crate) const GROUPS: &[(&str, &[&str])] = &[$(($heading, &[$(stringify!($module)),*])),*];
    };
    ($($(#[$attribute:meta])* $variant:ident => $module:ident),* $(,)?) => {
        $(pub(crate) mod $module;)*

        use $crate::cli::context::Context;
        use $crate::cli::error::{CliError, Exit};

        /// What to do.
        #[derive(Debug, clap::Subcommand)]
        pub(crate) enum Command {
            $($(#[$attribute])* $variant($module::Args),)*
        }

        impl Command {
            /// Does it.
            pub(crate) fn run(&self, ctx: &Context) -> Result<Exit, CliError> {
                match self {
                    $(Self::$variant(args) => $module::run(ctx, args),)*
                }
            }
        }
    };
}

/// Makes a command that only holds others: its arguments, described by what stands before them, and its dispatch.
macro_rules! noun {
    ($(#[$attribute:meta])* { $($list:tt)* }) => {
        commands! { $($list)* }

        #[derive(Debug, clap::Args)]
        $(#[$attribute])*
        pub(crate) struct Args {
            #[command(subcommand)]
            command: Command,
        }

        pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
            args.command.run(ctx)
        }
    };
}

pub(crate) mod claiming;
mod confinement;
mod limits;
pub(crate) mod teamwork;

pub(crate) use limits::budgets;

commands! {
    "Tasks and findings" {
        Task => task,
        Finding => finding,
    }
    "Agents" {
        Spawn => spawn,
        Resume => resume,
        Attach => attach,
        Send => send,
        Interrupt => interrupt,
        Stop => stop,
        Wait => wait,
        Remove => remove,
    }
    "See" {
        Status => status,
        Log => log,
        Show => show,
        Diff => diff,
        Review => review,
        Apply => apply,
        Cost => cost,
    }
    "Merge" {
        Run => run,
        Plan => plan,
        Overlap => overlap,
        Merge => merge,
        Decide => decide,
        Verify => verify,
        Check => check,
    }
    "Look back" {
        Oplog => oplog,
        Undo => undo,
    }
    "Several machines" {
        Worker => worker,
        Take => take,
        Fetch => fetch,
        Push => push,
        Sync => sync,
    }
    "Keep in order" {
        Recover => recover,
        Doctor => doctor,
        Prune => prune,
        Gc => gc,
    }
    "Set up" {
        Init => init,
        Hook => hook,
        Config => config,
        Profile => profile,
        Demo => demo,
        Completion => completion,
        Man => man,
        Schema => schema,
        #[command(hide = true)]
        Replay => replay,
        #[command(name = "__acp", hide = true)]
        Acp => acp,
        #[command(name = "__supervise", hide = true)]
        Supervise => supervise,
        #[command(name = "__confine", hide = true)]
        Confine => confine,
        #[command(name = "__api", hide = true)]
        Api => api,
        /// Candidates for a shell's completion
        #[command(name = "__complete", hide = true)]
        Complete => complete,
    }
}

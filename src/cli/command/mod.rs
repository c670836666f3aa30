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
//! and add one line to the list below. Completion, the manual and `-h` follow from it
//! (`BLESS=1 cargo test --test it generated` rewrites the generated files).

/// Makes the enum of commands and its dispatch from one list, in the order in which help shows them.
macro_rules! commands {
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

commands! {
    Init => init,
    Task => task,
    Spawn => spawn,
    Resume => resume,
    Remove => remove,
    Status => status,
    Log => log,
    Show => show,
    Diff => diff,
    Overlap => overlap,
    Merge => merge,
    Decide => decide,
    Finding => finding,
    Fetch => fetch,
    Push => push,
    Sync => sync,
    Config => config,
    Demo => demo,
    #[command(hide = true)]
    Replay => replay,
    Schema => schema,
    Completion => completion,
    /// Candidates for a shell's completion
    #[command(name = "__complete", hide = true)]
    Complete => complete,
    Man => man,
}

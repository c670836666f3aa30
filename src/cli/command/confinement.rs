//! What an agent's program is confined by, as `spawn`, `resume`, `take` and `worker` take it.

use crate::model::Sandbox;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};

#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct SandboxArgs {
    /// What keeps the agent's program from what is not its own [default: what `sandbox` says]
    ///
    /// `landlock` is a rule of the Linux kernel (6.12 or newer) about files; `bubblewrap` is a file system and processes of
    /// its own, made by the program `bwrap`, and hides more. What this machine cannot give in full is refused: no agent starts
    /// with less. The manual of `spawn` says what each keeps from what.
    #[arg(long, value_name = "LEVEL", value_parser = levels())]
    pub(super) sandbox: Option<Sandbox>,
}

fn levels() -> impl clap::builder::TypedValueParser<Value = Sandbox> {
    PossibleValuesParser::new(Sandbox::ALL.map(Sandbox::word))
        .map(|word| word.parse().expect("it is one of them"))
}

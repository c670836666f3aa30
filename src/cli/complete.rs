//! Completion: what could stand at the cursor, and the scripts that ask for it.
//!
//! The scripts know nothing of the commands: they hand the words to `git-orchestra __complete`, which walks the
//! command tree. An argument whose value is named `TASK`, `AGENT`, `FINDING`, `DECISION`, `PROFILE` or `ID` completes
//! to what this repository has of it; nothing else is needed in the command.

use super::context::Context;
use clap::{Arg, Command};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::sync::Arc;

/// A shell that can be taught to complete.
#[expect(clippy::enum_variant_names, reason = "that is what it is called")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Shell {
    /// GNU bash
    Bash,
    /// Z shell
    Zsh,
    /// fish
    Fish,
    /// PowerShell
    #[value(name = "powershell")]
    PowerShell,
    /// Elvish
    Elvish,
}

impl Shell {
    /// The script.
    pub(crate) const fn script(self) -> &'static str {
        match self {
            Self::Bash => include_str!("../../completions/git-orchestra.bash"),
            Self::Zsh => include_str!("../../completions/_git-orchestra"),
            Self::Fish => include_str!("../../completions/git-orchestra.fish"),
            Self::PowerShell => include_str!("../../completions/git-orchestra.ps1"),
            Self::Elvish => include_str!("../../completions/git-orchestra.elv"),
        }
    }
}

/// What could stand in place of the last of `words` (those behind the program's name): one line for each
/// candidate, with what it means behind a tab.
pub(super) fn candidates(ctx: &Context, words: &[OsString]) -> String {
    let mut args: Vec<OsString> = vec!["git-orchestra".into()];
    args.extend_from_slice(words);
    if words.is_empty() {
        args.push(OsString::new());
    }
    let at = args.len() - 1;
    let current = args[at].to_string_lossy().into_owned();
    let names = Arc::new(Names::new(ctx));
    let mut tree = with_names(super::tree(), &names);
    let Ok(found) = clap_complete::engine::complete(&mut tree, args, at, Some(ctx.dir())) else {
        return String::new();
    };
    // Options are noise while nothing says that one is wanted, and long ones say what short ones mean.
    let wants_options = current.starts_with('-');
    let mut text = String::new();
    let mut seen = std::collections::BTreeSet::new();
    for candidate in found {
        let value = candidate.get_value().to_string_lossy();
        let is_option = value.starts_with('-');
        let is_short = is_option && value.len() == 2 && current != *value;
        if candidate.is_hide_set()
            || (is_option && !wants_options)
            || is_short
            || value.contains(['\n', '\t'])
        {
            continue;
        }
        if !seen.insert(value.clone().into_owned()) {
            continue;
        }
        let help = candidate.get_help().map(ToString::to_string).unwrap_or_default();
        let help = super::ui::printable(help.lines().next().unwrap_or_default()).into_owned();
        let _ = if help.is_empty() { writeln!(text, "{value}") } else { writeln!(text, "{value}\t{help}") };
    }
    text
}

/// Teaches every argument that names something of this repository what there is.
fn with_names(command: Command, names: &Arc<Names>) -> Command {
    command
        .mut_args(|arg| match value_name(&arg).and_then(|name| What::named(&name)) {
            Some(what) => {
                let names = Arc::clone(names);
                arg.add(ArgValueCandidates::new(move || names.candidates(what)))
            }
            None => arg,
        })
        .mut_subcommands(|sub| with_names(sub, names))
}

fn value_name(arg: &Arg) -> Option<String> {
    arg.get_value_names()?.first().map(ToString::to_string)
}

/// What an argument names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Profile,
}

impl What {
    fn named(value_name: &str) -> Option<Self> {
        match value_name {
            "PROFILE" => Some(Self::Profile),
            _ => None,
        }
    }
}

/// The names that arguments may have, looked up when the first one is wanted.
#[derive(Debug)]
struct Names {
    profiles: Vec<String>,
}

impl Names {
    fn new(ctx: &Context) -> Self {
        let profiles =
            ctx.settings().map(|settings| settings.profile_names().into_iter().map(str::to_owned).collect());
        Self { profiles: profiles.unwrap_or_default() }
    }

    fn candidates(&self, what: What) -> Vec<CompletionCandidate> {
        match what {
            What::Profile => self.profiles.iter().map(CompletionCandidate::new).collect(),
        }
    }
}

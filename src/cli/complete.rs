//! Completion: what could stand at the cursor, and the scripts that ask for it.
//!
//! The scripts know nothing of the commands: they hand the words to `git-orchestra __complete`, which walks the
//! command tree. An argument whose value is named `TASK`, `AGENT`, `FINDING`, `DECISION`, `PROFILE`, `TEAM`, `GATE`, `PIPELINE`, `KEY`, `BRANCH`, `REMOTE`,
//! `OPERATION` or `ID` completes to what this repository has of it; nothing else is needed in the command.

use super::context::Context;
use super::env::Env;
use super::error::CliError;
use super::view::operation;
use crate::config::AUTO;
use crate::model::{
    Agent, Decision, DecisionStatus, Finding, FindingStatus, Id, Merge, Pipeline, Task, TaskStatus,
};
use crate::store::Logged;
use clap::{Arg, Command, ValueEnum as _};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

/// How many operations are offered: the newest.
const OPERATIONS: usize = 50;

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
    pub(crate) fn script(self) -> String {
        let template = match self {
            Self::Bash => include_str!("completion/git-orchestra.bash"),
            Self::Zsh => include_str!("completion/_git-orchestra"),
            Self::Fish => include_str!("completion/git-orchestra.fish"),
            Self::PowerShell => include_str!("completion/git-orchestra.ps1"),
            Self::Elvish => include_str!("completion/git-orchestra.elv"),
        };
        let about = super::tree().get_about().map(ToString::to_string).unwrap_or_default();
        let shell = self.to_possible_value().expect("no shell is skipped");
        let header = format!(
            "Printed by `git orchestra completion {}`; the candidates come from the program itself.",
            shell.get_name()
        );
        template.replace("@HEADER@", &header).replace("@ABOUT@", &about)
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
    // `-C DIR` among the words says whose names are wanted.
    let mut dir = ctx.dir().to_owned();
    for pair in words.windows(2).filter(|pair| pair[0] == "-C") {
        dir.push(&pair[1]);
    }
    let names = Arc::new(Names { env: ctx.env().clone(), dir });
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
    let reopens = command.get_name() == "reopen";
    command
        .mut_args(|arg| match value_name(&arg).and_then(|name| What::named(&name)) {
            Some(What::Tasks) if reopens => {
                let names = Arc::clone(names);
                arg.add(ArgValueCandidates::new(move || names.candidates(What::ClosedTasks)))
            }
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
    Tasks,
    ClosedTasks,
    Agents,
    Findings,
    Decisions,
    Merges,
    Profiles,
    Teams,
    Gates,
    Pipelines,
    Settings,
    Branches,
    Remotes,
    Operations,
    Anything,
}

impl What {
    fn named(value_name: &str) -> Option<Self> {
        match value_name {
            "TASK" => Some(Self::Tasks),
            "AGENT" => Some(Self::Agents),
            "FINDING" => Some(Self::Findings),
            "DECISION" => Some(Self::Decisions),
            "MERGE" => Some(Self::Merges),
            "PROFILE" => Some(Self::Profiles),
            "TEAM" => Some(Self::Teams),
            "GATE" => Some(Self::Gates),
            "PIPELINE" => Some(Self::Pipelines),
            "KEY" => Some(Self::Settings),
            "BRANCH" | "REVISION" | "REV" | "COMMIT" => Some(Self::Branches),
            "REMOTE" => Some(Self::Remotes),
            "OPERATION" => Some(Self::Operations),
            "ID" => Some(Self::Anything),
            _ => None,
        }
    }
}

/// Looks up what this repository has, when and as far as it is wanted.
#[derive(Debug)]
struct Names {
    env: Env,
    dir: PathBuf,
}

impl Names {
    fn candidates(&self, what: What) -> Vec<CompletionCandidate> {
        // Whatever is wrong: no candidates, and no word about it.
        look_up(&Context::silent(self.env.clone(), self.dir.clone()), what).unwrap_or_default()
    }
}

fn look_up(ctx: &Context, what: What) -> Result<Vec<CompletionCandidate>, CliError> {
    if what == What::Profiles {
        return Ok(ctx.settings()?.profile_names().into_iter().map(CompletionCandidate::new).collect());
    }
    if what == What::Teams {
        let names = ctx.settings()?.team_names();
        return Ok(names.into_iter().chain([AUTO.to_owned()]).map(CompletionCandidate::new).collect());
    }
    if what == What::Gates {
        return Ok(ctx.settings()?.gate_names().into_iter().map(CompletionCandidate::new).collect());
    }
    if what == What::Settings {
        return Ok(ctx.settings()?.iter().map(|setting| CompletionCandidate::new(&setting.key)).collect());
    }
    if what == What::Branches {
        let branches = ctx.repo()?.list_refs("refs/heads/")?.into_iter();
        let names = branches.filter_map(|(name, _)| Some(name.strip_prefix("refs/heads/")?.to_owned()));
        return Ok(names.map(CompletionCandidate::new).collect());
    }
    if what == What::Remotes {
        let entries = ctx.repo()?.config_entries("remote").into_iter();
        let names = entries.filter_map(|entry| Some(entry.key.strip_suffix(".url")?.to_owned()));
        return Ok(names.map(CompletionCandidate::new).collect());
    }
    if what == What::Pipelines {
        let names = ctx.settings()?.pipeline_names().into_iter().map(CompletionCandidate::new);
        return Ok(names.chain(look_up(ctx, What::Tasks)?).collect());
    }
    let state = ctx.state()?;
    if what == What::Operations {
        let log = state.operations(OPERATIONS)?;
        let words = |logged: &Logged| format!("{}: {}", logged.command, operation::what(logged));
        return Ok(log
            .iter()
            .map(|one| described(operation::short(&one.id).to_owned(), &words(one)))
            .collect());
    }
    let ids = state.short_ids()?;
    let mut found = Vec::new();
    let mut add = |id: &Id, help: &str| found.push(described(ids.shorten(id), help));
    let any = what == What::Anything;
    if any || matches!(what, What::Tasks | What::ClosedTasks) {
        let closed = what == What::ClosedTasks;
        let wanted = |task: &&Task| any || (task.status == TaskStatus::Closed) == closed;
        state.all::<Task>()?.iter().filter(wanted).for_each(|task| add(&task.id, &task.title));
        if closed {
            state.archived_titles::<Task>()?.iter().for_each(|(id, title)| add(id, title));
        }
    }
    if any || what == What::Findings {
        let open = |finding: &&Finding| any || finding.status == FindingStatus::Open;
        state.all::<Finding>()?.iter().filter(open).for_each(|f| add(&f.id, &f.message));
    }
    if any || what == What::Decisions {
        let open = |asked: &&Decision| any || asked.status == DecisionStatus::Open;
        state.all::<Decision>()?.iter().filter(open).for_each(|asked| add(&asked.id, &asked.question));
    }
    if any {
        state
            .all::<Pipeline>()?
            .iter()
            .for_each(|one| add(&one.id, one.name.as_deref().unwrap_or("pipeline")));
    }
    if any || what == What::Merges {
        state.all::<Merge>()?.iter().for_each(|merge| add(&merge.id, &merge.target));
    }
    if any || what == What::Agents {
        for agent in state.all::<Agent>()?.iter().filter(|agent| agent.removed.is_none()) {
            found.push(described(agent.name.to_string(), &agent.prompt));
        }
    }
    Ok(found)
}

fn described(value: String, help: &str) -> CompletionCandidate {
    let help = help.lines().next().unwrap_or_default();
    CompletionCandidate::new(value).help(Some(help.to_owned().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_with_a_known_name_are_taught_in_every_command() {
        let mut tree = super::super::tree();
        tree.build();
        let mut unknown = Vec::new();
        visit(&tree, &mut |command, arg| {
            let Some(name) = value_name(arg) else { return };
            // What is taken from the repository, and what cannot be completed or is known to clap.
            let free = [
                "AGE",
                "ANSWER",
                "BODY",
                "DIR",
                "FILE",
                "GLOB",
                "HASH",
                "LABEL",
                "MESSAGE",
                "N",
                "NAME",
                "PATH",
                "PROMPT",
                "RESOLUTION",
                "RESULT",
                "SPAN",
                "TEXT",
                "TIME",
                "URL",
                "TITLE",
                "USD",
                "WHEN",
                "WORDS",
                "ZONE",
            ];
            let known = What::named(&name).is_some()
                || free.contains(&name.as_str())
                || arg.get_value_hint() != clap::ValueHint::Unknown
                || !arg.get_possible_values().is_empty();
            if !known && arg.get_num_args().is_some_and(|num| num.takes_values()) {
                unknown.push(format!("{} {name}", command.get_name()));
            }
        });
        // A new value name belongs into `What::named` or into `free`.
        assert!(unknown.is_empty(), "{unknown:?}");
    }

    fn visit(command: &Command, see: &mut impl FnMut(&Command, &Arg)) {
        command.get_arguments().for_each(|arg| see(command, arg));
        command.get_subcommands().for_each(|sub| visit(sub, see));
    }
}

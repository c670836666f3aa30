//! What the log of operations calls a command: its name, its switches and the ids it was given. It is kept for good
//! and travels, so nothing that was typed freely is in it.

use crate::model::{Id, Name};
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Command};

/// What arguments are called that name something of this repository.
const NAMES: [&str; 8] = ["TASK", "AGENT", "FINDING", "DECISION", "MERGE", "OPERATION", "ID", "ANSWER"];

/// `task close k3v8`, `merge --continue`.
pub(super) fn words(tree: &Command, matches: &ArgMatches) -> String {
    let mut words = Vec::new();
    let (mut command, mut matches) = (tree, matches);
    while let Some((name, inner)) = matches.subcommand() {
        let Some(next) = command.find_subcommand(name) else { break };
        words.push(name.to_owned());
        for arg in next.get_arguments().filter(|arg| !arg.is_global_set()) {
            let id = arg.get_id().as_str();
            // How it answers is no part of what it does.
            if ["json", "yes"].contains(&id) || inner.value_source(id) != Some(ValueSource::CommandLine) {
                continue;
            }
            let is_name = arg.get_value_names().is_some_and(|names| NAMES.contains(&names[0].as_str()));
            if matches!(arg.get_action(), ArgAction::SetTrue) {
                words.extend(arg.get_long().map(|long| format!("--{long}")));
            } else if is_name {
                let values = inner.try_get_many::<String>(id).ok().flatten();
                words.extend(values.into_iter().flatten().filter(|value| is_plain(value)).cloned());
            }
        }
        (command, matches) = (next, inner);
    }
    words.join(" ")
}

fn is_plain(value: &str) -> bool {
    Id::is_prefix(value) || value.parse::<Name>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_switches_are_kept_and_free_text_is_not() {
        let words_of = |line: &str| {
            let tree = super::super::tree();
            let matches = tree.clone().try_get_matches_from(line.split(' ')).unwrap();
            words(&tree, &matches)
        };
        assert_eq!(words_of("git-orchestra -q task add secret -m hunter2 --json"), "task add");
        assert_eq!(words_of("git-orchestra task close k3v8 -m hunter2"), "task close k3v8");
        assert_eq!(words_of("git-orchestra spawn k3v8 -m hunter2 --force"), "spawn k3v8 --force");
        assert_eq!(words_of("git-orchestra merge --continue"), "merge --continue");
        assert_eq!(words_of("git-orchestra remove blue-heron"), "remove blue-heron");
    }
}

//! Profiles: configured ways to run an agent.

use super::{Error, Settings, Value};
use crate::agent::Permissions;
use crate::model::{Budget, Sandbox};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

/// The profile of agents that name none.
pub(super) const DEFAULT: &str = "claude";

/// What the program brings: the weakest layer, in the format of all other files.
pub(super) const BUILT_IN: &str = r#"
jobs = 4
default-profile = "claude"
grace = "5s"
profile.claude = { program = "claude", permissions = "accept-edits" }
profile.codex = { program = "codex", permissions = "accept-edits" }
profile.gemini = { program = "gemini", permissions = "accept-edits" }
profile.replay.program = "replay"
profile.command.program = "command"
"#;

/// A configured way to run an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// The adapter that runs it: `claude`, `codex`, `gemini`, `replay`, `command`.
    pub program: String,
    /// The program's file and arguments that belong to it; empty where the adapter knows a default.
    pub command: Vec<OsString>,
    /// Arguments added at the end.
    pub args: Vec<OsString>,
    /// Variables of the program's environment.
    pub env: BTreeMap<String, String>,
    /// Names of variables of the user's environment that it gets beside the usual ones.
    pub pass_env: Vec<String>,
    /// The model, in the program's own words.
    pub model: Option<String>,
    /// What it is told about its role.
    pub role: Option<String>,
    /// What it may do without asking.
    pub permissions: Permissions,
    /// What keeps its program from what is not its own.
    pub sandbox: Sandbox,
    /// What an agent may use over all its runs.
    pub budget: Budget,
    /// How long it may be silent.
    pub idle_timeout: Option<Duration>,
    /// How long a run may take.
    pub timeout: Option<Duration>,
}

/// Puts a profile together from its keys.
pub(super) fn settle(settings: &Settings, name: &str) -> Result<Profile, Error> {
    let known = settings.profile_names();
    if !known.contains(name) {
        let known = known.into_iter().map(str::to_owned).collect();
        return Err(Error::NoProfile { name: name.to_owned(), known });
    }
    let prefix = format!("profile.{name}.");
    let mine = || settings.iter().filter(|setting| setting.key.starts_with(&prefix));
    let waiting: Vec<String> = mine()
        .filter(|setting| setting.needs_approval() && !settings.is_approved())
        .map(|setting| setting.key.clone())
        .collect();
    if !waiting.is_empty() {
        return Err(Error::NotApproved { keys: waiting });
    }
    let mut profile = Profile {
        name: name.to_owned(),
        program: DEFAULT.to_owned(),
        command: Vec::new(),
        args: Vec::new(),
        env: BTreeMap::new(),
        pass_env: Vec::new(),
        model: None,
        role: None,
        permissions: Permissions::default(),
        sandbox: settings.sandbox(name),
        budget: settings.budget(&format!("profile.{name}.")),
        idle_timeout: None,
        timeout: None,
    };
    for setting in mine() {
        let key = &setting.key[prefix.len()..];
        match (key, setting.value.clone()) {
            ("program", Value::Text(program)) => profile.program = program,
            ("command", Value::List(words)) => profile.command = words.into_iter().map(Into::into).collect(),
            ("args", Value::List(words)) => profile.args = words.into_iter().map(Into::into).collect(),
            ("pass-env", Value::List(names)) => profile.pass_env = names,
            ("model", Value::Text(model)) => profile.model = Some(model),
            ("role", Value::Text(role)) => profile.role = Some(role),
            ("permissions", Value::Text(word)) => profile.permissions = permissions(&word),
            ("idle-timeout", Value::Duration(span)) => profile.idle_timeout = Some(span),
            ("timeout", Value::Duration(span)) => profile.timeout = Some(span),
            (key, Value::Text(value)) => {
                if let Some(variable) = key.strip_prefix("env.") {
                    profile.env.insert(variable.to_owned(), value);
                }
            }
            // The table of keys gives each key one type of value.
            _ => {}
        }
    }
    Ok(profile)
}

fn permissions(word: &str) -> Permissions {
    match word {
        "plan" => Permissions::Plan,
        "bypass" => Permissions::Bypass,
        _ => Permissions::AcceptEdits,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Settings, Sources};
    use super::*;

    #[test]
    fn a_profile_is_the_sum_of_its_keys() {
        let text = "
            [profile.reviewer]
            model = 'opus'
            role = 'You review.'
            permissions = 'plan'
            args = ['--verbose']
            max-cost = 1.5
            idle-timeout = '10m'
            env.FOO = 'bar'
        ";
        let sources = Sources { user_file: Some(("u".into(), text.into())), ..Sources::default() };
        let profile = Settings::load(&sources).unwrap().profile("reviewer").unwrap();
        assert_eq!(profile.program, "claude");
        assert_eq!(profile.permissions, Permissions::Plan);
        assert_eq!(profile.budget.cost_micro_usd, Some(1_500_000));
        assert_eq!(profile.idle_timeout, Some(Duration::from_secs(600)));
        assert_eq!(profile.env["FOO"], "bar");
        let error = Settings::load(&Sources::default()).unwrap().profile("x").unwrap_err();
        assert_eq!(
            error.to_string(),
            "find the profile `x`; there are claude, codex, command, gemini, replay"
        );
    }
}

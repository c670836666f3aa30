//! Profiles: configured ways to run an agent.

use super::{Error, Layer, Setting, Settings, Value};
use crate::agent::Permissions;
use crate::agent::price::Price;
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
profile.agent-teams.program = "claude"
profile.agent-teams.permissions = "accept-edits"
profile.agent-teams.description = "Claude Code with its experimental teams of agents"
profile.agent-teams.env.CLAUDE_CODE_EXPERIMENTAL_AGENT_TEAMS = "1"
profile.codex = { program = "codex", permissions = "accept-edits" }
profile.gemini = { program = "gemini", permissions = "accept-edits" }
profile.api = { program = "api", permissions = "accept-edits" }
profile.acp.program = "acp"
profile.hybrid = { program = "hybrid", permissions = "accept-edits" }
profile.replay.program = "replay"
profile.command.program = "command"
"#;

/// The roles that the program brings: profiles that run as the default profile does, with a prompt and permissions of
/// their own. No prompt may hold a newline: each is one value of one line.
pub(super) const ROLES: &str = r#"
[profile.planner]
description = "reads the code and writes a plan; changes nothing"
permissions = "plan"
role = "You plan, and change nothing. Read what the task concerns before you decide. Your last message is the plan itself, whole, for somebody who has not seen what you read: which files change and how, in which order, what must stay as it is, how it is tested, and what you are not sure of. Choose one way and say in a sentence why. Do not ask for the plan to be approved, and do not begin with the work."

[profile.builder]
description = "makes the change, with its tests"
permissions = "accept-edits"
role = "You build. Where there is a plan, follow it; where it is wrong, do what is right and say so. Read the code around a change first and write as it is written. Make the change whole, with tests that fail without it, and run what the project has to check itself. Your last message says what you changed and why, what you ran and how that went, and what is left."

[profile.reviewer]
description = "judges a change and reports findings; changes nothing"
permissions = "plan"
role = "You review, and change nothing. Read the whole difference to the commit that the work began from, and the code around it. Look for what is wrong before what is ugly: faults, missing cases, lost errors, security, tests that cannot fail, documents that are not true any more. Check every suspicion in the code before you report it. Your last message is the verdict (fit to merge, or not) and the findings, gravest first, each with path and line, what goes wrong and when, and what would mend it. Say plainly if you found nothing."

[profile.analyst]
description = "finds out how something is and reports; changes nothing"
permissions = "plan"
role = "You analyse, and change nothing. Find out how things are, from the code, its history and what can be run without changing anything. Your last message answers the question first, then gives the evidence (path and line, commit, output), then what you could not find out. Keep apart what you saw, what you conclude and what you guess."

[profile.tester]
description = "tests a change, and adds the tests that are missing"
permissions = "accept-edits"
role = "You test. Find out what the change promises, and try to break it: edges, empty and huge input, errors, what worked before. Add the tests that are missing, in the way the project tests; change tests, not the code under test. Run them. A fault that you find is reported with a test that shows it, not hidden. Your last message says what you tested, what failed and how to see it, and what is not tested."

[profile.documenter]
description = "writes the documents that belong to a change"
permissions = "accept-edits"
role = "You document. Read what the code does now and make the documents true: the readme, the manual, comments of public things, the changelog, where the project has them. Write for whoever uses it, briefly, in the words and the tone that are there; every example must work as it is written. Change documents and comments, not behaviour. Your last message says what you wrote and what you found untrue and left."
"#;

/// Whether it is the profile that a program brings.
pub(super) fn is_program(name: &str) -> bool {
    let table: toml::Table = BUILT_IN.parse().expect("a test reads it");
    table["profile"].get(name).is_some()
}

/// The names of the roles.
pub(super) fn roles() -> Vec<String> {
    let table: toml::Table = ROLES.parse().expect("a test reads it");
    table["profile"].as_table().map(|roles| roles.keys().cloned().collect()).unwrap_or_default()
}

/// A configured way to run an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// The adapter that runs it: `claude`, `codex`, `gemini`, `acp`, `api`, `hybrid`, `replay`, `command`.
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
    /// What it is for, in a line.
    #[serde(default)]
    pub description: Option<String>,
    /// The only tools that it has; what fits a pattern behind a tool's name (`Bash(make *)`) is not asked either.
    /// `None` for all that its program has.
    #[serde(default)]
    pub tools: Option<Vec<String>>,
    /// Tools, or uses of tools, that it does not have.
    #[serde(default)]
    pub denied_tools: Vec<String>,
    /// What it may do without asking.
    pub permissions: Permissions,
    /// What keeps its program from what is not its own.
    pub sandbox: Sandbox,
    /// What an agent may use over all its runs.
    pub budget: Budget,
    /// What a million tokens of input, of input from a cache, and of output cost, in millionths of a US dollar, for programs
    /// that tell no cost.
    #[serde(default)]
    pub prices: [Option<u64>; 3],
    /// How long it may be silent.
    pub idle_timeout: Option<Duration>,
    /// How long a run may take.
    pub timeout: Option<Duration>,
}

/// Puts a profile together from its keys. Fails if any of them waits for an approval.
pub(super) fn settle(settings: &Settings, name: &str) -> Result<Profile, Error> {
    let chain = chain(settings, name, settings.default_profile().map(Some))?;
    let waiting: Vec<String> =
        chain.iter().flat_map(|name| waiting(settings, name)).map(|setting| setting.key.clone()).collect();
    if !waiting.is_empty() {
        return Err(Error::NotApproved { keys: waiting });
    }
    Ok(assemble(settings, name, &chain))
}

/// The same, as it would be if everything were approved: to look at, never to run.
pub(super) fn preview(settings: &Settings, name: &str) -> Result<Profile, Error> {
    let default = settings.text("default-profile");
    Ok(assemble(settings, name, &chain(settings, name, Ok(default))?))
}

/// Its settings that wait for an approval.
pub(super) fn waiting<'a>(settings: &'a Settings, name: &str) -> impl Iterator<Item = &'a Setting> {
    mine(settings, name).filter(|setting| !settings.counts(setting))
}

/// The settings of one profile that win.
pub(super) fn mine<'a>(settings: &'a Settings, name: &str) -> impl Iterator<Item = &'a Setting> {
    let prefix = format!("profile.{name}.");
    settings.iter().filter(move |setting| setting.key.starts_with(&prefix))
}

/// The profile, behind the one that it takes from what it does not say itself: a role that names no program runs as
/// the default profile does, and what a file of Claude Code's describes as `claude` does.
fn chain(
    settings: &Settings,
    name: &str,
    default: Result<Option<&str>, Error>,
) -> Result<Vec<String>, Error> {
    let known = settings.profile_names();
    if !known.contains(name) {
        let known = known.into_iter().map(str::to_owned).collect();
        return Err(Error::NoProfile { name: name.to_owned(), known });
    }
    let roles = roles();
    let is_role = |name: &str| roles.iter().any(|role| role == name);
    let program = settings.setting(&format!("profile.{name}.program"));
    let base = match program.map(|setting| setting.origin.layer) {
        Some(Layer::AgentFile) => Some(DEFAULT),
        None if is_role(name) => {
            let default = default?.unwrap_or(DEFAULT);
            let runs = known.contains(default) && !is_role(default) && default != name;
            Some(if runs { default } else { DEFAULT })
        }
        _ => None,
    };
    Ok(base.into_iter().chain([name]).map(str::to_owned).collect())
}

fn assemble(settings: &Settings, name: &str, chain: &[String]) -> Profile {
    let mut profile = Profile {
        name: name.to_owned(),
        program: DEFAULT.to_owned(),
        command: Vec::new(),
        args: Vec::new(),
        env: BTreeMap::new(),
        pass_env: Vec::new(),
        model: None,
        role: None,
        description: None,
        tools: None,
        denied_tools: Vec::new(),
        permissions: Permissions::default(),
        sandbox: sandbox(settings, name, chain),
        budget: Budget::default(),
        prices: [None; 3],
        idle_timeout: None,
        timeout: None,
    };
    for name in chain {
        profile.description = None;
        profile.budget = settings.budget(&format!("profile.{name}.")).or(&profile.budget);
        for setting in mine(settings, name) {
            profile.take(&setting.key[format!("profile.{name}.").len()..], setting.value.clone());
        }
    }
    profile
}

/// What confines it: what somebody but the repository says of it; otherwise the strictest of all that it builds on.
fn sandbox(settings: &Settings, name: &str, chain: &[String]) -> Sandbox {
    let said = settings.said(&format!("profile.{name}.sandbox"));
    if said.iter().any(|setting| !setting.origin.from_repository) {
        return settings.sandbox(name);
    }
    chain.iter().map(|name| settings.sandbox(name)).fold(Sandbox::None, Sandbox::max)
}

impl Profile {
    /// What its model's tokens cost, if its settings say enough.
    pub fn price(&self) -> Option<Price> {
        let [input, cached, output] = self.prices;
        let input = input?;
        Some(Price { input, cached: cached.unwrap_or(input), output: output? })
    }

    fn take(&mut self, key: &str, value: Value) {
        match (key, value) {
            ("program", Value::Text(program)) => self.program = program,
            ("command", Value::List(words)) => self.command = words.into_iter().map(Into::into).collect(),
            ("args", Value::List(words)) => self.args = words.into_iter().map(Into::into).collect(),
            ("pass-env", Value::List(names)) => self.pass_env = names,
            ("tools", Value::List(tools)) => self.tools = Some(tools),
            ("denied-tools", Value::List(tools)) => self.denied_tools = tools,
            ("description", Value::Text(words)) => self.description = Some(words),
            ("model", Value::Text(model)) => self.model = Some(model),
            ("role", Value::Text(role)) => self.role = Some(role),
            ("permissions", Value::Text(word)) => self.permissions = permissions(&word),
            ("price-input", Value::Money(price)) => self.prices[0] = Some(price),
            ("price-cached", Value::Money(price)) => self.prices[1] = Some(price),
            ("price-output", Value::Money(price)) => self.prices[2] = Some(price),
            ("idle-timeout", Value::Duration(span)) => self.idle_timeout = Some(span),
            ("timeout", Value::Duration(span)) => self.timeout = Some(span),
            (key, Value::Text(value)) => {
                if let Some(variable) = key.strip_prefix("env.") {
                    self.env.insert(variable.to_owned(), value);
                }
            }
            // The table of keys gives each key one type of value.
            _ => {}
        }
    }
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
    use super::super::{AgentFile, Settings, Sources};
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
            "find the profile `x`; there are acp, agent-teams, analyst, api, builder, claude, codex, command, documenter, gemini, hybrid, planner, \
             replay, reviewer, tester"
        );
    }

    fn user(text: &str) -> Settings {
        let sources = Sources { user_file: Some(("u".into(), text.into())), ..Sources::default() };
        Settings::load(&sources).unwrap()
    }

    #[test]
    fn roles_run_as_the_default_profile_and_each_key_can_be_set() {
        let settings = user(
            "default-profile = 'mine'
            [profile.mine]
            program = 'command'
            command = ['x']
            model = 'm'
            role = 'Mine.'
            max-turns = 9
            [profile.planner]
            model = 'opus'
            [profile.tester]
            program = 'codex'",
        );
        let planner = settings.profile("planner").unwrap();
        assert_eq!((planner.program.as_str(), planner.model.as_deref()), ("command", Some("opus")));
        assert_eq!((planner.permissions, planner.budget.turns), (Permissions::Plan, Some(9)));
        assert!(planner.role.unwrap().starts_with("You plan") && planner.command == ["x"]);
        let tester = settings.profile("tester").unwrap();
        assert_eq!((tester.program.as_str(), tester.model, tester.command.len()), ("codex", None, 0));
        assert_eq!(user("default-profile = 'builder'").profile("builder").unwrap().program, "claude");
        for role in roles() {
            let profile = user("").profile(&role).unwrap();
            let reads = ["analyst", "planner", "reviewer"].contains(&role.as_str());
            assert_eq!(profile.permissions == Permissions::Plan, reads, "{role}");
            assert!(profile.description.is_some() && !profile.role.unwrap().contains('\n'), "{role}");
        }
        assert!(is_program("claude") && !is_program("planner") && roles().len() == 6);
    }

    #[test]
    fn a_file_of_claude_code_counts_whole_once_it_is_approved() {
        let file = |text: &str| AgentFile {
            place: ".claude/agents/reviewer.md".into(),
            text: Ok(text.into()),
            from_repository: true,
        };
        let sources = Sources {
            agent_files: vec![
                file("---\nname: reviewer\ndescription: Ours\ntools: Read\n---\nBe strict."),
                file("no front"),
            ],
            user_file: Some((
                "u".into(),
                "[profile.reviewer]\nmodel = 'opus'\n[profile.claude]\nargs = ['-x']".into(),
            )),
            ..Sources::default()
        };
        let settings = Settings::load(&sources).unwrap();
        assert_eq!(settings.skipped()[0].why, "it does not begin with a line `---`");
        assert!(matches!(settings.profile("reviewer"), Err(Error::NotApproved { .. })));
        assert!(settings.profile("planner").is_ok(), "others are not concerned");
        assert_eq!(settings.restricted().count(), 0, "what `orchestra.toml` says is another approval");
        let settings = settings.approved_files(["reviewer".to_owned()].into());
        let profile = settings.profile("reviewer").unwrap();
        assert_eq!((profile.role.as_deref(), profile.model.as_deref()), (Some("Be strict."), Some("opus")));
        assert_eq!((profile.tools, profile.permissions), (Some(vec!["Read".into()]), Permissions::Plan));
        assert_eq!((profile.program.as_str(), profile.args.len()), ("claude", 1));
    }
}

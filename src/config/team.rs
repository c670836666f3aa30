//! Teams: profiles that work on one task one after the other, or side by side.

use super::{Error, Setting, Settings, Value};
use crate::model::Name;
use std::collections::{BTreeMap, BTreeSet};

/// The teams that the program brings: each step is a role.
pub(super) const BUILT_IN: &str = r#"
[team.feature]
description = "something new: plan, build, test and document, review"
steps = ["planner", "builder", "tester documenter", "reviewer"]

[team.bug-fix]
description = "something is wrong: find the cause, mend it, test, review"
steps = ["analyst", "builder", "tester", "reviewer"]

[team.code-review]
description = "judge what is there: what it does, then what is wrong with it"
steps = ["analyst", "reviewer"]

[team.docs]
description = "documents: find out what is true, write it, review"
steps = ["analyst", "documenter", "reviewer"]
"#;

/// The word for the team that fits a task.
pub const AUTO: &str = "auto";

/// Profiles that work on one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Team {
    /// Its name.
    pub name: String,
    /// What it is for, in a line.
    pub description: Option<String>,
    /// Its steps, none before what it comes after.
    pub steps: Vec<TeamStep>,
}

/// What one agent of a team does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeamStep {
    /// Its name; part of the agent's name.
    pub name: String,
    /// The profile that the agent runs with.
    pub profile: String,
    /// The steps that it goes on from.
    pub after: BTreeSet<String>,
    /// What the agent is told beside its task.
    pub prompt: Option<String>,
}

/// Puts a team together from its keys. Fails if any of them waits for an approval.
pub(super) fn settle(settings: &Settings, name: &str) -> Result<Team, Error> {
    let wrong = |why: String| Error::Team { name: name.to_owned(), why };
    let known = names(settings);
    if !known.contains(name) {
        return Err(Error::NoTeam { name: name.to_owned(), known: known.into_iter().collect() });
    }
    let prefix = format!("team.{name}.");
    let mine: BTreeMap<&str, &Setting> =
        settings.iter().filter_map(|setting| Some((setting.key.strip_prefix(&prefix)?, setting))).collect();
    let waiting: Vec<String> = mine
        .values()
        .filter(|setting| !settings.counts(setting))
        .map(|setting| setting.key.clone())
        .collect();
    if !waiting.is_empty() {
        return Err(Error::NotApproved { keys: waiting });
    }
    let list = |key: &str| match mine.get(key).map(|setting| &setting.value) {
        Some(Value::List(words)) => Some(words.clone()),
        _ => None,
    };
    let text = |key: &str| match mine.get(key).map(|setting| &setting.value) {
        Some(Value::Text(text)) => Some(text.clone()),
        _ => None,
    };
    let stages = list("steps").ok_or_else(|| wrong(format!("`team.{name}.steps` is not set")))?;
    let mut steps: Vec<TeamStep> = Vec::new();
    let mut before = BTreeSet::new();
    for stage in &stages {
        let words: BTreeSet<String> = stage.split_whitespace().map(str::to_owned).collect();
        for word in stage.split_whitespace() {
            if word.parse::<Name>().is_err() {
                return Err(wrong(format!("`{word}` cannot be a step: a-z, 0-9 and - make its name")));
            }
            if steps.iter().any(|step| step.name == word) {
                return Err(wrong(format!("the step `{word}` is there twice")));
            }
            let after = list(&format!("{word}.after")).map(|after| after.into_iter().collect());
            steps.push(TeamStep {
                name: word.to_owned(),
                profile: text(&format!("{word}.profile")).unwrap_or_else(|| word.to_owned()),
                after: after.unwrap_or_else(|| before.clone()),
                prompt: text(&format!("{word}.prompt")),
            });
        }
        before = words;
    }
    if steps.is_empty() {
        return Err(wrong(format!("`team.{name}.steps` names none")));
    }
    // What is said of a step that there is not was meant for one that there is.
    for key in mine.keys() {
        if let Some((step, _)) = key.split_once('.')
            && !steps.iter().any(|other| other.name == step)
        {
            return Err(wrong(format!("`team.{name}.{key}` is set, and `{step}` is not among its steps")));
        }
    }
    let steps = in_order(steps).map_err(wrong)?;
    Ok(Team { name: name.to_owned(), description: text("description"), steps })
}

/// The steps in an order in which none stands before what it comes after.
fn in_order(mut steps: Vec<TeamStep>) -> Result<Vec<TeamStep>, String> {
    let names: BTreeSet<String> = steps.iter().map(|step| step.name.clone()).collect();
    for step in &steps {
        if let Some(other) = step.after.iter().find(|other| !names.contains(*other)) {
            return Err(format!("`{}` comes after `{other}`, which is not among its steps", step.name));
        }
    }
    let mut sorted: Vec<TeamStep> = Vec::new();
    while !steps.is_empty() {
        let done: BTreeSet<String> = sorted.iter().map(|step| step.name.clone()).collect();
        let Some(at) = steps.iter().position(|step| step.after.is_subset(&done)) else {
            let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
            return Err(format!("each of {} waits for another of them", names.join(", ")));
        };
        sorted.push(steps.remove(at));
    }
    Ok(sorted)
}

/// The names of all teams.
pub(super) fn names(settings: &Settings) -> BTreeSet<String> {
    let keys = settings.iter().filter_map(|setting| setting.key.strip_prefix("team."));
    keys.filter_map(|key| Some(key.split_once('.')?.0.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{AgentFile, Sources};
    use super::*;

    fn user(text: &str) -> Settings {
        let sources = Sources { user_file: Some(("u".into(), text.into())), ..Sources::default() };
        Settings::load(&sources).unwrap()
    }

    fn shown(team: &Team) -> Vec<String> {
        let after = |step: &TeamStep| step.after.iter().cloned().collect::<Vec<_>>().join("+");
        team.steps.iter().map(|step| format!("{}({})<{}", step.name, step.profile, after(step))).collect()
    }

    #[test]
    fn steps_follow_each_other_or_stand_side_by_side() {
        let settings = user(
            "[team.mine]
            steps = ['look', 'one two', 'end']
            look.profile = 'analyst'
            two.after = []
            two.prompt = 'Apart.'",
        );
        let team = settings.team("mine").unwrap();
        assert_eq!(shown(&team), ["look(analyst)<", "one(one)<look", "two(two)<", "end(end)<one+two"]);
        assert_eq!(team.steps[2].prompt.as_deref(), Some("Apart."));
        let feature = settings.team("feature").unwrap();
        assert_eq!(
            shown(&feature),
            [
                "planner(planner)<",
                "builder(builder)<planner",
                "tester(tester)<builder",
                "documenter(documenter)<builder",
                "reviewer(reviewer)<documenter+tester",
            ]
        );
        for name in ["feature", "bug-fix", "code-review", "docs"] {
            for step in settings.team(name).unwrap().steps {
                assert!(Settings::is_role(&step.profile), "{name}: {}", step.profile);
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, why) in [
            ("steps = []", "`team.x.steps` names none"),
            ("steps = ['a', 'a']", "the step `a` is there twice"),
            ("steps = ['../a']", "`../a` cannot be a step: a-z, 0-9 and - make its name"),
            ("steps = ['a']\na.after = ['b']", "`a` comes after `b`, which is not among its steps"),
            ("steps = ['a b']\na.after = ['b']\nb.after = ['a']", "each of a, b waits for another of them"),
            ("steps = ['a']\nb.profile = 'c'", "`team.x.b.profile` is set, and `b` is not among its steps"),
            ("a.profile = 'c'", "`team.x.steps` is not set"),
        ] {
            let error = user(&format!("[team.x]\n{text}")).team("x").unwrap_err();
            assert_eq!(error.to_string(), format!("use the team `x`: {why}"));
        }
        let error = user("").team("x").unwrap_err().to_string();
        assert_eq!(error, "find the team `x`; there are bug-fix, code-review, docs, feature");
    }

    #[test]
    fn a_team_of_the_repository_waits_for_approval() {
        let file = Some(("orchestra.toml".into(), "team.feature.builder.profile = 'evil'".into()));
        let sources =
            Sources { repository_file: file, agent_files: Vec::<AgentFile>::new(), ..Sources::default() };
        let settings = Settings::load(&sources).unwrap();
        assert!(matches!(settings.team("feature"), Err(Error::NotApproved { .. })));
        assert!(settings.team("docs").is_ok());
        assert_eq!(settings.approved(true).team("feature").unwrap().steps[1].profile, "evil");
    }
}

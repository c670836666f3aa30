//! Pipelines: which tasks go which way to the branch that they land on.

use super::{Error, Setting, Settings, Value};
use std::collections::{BTreeMap, BTreeSet};

/// A configured way of tasks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pipeline {
    /// Its name.
    pub name: String,
    /// What it is for, in a line.
    pub description: Option<String>,
    /// Its tasks have one of these labels; without any, every task that is ready is one of them.
    pub labels: Vec<String>,
    /// The profile of its agents.
    pub profile: Option<String>,
    /// The team that works on each task.
    pub team: Option<String>,
    /// How many agents run at once.
    pub jobs: Option<u32>,
    /// The branch that its work lands on.
    pub into: Option<String>,
    /// The gates that it must pass; without any, all that there are.
    pub gates: Vec<String>,
    /// How many agents are asked to mend a branch with which a gate fails, if it says so.
    pub mends: Option<u32>,
    /// Whether what comes before a branch that somebody is asked about lands at once.
    pub lands_prefixes: bool,
    /// The remote that is sent what landed.
    pub push: Option<String>,
    /// Whether a person on the terminal is asked about problems alone.
    pub asks_less: bool,
}

/// Puts a pipeline together from its keys. Fails if any of them waits for an approval.
pub(super) fn settle(settings: &Settings, name: &str) -> Result<Pipeline, Error> {
    let known = names(settings);
    if !known.contains(name) {
        return Err(Error::NoPipeline { name: name.to_owned(), known: known.into_iter().collect() });
    }
    let prefix = format!("pipeline.{name}.");
    let mine: BTreeMap<&str, &Setting> =
        settings.iter().filter_map(|setting| Some((setting.key.strip_prefix(&prefix)?, setting))).collect();
    let waiting: Vec<String> =
        mine.values().filter(|said| !settings.counts(said)).map(|said| said.key.clone()).collect();
    if !waiting.is_empty() {
        return Err(Error::NotApproved { keys: waiting });
    }
    let text = |key: &str| match mine.get(key).map(|setting| &setting.value) {
        Some(Value::Text(text)) => Some(text.clone()),
        _ => None,
    };
    let list = |key: &str| match mine.get(key).map(|setting| &setting.value) {
        Some(Value::List(words)) => words.clone(),
        _ => Vec::new(),
    };
    let number = |key: &str| match mine.get(key).map(|setting| &setting.value) {
        Some(Value::Integer(number)) => u32::try_from(*number).ok(),
        _ => None,
    };
    Ok(Pipeline {
        name: name.to_owned(),
        description: text("description"),
        labels: list("labels"),
        profile: text("profile"),
        team: text("team"),
        jobs: number("jobs"),
        into: text("into"),
        gates: list("gates"),
        mends: number("mends"),
        lands_prefixes: text("landing").as_deref() == Some("prefixes"),
        push: text("push"),
        asks_less: text("approve").as_deref() == Some("problems"),
    })
}

/// The names of all pipelines.
pub(super) fn names(settings: &Settings) -> BTreeSet<String> {
    let keys = settings.iter().filter_map(|setting| setting.key.strip_prefix("pipeline."));
    keys.filter_map(|key| Some(key.split_once('.')?.0.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Sources;
    use super::*;

    #[test]
    fn a_pipeline_is_the_sum_of_its_keys_and_waits_for_approval() {
        let text = "[pipeline.nightly]\nlabels = ['auto']\nteam = 'docs'\njobs = 3\ngates = ['test']\nmends = 2\n\
                    push = 'origin'\napprove = 'problems'\n[pipeline.plain]\nlabels = ['x']";
        let load = |repository: bool| {
            let file = Some(("f".to_owned(), text.to_owned()));
            let sources = if repository {
                Sources { repository_file: file, ..Sources::default() }
            } else {
                Sources { user_file: file, ..Sources::default() }
            };
            Settings::load(&sources).unwrap()
        };
        let nightly = load(false).pipeline("nightly").unwrap();
        assert_eq!((nightly.labels, nightly.team.as_deref()), (vec!["auto".to_owned()], Some("docs")));
        assert_eq!(
            (nightly.jobs, nightly.push.as_deref(), nightly.asks_less),
            (Some(3), Some("origin"), true)
        );
        assert_eq!((nightly.gates, nightly.mends), (vec!["test".to_owned()], Some(2)));
        let error = load(false).pipeline("x").unwrap_err().to_string();
        assert_eq!(error, "find the pipeline `x`; there are nightly, plain");
        assert!(matches!(load(true).pipeline("nightly"), Err(Error::NotApproved { .. })));
        assert!(
            load(true).pipeline("plain").is_ok() && load(true).approved(true).pipeline("nightly").is_ok()
        );
    }
}

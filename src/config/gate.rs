//! Gates: commands that must succeed on what a merge made before it lands.

use super::{Error, Setting, Settings, Value};
use crate::model::Name;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a gate may take when nobody says so.
const TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// A command that must succeed before a merge lands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    /// Its name.
    pub name: String,
    /// What is run: one word is a line for the shell, several are a program and its arguments.
    pub run: Vec<String>,
    /// How long it may take.
    pub timeout: Duration,
    /// How often it is run again on the same commit when it fails.
    pub retries: u32,
    /// Names of variables of the user's environment that it gets beside the usual ones.
    pub pass_env: Vec<String>,
}

/// Puts the gates together from their keys, in order. Fails if any part of one waits for an approval.
pub(super) fn settle(settings: &Settings, only: &[String]) -> Result<Vec<Gate>, Error> {
    let known = names(settings);
    let order = match only {
        [] => match settings.value("gates")? {
            Some(Value::List(order)) => order.clone(),
            _ => known.iter().cloned().collect(),
        },
        only => only.to_vec(),
    };
    let mut gates = Vec::new();
    let mut waiting = Vec::new();
    for (at, name) in order.iter().enumerate() {
        let wrong = |why: &str| Error::Gate { name: name.clone(), why: why.to_owned() };
        if order[..at].contains(name) {
            continue;
        }
        if name.parse::<Name>().is_err() {
            return Err(wrong("a-z, 0-9 and - make its name"));
        }
        let prefix = format!("gate.{name}.");
        let mine: BTreeMap<&str, &Setting> = settings
            .iter()
            .filter_map(|setting| Some((setting.key.strip_prefix(&prefix)?, setting)))
            .collect();
        if !known.contains(name) {
            let there: Vec<&str> = known.iter().map(String::as_str).collect();
            let there = if there.is_empty() {
                "there is none".to_owned()
            } else {
                format!("there are {}", there.join(", "))
            };
            return Err(wrong(&format!("`{prefix}run` is not set; {there}")));
        }
        waiting.extend(mine.values().filter(|said| !settings.counts(said)).map(|said| said.key.clone()));
        let value = |key: &str| mine.get(key).map(|setting| &setting.value);
        gates.push(Gate {
            name: name.clone(),
            run: match value("run") {
                Some(Value::List(words)) => words.clone(),
                Some(Value::Text(line)) if !line.trim().is_empty() => vec![line.clone()],
                _ => return Err(wrong(&format!("`{prefix}run` is empty"))),
            },
            timeout: match value("timeout") {
                Some(Value::Duration(span)) => *span,
                _ => TIMEOUT,
            },
            retries: match value("retries") {
                Some(Value::Integer(retries)) => u32::try_from(*retries).unwrap_or(1),
                _ => 1,
            },
            pass_env: match value("pass-env") {
                Some(Value::List(names)) => names.clone(),
                _ => Vec::new(),
            },
        });
    }
    if waiting.is_empty() { Ok(gates) } else { Err(Error::NotApproved { keys: waiting }) }
}

/// The names of all gates.
pub(super) fn names(settings: &Settings) -> BTreeSet<String> {
    let keys = settings.iter().filter_map(|setting| setting.key.strip_prefix("gate."));
    keys.filter_map(|key| Some(key.strip_suffix(".run")?.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Sources;
    use super::*;

    fn user(text: &str) -> Settings {
        let sources = Sources { user_file: Some(("u".into(), text.into())), ..Sources::default() };
        Settings::load(&sources).unwrap()
    }

    fn names_of(gates: &[Gate]) -> Vec<&str> {
        gates.iter().map(|gate| gate.name.as_str()).collect()
    }

    const TWO: &str = "
        [gate.test]
        run = ['cargo', 'test']
        timeout = '5m'
        retries = 0
        [gate.build]
        run = 'make -j2 && make check'";

    #[test]
    fn gates_come_in_order_as_a_line_or_as_words() {
        let gates = user(TWO).gates(&[]).unwrap();
        assert_eq!(names_of(&gates), ["build", "test"]);
        assert_eq!(gates[0].run, ["make -j2 && make check"]);
        assert_eq!((gates[0].timeout, gates[0].retries), (TIMEOUT, 1));
        assert_eq!(gates[1].run, ["cargo", "test"]);
        assert_eq!((gates[1].timeout, gates[1].retries), (Duration::from_secs(300), 0));
        let ordered = user(&format!("gates = ['test', 'build', 'test']\n{TWO}"));
        assert_eq!(names_of(&ordered.gates(&[]).unwrap()), ["test", "build"]);
        assert_eq!(names_of(&ordered.gates(&["build".into()]).unwrap()), ["build"]);
        assert!(user("").gates(&[]).unwrap().is_empty());
        assert!(user(&format!("gates = []\n{TWO}")).gates(&[]).unwrap().is_empty());
        for (text, only, why) in [
            ("gates = ['lint']", "", "use the gate `lint`: `gate.lint.run` is not set; there is none"),
            ("gate.Big.run = 'x'", "", "use the gate `Big`: a-z, 0-9 and - make its name"),
            ("gate.x.run = ''", "", "use the gate `x`: `gate.x.run` is empty"),
            ("gate.x.run = 'y'", "z", "use the gate `z`: `gate.z.run` is not set; there are x"),
        ] {
            let only: Vec<String> =
                Some(only.to_owned()).filter(|only| !only.is_empty()).into_iter().collect();
            assert_eq!(user(text).gates(&only).unwrap_err().to_string(), why);
        }
    }

    #[test]
    fn a_repository_neither_names_nor_drops_a_gate_unapproved() {
        let load = |repository: &str| {
            let sources = Sources {
                repository_file: Some(("orchestra.toml".into(), repository.into())),
                user_file: Some(("u".into(), TWO.into())),
                ..Sources::default()
            };
            Settings::load(&sources).unwrap()
        };
        for text in ["gates = []", "gate.lint.run = 'evil'", "gate.test.pass-env = ['TOKEN']"] {
            let settings = load(text);
            assert!(matches!(settings.gates(&[]), Err(Error::NotApproved { .. })), "{text}");
            assert!(settings.approved(true).gates(&[]).is_ok(), "{text}");
        }
        assert!(load("gate.lint.run = 'evil'").gates(&["test".into()]).is_ok(), "others are not concerned");
        assert_eq!(load("gate.test.run = 'evil'").gates(&[]).unwrap()[1].run, ["cargo", "test"]);
    }
}

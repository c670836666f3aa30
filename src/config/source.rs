//! Where settings come from, and how each source is read into keys and values.

use super::agent_file::{AgentFile, Skipped};
use super::key::Key;
use super::{Error, Unknown, Value, profile, team};
use std::fmt;

/// The layers, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// What the program brings.
    BuiltIn,
    /// A file of Claude Code's that describes an agent.
    AgentFile,
    /// The repository's `orchestra.toml`.
    Repository,
    /// The user's `config.toml`.
    User,
    /// `git config orchestra.*`.
    GitConfig,
    /// `ORCHESTRA_*`.
    Environment,
    /// An option of the command line.
    Flag,
}

impl Layer {
    /// The word that JSON shows.
    pub const fn word(self) -> &'static str {
        match self {
            Self::BuiltIn => "built-in",
            Self::AgentFile => "agent-file",
            Self::Repository => "repository",
            Self::User => "user",
            Self::GitConfig => "git-config",
            Self::Environment => "environment",
            Self::Flag => "flag",
        }
    }
}

/// Who said a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The layer.
    pub layer: Layer,
    /// The file, variable or option; empty for built-in values.
    pub place: String,
    /// Whether whoever writes the repository can write this.
    pub from_repository: bool,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layer {
            Layer::BuiltIn => f.write_str("built in"),
            Layer::GitConfig => write!(f, "git config ({})", self.place),
            Layer::AgentFile | Layer::Repository | Layer::User | Layer::Environment | Layer::Flag => {
                f.write_str(&self.place)
            }
        }
    }
}

/// One value of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The key: `profile.claude.model`.
    pub key: String,
    /// The value.
    pub value: Value,
    /// Who said so.
    pub origin: Origin,
}

impl Setting {
    /// The profile that it belongs to, if it belongs to one.
    pub fn profile(&self) -> Option<&str> {
        Some(self.key.strip_prefix("profile.")?.split_once('.')?.0)
    }

    /// Whether it counts only once the user approved it.
    pub fn needs_approval(&self) -> bool {
        // Of a file that describes an agent all counts or nothing: its prompt is what it is for.
        let whole = self.origin.layer == Layer::AgentFile;
        self.origin.from_repository && (whole || Key::find(&self.key).is_some_and(Key::is_restricted))
    }
}

/// One value of `git config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitValue {
    /// The key without its section, as git spells it: `profile.claude.maxturns`.
    pub key: String,
    /// The value.
    pub value: String,
    /// The file that says so.
    pub file: String,
    /// Whether that file belongs to the repository (scopes `local` and `worktree`).
    pub from_repository: bool,
}

impl GitValue {
    /// A value and where it was found.
    pub fn new(
        key: impl Into<String>,
        value: impl Into<String>,
        file: impl Into<String>,
        from_repository: bool,
    ) -> Self {
        Self { key: key.into(), value: value.into(), file: file.into(), from_repository }
    }
}

/// Everything that settings are read from; what is absent says nothing.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Files of Claude Code's that describe agents; of two with one name the later one counts.
    pub agent_files: Vec<AgentFile>,
    /// The repository's `orchestra.toml`: its name for messages, and its text.
    pub repository_file: Option<(String, String)>,
    /// The user's `config.toml`: its path and its text.
    pub user_file: Option<(String, String)>,
    /// What git's configuration says under `orchestra.`, in git's order.
    pub git_config: Vec<GitValue>,
    /// Variables by their name behind `ORCHESTRA_`. Keys of profiles are not read from the environment.
    pub environment: Vec<(String, String)>,
    /// Options of the command line: the option's name, the key that it sets, and its value.
    pub flags: Vec<(String, String, String)>,
}

/// Variables with the prefix that are no settings.
const NOT_SETTINGS: &[&str] = &["LOG"];

/// Reads every source into settings, weakest layer first, and keys that nobody knows.
pub(super) fn flatten(sources: &Sources) -> Result<Flat, Error> {
    let mut reader = Reader::default();
    let built_in = Origin { layer: Layer::BuiltIn, place: String::new(), from_repository: false };
    reader.toml(profile::BUILT_IN, &built_in)?;
    reader.toml(profile::ROLES, &built_in)?;
    reader.toml(team::BUILT_IN, &built_in)?;
    let mut skipped = Vec::new();
    for file in &sources.agent_files {
        match file.settings() {
            Ok(settings) => reader.agent_file(settings, &mut skipped),
            Err(why) => skipped.push(Skipped { place: file.place.clone(), why }),
        }
    }
    if let Some((place, text)) = &sources.repository_file {
        let origin = Origin { layer: Layer::Repository, place: place.clone(), from_repository: true };
        reader.toml(text, &origin)?;
    }
    if let Some((place, text)) = &sources.user_file {
        let origin = Origin { layer: Layer::User, place: place.clone(), from_repository: false };
        reader.toml(text, &origin)?;
    }
    reader.git_config(&sources.git_config)?;
    for (name, value) in &sources.environment {
        if NOT_SETTINGS.contains(&name.as_str()) {
            continue;
        }
        let key = name.to_ascii_lowercase().replace('_', "-");
        let place = format!("ORCHESTRA_{name}");
        let origin = Origin { layer: Layer::Environment, place, from_repository: false };
        reader.add(key, std::slice::from_ref(value), origin)?;
    }
    for (option, key, value) in &sources.flags {
        let origin = Origin { layer: Layer::Flag, place: option.clone(), from_repository: false };
        reader.add(key.clone(), std::slice::from_ref(value), origin)?;
    }
    Ok(Flat { settings: reader.settings, unknown: reader.unknown, skipped })
}

/// What sources say, weakest layer first.
#[derive(Debug)]
pub(super) struct Flat {
    pub(super) settings: Vec<Setting>,
    pub(super) unknown: Vec<Unknown>,
    pub(super) skipped: Vec<Skipped>,
}

#[derive(Debug, Default)]
struct Reader {
    settings: Vec<Setting>,
    unknown: Vec<Unknown>,
}

impl Reader {
    fn add(&mut self, key: String, words: &[String], origin: Origin) -> Result<(), Error> {
        let Some(known) = Key::find(&key) else {
            self.unknown.push(Unknown { key, origin });
            return Ok(());
        };
        let Some(value) = known.parse(words) else {
            return Err(Error::Value { key, origin, expected: known.expected(), found: words.join(" ") });
        };
        self.settings.push(Setting { key, value, origin });
        Ok(())
    }

    /// A file of the repository takes the place of the user's own of that name; two beside each other would be mixed.
    fn agent_file(&mut self, settings: Vec<Setting>, skipped: &mut Vec<Skipped>) {
        let Some(first) = settings.first() else { return };
        let same =
            |other: &&Setting| other.origin.layer == Layer::AgentFile && other.profile() == first.profile();
        if let Some(other) = self.settings.iter().find(same)
            && other.origin.from_repository == first.origin.from_repository
        {
            let why = format!("`{}` has the same `name`", other.origin.place);
            skipped.push(Skipped { place: first.origin.place.clone(), why });
            return;
        }
        self.settings.retain(|other| !same(&other));
        self.settings.extend(settings);
    }

    fn toml(&mut self, text: &str, origin: &Origin) -> Result<(), Error> {
        let table: toml::Table = text
            .parse()
            .map_err(|source| Error::Syntax { origin: origin.clone(), source: Box::new(source) })?;
        self.table("", &table, origin)
    }

    fn table(&mut self, prefix: &str, table: &toml::Table, origin: &Origin) -> Result<(), Error> {
        for (name, value) in table {
            let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            match value {
                toml::Value::Table(inner) => self.table(&key, inner, origin)?,
                toml::Value::Array(items) => {
                    let is_list = Key::find(&key).is_none_or(Key::takes_list);
                    match items.iter().map(word).collect::<Option<Vec<String>>>() {
                        Some(words) if is_list => self.add(key, &words, origin.clone())?,
                        _ => return Err(mismatch(key, origin, value)),
                    }
                }
                value if Key::find(&key).is_some_and(Key::is_list) => {
                    return Err(mismatch(key, origin, value));
                }
                value => match word(value) {
                    Some(word) => self.add(key, &[word], origin.clone())?,
                    None => return Err(mismatch(key, origin, value)),
                },
            }
        }
        Ok(())
    }

    /// git lower-cases the last part of a key and has no other lists than repeated keys.
    fn git_config(&mut self, values: &[GitValue]) -> Result<(), Error> {
        let mut at = 0;
        while let Some(value) = values.get(at) {
            let same = |other: &&GitValue| other.key == value.key && other.file == value.file;
            let group: Vec<String> = values[at..].iter().take_while(same).map(|v| v.value.clone()).collect();
            at += group.len();
            let key = value.key.as_str();
            let origin = Origin {
                layer: Layer::GitConfig,
                place: value.file.clone(),
                from_repository: value.from_repository,
            };
            if key.contains(".env.") {
                // git lower-cases the last part, which here is a variable's name: it cannot say what is meant.
                self.unknown.push(Unknown { key: key.to_owned(), origin });
                continue;
            }
            self.add(spelled(key), &group, origin)?;
        }
        Ok(())
    }
}

/// `defaultprofile`, as git prints `orchestra.defaultProfile`, is `default-profile`.
fn spelled(key: &str) -> String {
    let (head, last) = key.rsplit_once('.').map_or(("", key), |(head, last)| (head, last));
    let candidate = Key::all().iter().find_map(|known| {
        let name = known.pattern.rsplit('.').next().unwrap_or(known.pattern);
        (name != "*" && name.replace('-', "") == last.replace('-', "").to_ascii_lowercase())
            .then(|| if head.is_empty() { name.to_owned() } else { format!("{head}.{name}") })
    });
    candidate.filter(|key| Key::find(key).is_some()).unwrap_or_else(|| key.to_owned())
}

fn word(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        _ => None,
    }
}

fn mismatch(key: String, origin: &Origin, found: &toml::Value) -> Error {
    let expected = Key::find(&key).map_or("a word or a number", Key::expected);
    let found = match found {
        toml::Value::Array(_) => "a list".to_owned(),
        toml::Value::Boolean(value) => value.to_string(),
        toml::Value::Datetime(_) => "a date".to_owned(),
        value => word(value).unwrap_or_else(|| "a table".to_owned()),
    };
    Error::Value { key, origin: origin.clone(), expected, found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_spells_keys_its_own_way() {
        assert_eq!(spelled("defaultprofile"), "default-profile");
        assert_eq!(spelled("worktree-root"), "worktree-root");
        assert_eq!(spelled("profile.Big One.maxturns"), "profile.Big One.max-turns");
        assert_eq!(spelled("nonsense"), "nonsense");
    }

    #[test]
    fn repeated_git_keys_are_a_list() {
        let value = |text: &str| GitValue::new("profile.x.command", text, "/u/.gitconfig", false);
        let sources =
            Sources { git_config: vec![value("sh"), value("-c"), value("true")], ..Sources::default() };
        let Flat { settings, unknown, .. } = flatten(&sources).unwrap();
        assert!(unknown.is_empty());
        let command = settings.iter().find(|setting| setting.key == "profile.x.command").unwrap();
        assert_eq!(command.value, Value::List(vec!["sh".into(), "-c".into(), "true".into()]));
    }
}

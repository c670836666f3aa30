//! What a command runs in: the terminal, the environment, and everything that is opened only when asked for.

use super::Global;
use super::env::Env;
use super::error::CliError;
use super::ui::Ui;
use crate::config::{self, AGENT_FILES, AgentFile, MAX_AGENT_FILE, Settings, Sources, approval};
use crate::git::{Identity, Repository};
use crate::model::{Agent, Id};
use crate::process::{Clock, SystemClock};
use crate::store::{Copied, Operation, STATE_REF, State, Store, Transaction};
use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The surroundings of one command.
///
/// Nothing is read or opened before a command asks for it, so that help and completion never look for a
/// repository.
#[derive(Debug)]
pub(crate) struct Context {
    env: Env,
    ui: Ui,
    clock: Arc<dyn Clock>,
    dir: PathBuf,
    words: String,
    repo: OnceCell<Repository>,
    settings: OnceCell<Settings>,
    store: OnceCell<Store>,
}

impl Context {
    /// The surroundings as the process finds them.
    /// `words` is what the log of operations calls it.
    pub(super) fn new(env: Env, global: &Global, words: String) -> Result<Self, CliError> {
        let here = std::env::current_dir()
            .map_err(|error| CliError::failed("failed to read the current directory", error))?;
        let dir = match &global.directory {
            None => here,
            Some(dir) => std::fs::canonicalize(here.join(dir)).map_err(|error| {
                CliError::failed(format!("failed to change to `{}`", dir.display()), error)
            })?,
        };
        let ui = Ui::new(&env, global.color, global.quiet, !global.no_pager);
        Ok(Self::with(env, dir, ui, words))
    }

    /// Surroundings in which nothing is said to anybody: for completion.
    pub(super) fn silent(env: Env, dir: PathBuf) -> Self {
        Self::with(env, dir, Ui::silent(), String::new())
    }

    fn with(env: Env, dir: PathBuf, ui: Ui, words: String) -> Self {
        let (repo, settings, store) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        Self { env, ui, clock: Arc::new(SystemClock), dir, words, repo, settings, store }
    }

    /// The environment.
    pub(crate) const fn env(&self) -> &Env {
        &self.env
    }

    /// The terminal, or whatever takes its place.
    pub(crate) const fn ui(&self) -> &Ui {
        &self.ui
    }

    /// The clock.
    pub(crate) const fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The directory the command was started in, or that `-C` named.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The repository that the command was started in.
    pub(crate) fn repo(&self) -> Result<&Repository, CliError> {
        if let Some(repo) = self.repo.get() {
            return Ok(repo);
        }
        let repo = match self.env.var("GIT_DIR") {
            // git sets it for `git --git-dir=… orchestra` and in hooks.
            Some(git_dir) => Repository::open(&self.dir.join(git_dir), self.env.share())?,
            None => Repository::discover(&self.dir, self.env.share())?,
        };
        Ok(self.repo.get_or_init(|| repo))
    }

    /// The repository whose state this command opened, if it did.
    pub(crate) fn opened(&self) -> Option<&Repository> {
        self.store.get().and(self.repo.get())
    }

    /// The state's store. Whoever runs the command writes: the agent that `spawn` started with its id in the
    /// environment, otherwise the user as git knows them.
    pub(crate) fn store(&self) -> Result<&Store, CliError> {
        if let Some(store) = self.store.get() {
            return Ok(store);
        }
        let repo = self.repo()?;
        let mut store = Store::open(repo.clone(), Arc::clone(&self.clock), repo.identity());
        store = store.with_operation(Operation::new(&self.words)?);
        store = store.with_cleaner(super::session::cleaner(&self.env));
        if let Some(Copied { from, was, is }) = store.settle_home()? {
            self.ui.warn(format!(
                "this repository is a copy of {}: it is machine {is} now, and not {was} any more",
                from.display()
            ));
            self.ui.hint("agents and claims of the other are the other's; `git orchestra take AGENT` continues one here");
        }
        if let Some(agent) = self.env.agent()
            && let Ok(id) = agent.parse::<Id>()
            && let Some(agent) = store.state()?.get::<Agent>(&id)?
        {
            store = store.with_author(Identity::agent(&agent.name));
        }
        Ok(self.store.get_or_init(|| store))
    }

    /// The state as it is now.
    pub(crate) fn state(&self) -> Result<State, CliError> {
        Ok(self.store()?.state()?)
    }

    /// The agent that runs this process, if one does.
    pub(crate) fn agent(&self) -> Result<Option<Agent>, CliError> {
        match self.env.agent().map(str::parse::<Id>) {
            Some(Ok(id)) => Ok(self.state()?.get(&id)?),
            _ => Ok(None),
        }
    }

    /// Whether an agent runs this command. By its environment, or, should that have been cleared, by whom this process
    /// descends from.
    pub(crate) fn is_of_an_agent(&self) -> bool {
        self.env.agent().is_some()
            || self
                .repo()
                .is_ok_and(|repo| crate::orchestrate::insider::is_of_an_agent(repo, std::process::id()))
    }

    /// Puts in order what a killed process left behind. Every command that changes something begins with it.
    pub(crate) fn recover(&self) -> Result<(), CliError> {
        // What it mends is no part of what this command does.
        let store = self.store()?.with_operation(Operation::new("recover")?);
        for one in crate::orchestrate::recover(&store)? {
            self.ui.note(one.text);
        }
        Ok(())
    }

    /// Makes one change of the state; says so when it made the state itself.
    pub(crate) fn transact<T>(
        &self,
        change: impl FnMut(&mut Transaction<'_>) -> Result<T, CliError>,
    ) -> Result<T, CliError> {
        self.recover()?;
        let done = self.store()?.transact(change)?;
        if done.initialised {
            self.note_init()?;
        }
        Ok(done.value)
    }

    /// Says which records could not be read and were left out of what was shown and done.
    pub(super) fn say_left_out(&self) {
        let left_out = self.store.get().map(Store::left_out).unwrap_or_default();
        let Some((first, why)) = left_out.first() else { return };
        let more =
            if left_out.len() > 1 { format!(" and {} more", left_out.len() - 1) } else { String::new() };
        self.ui.warn(format!("left out what cannot be read in the state: {first}{more} ({why})"));
        self.ui.hint("`git orchestra doctor` looks at every record");
    }

    /// Says that the state was made, and that nothing else was.
    pub(crate) fn note_init(&self) -> Result<(), CliError> {
        self.ui.note(format!(
            "made {STATE_REF} in {}; files, index and configuration are as they were",
            self.repo()?.common_dir().display()
        ));
        Ok(())
    }

    /// The settings that count here; warns about keys that nobody knows. Works outside of repositories too.
    pub(crate) fn settings(&self) -> Result<&Settings, CliError> {
        if let Some(settings) = self.settings.get() {
            return Ok(settings);
        }
        let repo = match self.repo() {
            Ok(repo) => Some(repo),
            Err(error) if error.is_no_repository() => None,
            Err(error) => return Err(error),
        };
        let settings = Settings::load(&self.sources(repo)?)?;
        for unknown in settings.unknown() {
            let nearest = nearest_key(&unknown.key).map(|key| format!("; did you mean `{key}`?"));
            let nearest = nearest.unwrap_or_default();
            self.ui.warn(format!("unknown setting `{}` in {}{nearest}", unknown.key, unknown.origin));
        }
        let approved = repo.is_none_or(|repo| {
            approval::Request::of(&settings, repo.common_dir()).is_none_or(|request| {
                self.env.data_home().is_some_and(|data_home| request.is_approved(&data_home))
            })
        });
        let files = repo.zip(self.env.data_home()).map(|(repo, data_home)| {
            let requests = approval::Request::of_files(&settings, repo.common_dir()).into_iter();
            requests.filter(|(_, request)| request.is_approved(&data_home)).map(|(name, _)| name).collect()
        });
        let settings = settings.approved(approved).approved_files(files.unwrap_or_default());
        Ok(self.settings.get_or_init(|| settings))
    }

    fn sources(&self, repo: Option<&Repository>) -> Result<Sources, CliError> {
        let mut sources = Sources {
            environment: self.env.settings().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            ..Sources::default()
        };
        if let Some(dir) = self.env.config_home() {
            let path = dir.join("git-orchestra/config.toml");
            sources.user_file = read_if_there(&path)?.map(|text| (path.display().to_string(), text));
        }
        if let Some(dir) = self.env.home() {
            sources.agent_files = agent_files(&dir.join(AGENT_FILES), false);
        }
        if let Some(repo) = repo {
            // A bare repository has no files; what is in its HEAD is in every worktree of it.
            if repo.main_dir() != repo.common_dir() {
                sources.agent_files.extend(agent_files(&repo.main_dir().join(AGENT_FILES), true));
            }
            sources.repository_file = repository_file(repo)?;
            sources.git_config = repo
                .config_entries("orchestra")
                .into_iter()
                .map(|e| config::GitValue::new(e.key, e.value, e.file, e.from_repository))
                .collect();
            let given = self.env.text("GIT_CONFIG_PARAMETERS").map(command_line_config).unwrap_or_default();
            sources.git_config.extend(given.into_iter().filter_map(|(key, value)| {
                let key = key.strip_prefix("orchestra.")?.to_owned();
                Some(config::GitValue::new(key, value, "git -c", false))
            }));
        }
        Ok(sources)
    }
}

/// The repository's own settings: in the main worktree as it is now, or in the commit that a bare repository's
/// `HEAD` points to.
fn repository_file(repo: &Repository) -> Result<Option<(String, String)>, CliError> {
    if repo.main_dir() != repo.common_dir() {
        let path = repo.main_dir().join(config::REPOSITORY_FILE);
        return Ok(read_if_there(&path)?.map(|text| (path.display().to_string(), text)));
    }
    let Some(commit) = repo.head()?.commit else { return Ok(None) };
    let tree = repo.read_commit(&commit)?.tree;
    let Some(entry) = repo.find_in_tree(&tree, config::REPOSITORY_FILE)? else { return Ok(None) };
    let text = String::from_utf8_lossy(&repo.read_blob(&entry.id)?).into_owned();
    Ok(Some((format!("HEAD:{}", config::REPOSITORY_FILE), text)))
}

/// The most files of agents that are read from one directory.
const MAX_AGENT_FILES: usize = 200;

/// Files of Claude Code's that describe agents, by their names. None of them can keep a command from working.
fn agent_files(dir: &Path, from_repository: bool) -> Vec<AgentFile> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths.sort();
    paths.truncate(MAX_AGENT_FILES);
    let read = |path: &Path| match std::fs::symlink_metadata(path) {
        // A link could lead to whatever its reader may read.
        Ok(data) if from_repository && !data.is_file() => Err("it is no plain file".to_owned()),
        Ok(data) if data.len() > MAX_AGENT_FILE => Err(format!("it is longer than {MAX_AGENT_FILE} bytes")),
        Ok(_) => std::fs::read_to_string(path).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let file =
        |path: PathBuf| AgentFile { text: read(&path), place: path.display().to_string(), from_repository };
    paths.into_iter().map(file).collect()
}

/// What `git -c key=value orchestra …` hands on: `'key'='value'` or `'key=value'`, quoted for a shell.
fn command_line_config(text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut chars = text.chars().peekable();
    while chars.peek().is_some() {
        // One word: quoted parts and bare characters up to a blank.
        let (mut word, mut quoted) = (String::new(), false);
        while let Some(c) = chars.next_if(|&c| quoted || c != ' ') {
            match c {
                '\'' => quoted = !quoted,
                '\\' if !quoted => word.extend(chars.next()),
                c => word.push(c),
            }
        }
        chars.next();
        if let Some((key, value)) = word.split_once('=') {
            pairs.push((key.to_owned(), value.to_owned()));
        }
    }
    pairs
}

fn read_if_there(path: &Path) -> Result<Option<String>, CliError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CliError::failed(format!("failed to read `{}`", path.display()), error)),
    }
}

/// The known key that `key` was probably meant to be.
fn nearest_key(key: &str) -> Option<String> {
    let parts: Vec<&str> = key.split('.').collect();
    config::Key::all()
        .iter()
        .map(|known| {
            // Names stay as they were written: only the words of the pattern can be mistyped.
            let spelled: Vec<&str> = known
                .pattern
                .split('.')
                .enumerate()
                .map(|(at, part)| if part == "*" { parts.get(at).copied().unwrap_or(part) } else { part })
                .collect();
            spelled.join(".")
        })
        .map(|known| (strsim::damerau_levenshtein(key, &known), known))
        .filter(|(distance, _)| *distance <= 3)
        .min()
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_gits_command_line_are_read() {
        let text = r"'orchestra.jobs'='2' 'orchestra.profile.x.role=it'\''s = a b' 'flag'=";
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(
            command_line_config(text),
            [pair("orchestra.jobs", "2"), pair("orchestra.profile.x.role", "it's = a b"), pair("flag", "")]
        );
    }

    #[test]
    fn mistyped_keys_find_their_neighbour() {
        assert_eq!(nearest_key("job").as_deref(), Some("jobs"));
        assert_eq!(nearest_key("profile.x.modle").as_deref(), Some("profile.x.model"));
        assert_eq!(nearest_key("profiles.x.model").as_deref(), Some("profile.x.model"));
        assert_eq!(nearest_key("something-else"), None);
    }
}

//! Layered settings with their provenance, profiles, and what the user has approved.
//!
//! This layer reads no environment and runs no program: it is handed [`Sources`] and says what follows from them,
//! and from where. Later layers win: built-in defaults, Claude Code's files of agents, the repository's `orchestra.toml`, the user's
//! `config.toml`, `git config orchestra.*`, `ORCHESTRA_*`, flags.
//!
//! A repository's own file and its own git configuration can be written by whoever writes the repository, agents
//! included. What they say about programs, arguments, environments, permissions and places on disk
//! ([`Key::is_restricted`]) therefore counts only after the user approved exactly that content: [`approval`].

mod agent_file;
pub mod approval;
mod error;
mod gate;
mod key;
mod pipeline;
mod profile;
pub mod program;
mod radar;
mod source;
mod team;
#[cfg(test)]
mod tests;
mod value;

pub use agent_file::{AGENT_FILES, AgentFile, MAX_AGENT_FILE, Skipped};
pub use error::Error;
pub use gate::Gate;
pub use key::Key;
pub use pipeline::Pipeline;
pub use profile::Profile;
pub use radar::Edits;
pub use source::{GitValue, Layer, Origin, Setting, Sources};
pub use team::{AUTO, Team, TeamStep};
pub use value::{Value, count as parse_count, duration as parse_span, money as parse_money};

use crate::model::{Budget, Measure, Sandbox};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The repository's own settings, at the root of its main worktree.
pub const REPOSITORY_FILE: &str = "orchestra.toml";

/// A key that no setting has, with who wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// The key as it was written.
    pub key: String,
    /// Who wrote it.
    pub origin: Origin,
}

/// All settings that count, each with its origin.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Every value of every key, the winner last.
    values: BTreeMap<String, Vec<Setting>>,
    unknown: Vec<Unknown>,
    skipped: Vec<Skipped>,
    /// What files of agents say that is not handed on, by their place.
    ignored: BTreeMap<String, Vec<String>>,
    approved: bool,
    approved_files: BTreeSet<String>,
}

/// The key of what keeps programs from what is not theirs; profiles have one that ends so.
const SANDBOX: &str = "sandbox";

fn level(setting: &Setting) -> Option<Sandbox> {
    match &setting.value {
        Value::Text(word) => word.parse().ok(),
        _ => None,
    }
}

/// Where among all that is `said` of a sandbox a setting stands, the winner last: what the repository says counts only
/// if it is stricter than what the user says, and never beside a variable or an option.
fn stricter(said: &[Setting]) -> impl Fn(&Setting) -> u8 + use<> {
    let of_user = said.iter().rev().find(|setting| !setting.origin.from_repository);
    let now = of_user.is_some_and(|setting| setting.origin.layer >= Layer::Environment);
    let least = of_user.and_then(level);
    move |setting: &Setting| match (setting.origin.from_repository, level(setting)) {
        (false, _) => 1,
        (true, level) if !now && level > least => 2,
        (true, _) => 0,
    }
}

impl Settings {
    /// Settles what `sources` say. Unknown keys are kept for a warning ([`Settings::unknown`]).
    pub fn load(sources: &Sources) -> Result<Self, Error> {
        let source::Flat { settings, unknown, skipped } = source::flatten(sources)?;
        let mut values: BTreeMap<String, Vec<Setting>> = BTreeMap::new();
        for setting in settings {
            values.entry(setting.key.clone()).or_default().push(setting);
        }
        for (key, said) in &mut values {
            said.sort_by_key(|setting| setting.origin.layer);
            if key == SANDBOX || key.ends_with(".sandbox") {
                let rank = stricter(said);
                said.sort_by_key(rank);
            }
        }
        let ignored = sources.agent_files.iter().map(|file| (file.place.clone(), file.ignored())).collect();
        let approved_files = BTreeSet::new();
        Ok(Self { values, unknown, skipped, ignored, approved: false, approved_files })
    }

    /// Lets the repository's restricted settings count; for whoever has checked [`approval`].
    #[must_use]
    pub const fn approved(mut self, approved: bool) -> Self {
        self.approved = approved;
        self
    }

    /// Lets the repository's files of these agents count; for whoever has checked [`approval`].
    #[must_use]
    pub fn approved_files(mut self, names: BTreeSet<String>) -> Self {
        self.approved_files = names;
        self
    }

    /// Whether a setting counts, or waits for an approval.
    pub fn counts(&self, setting: &Setting) -> bool {
        let approved = || match (setting.origin.layer, setting.profile()) {
            (Layer::AgentFile, Some(name)) => self.approved_files.contains(name),
            _ => self.approved,
        };
        !setting.needs_approval() || approved()
    }

    /// The profiles that files of the repository describe, each with what its file says.
    pub fn agent_files(&self) -> BTreeMap<&str, Vec<&Setting>> {
        let mut files: BTreeMap<&str, Vec<&Setting>> = BTreeMap::new();
        let said = self.values.values().flatten();
        for setting in said.filter(|said| said.origin.layer == Layer::AgentFile && said.needs_approval()) {
            if let Some(name) = setting.profile() {
                files.entry(name).or_default().push(setting);
            }
        }
        files
    }

    /// Files of agents that are no profiles.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// What the file of an agent says that is not handed on.
    pub fn ignored(&self, place: &str) -> &[String] {
        self.ignored.get(place).map_or(&[], Vec::as_slice)
    }

    /// Whether the repository's restricted settings count.
    pub const fn is_approved(&self) -> bool {
        self.approved
    }

    /// The settings that win, by key.
    pub fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.values.values().filter_map(|said| said.last())
    }

    /// One setting by its key.
    pub fn setting(&self, key: &str) -> Option<&Setting> {
        self.values.get(key)?.last()
    }

    /// Every value said for a key, the winner last.
    pub fn said(&self, key: &str) -> &[Setting] {
        self.values.get(key).map_or(&[], Vec::as_slice)
    }

    /// Keys that nobody knows.
    pub fn unknown(&self) -> &[Unknown] {
        &self.unknown
    }

    /// The restricted settings that the repository itself names, whether they win or not. Its files of agents are
    /// approved one by one ([`Settings::agent_files`]).
    pub fn restricted(&self) -> impl Iterator<Item = &Setting> {
        let all = self.values.values().flatten();
        all.filter(|setting| setting.needs_approval() && setting.origin.layer != Layer::AgentFile)
    }

    /// The value of `key`, if somebody named one who may.
    fn value(&self, key: &str) -> Result<Option<&Value>, Error> {
        match self.setting(key) {
            Some(setting) if !self.counts(setting) => Err(Error::NotApproved { keys: vec![key.to_owned()] }),
            setting => Ok(setting.map(|setting| &setting.value)),
        }
    }

    /// How many agents run at once.
    pub fn jobs(&self) -> u32 {
        match self.setting("jobs").map(|setting| &setting.value) {
            Some(Value::Integer(jobs)) => u32::try_from(*jobs).unwrap_or(u32::MAX),
            _ => 4,
        }
    }

    /// What the keys below `prefix` (`task.`, `fleet.`, `profile.NAME.`) let be used.
    pub fn budget(&self, prefix: &str) -> Budget {
        let value = |measure: Measure| {
            let setting = self.setting(&format!("{prefix}{}", measure.key()))?;
            match &setting.value {
                Value::Integer(number) | Value::Money(number) => Some(*number),
                Value::Duration(span) => u64::try_from(span.as_millis()).ok(),
                Value::Text(_) | Value::List(_) | Value::Size(_) => None,
            }
        };
        Budget {
            cost_micro_usd: value(Measure::Cost),
            tokens: value(Measure::Tokens),
            turns: value(Measure::Turns),
            time_ms: value(Measure::Time),
        }
    }

    /// How far back runs began that count for the budget of all agents; `None` for all of them.
    pub fn fleet_period(&self) -> Option<std::time::Duration> {
        match self.setting("fleet.period").map(|setting| &setting.value) {
            Some(Value::Duration(span)) => Some(*span),
            _ => None,
        }
    }

    /// Where agents' worktrees are made; `None` for beside the repository. A relative path starts at the directory
    /// of the file that names it, or else at the main worktree.
    pub fn worktree_root(&self, main_worktree: &Path) -> Result<Option<PathBuf>, Error> {
        let Some(Value::Text(root)) = self.value("worktree-root")? else { return Ok(None) };
        let setting = self.setting("worktree-root").expect("it has a value");
        let file_dir = match setting.origin.layer {
            Layer::User => Path::new(&setting.origin.place).parent(),
            _ => None,
        };
        Ok(Some(file_dir.unwrap_or(main_worktree).join(root)))
    }

    /// How long an agent that was asked to end may take before it is killed.
    pub fn grace(&self) -> std::time::Duration {
        match self.setting("grace").map(|setting| &setting.value) {
            Some(Value::Duration(grace)) => *grace,
            _ => std::time::Duration::from_secs(5),
        }
    }

    /// How long agents wait first whose model is over a limit and names no time.
    pub fn park(&self) -> std::time::Duration {
        match self.setting("park").map(|setting| &setting.value) {
            Some(Value::Duration(pause)) => *pause,
            _ => std::time::Duration::from_secs(30),
        }
    }

    /// How long an agent waits for the answer to a question that became a decision, if that is set.
    pub fn answer_timeout(&self) -> Option<std::time::Duration> {
        match self.setting("answer-timeout").map(|setting| &setting.value) {
            Some(Value::Duration(span)) => Some(*span),
            _ => None,
        }
    }

    /// The name of the remote that state is synced with, if one is set.
    pub fn remote(&self) -> Option<&str> {
        self.text("remote")
    }

    /// What our refs are called on remotes that take only branches, if that is set.
    pub fn remote_prefix(&self) -> Option<&str> {
        self.text("remote-prefix")
    }

    fn text(&self, key: &str) -> Option<&str> {
        match self.setting(key).map(|setting| &setting.value) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// How long a remote may take for one step.
    pub fn remote_timeout(&self) -> std::time::Duration {
        match self.setting("remote-timeout").map(|setting| &setting.value) {
            Some(Value::Duration(timeout)) => *timeout,
            _ => std::time::Duration::from_secs(120),
        }
    }

    /// Whether the upstream of what agents start from is fetched first.
    pub fn fetches_base(&self) -> bool {
        self.text("base-fetch") != Some("never")
    }

    /// How long that may take.
    pub fn base_timeout(&self) -> std::time::Duration {
        match self.setting("base-timeout").map(|setting| &setting.value) {
            Some(Value::Duration(timeout)) => *timeout,
            _ => std::time::Duration::from_secs(10),
        }
    }

    /// Whether workers send transcripts to the remote.
    pub fn sends_transcripts(&self) -> bool {
        self.text("transcripts") == Some("remote")
    }

    /// Whether `spawn` claims tasks over the remote: always, never, or (`None`) those that the remote knows.
    pub fn claims(&self) -> Option<bool> {
        match self.text("claim") {
            Some("always") => Some(true),
            Some("never") => Some(false),
            _ => None,
        }
    }

    /// After which silence of this machine others may take over what its agents work on.
    pub fn claim_ttl(&self) -> std::time::Duration {
        match self.setting("claim-ttl").map(|setting| &setting.value) {
            Some(Value::Duration(ttl)) => *ttl,
            _ => std::time::Duration::from_secs(600),
        }
    }

    /// For how long nobody touched a closed task that is archived.
    pub fn archive_after(&self) -> std::time::Duration {
        match self.setting("archive-after").map(|setting| &setting.value) {
            Some(Value::Duration(age)) => *age,
            _ => std::time::Duration::from_secs(90 * 24 * 3600),
        }
    }

    /// How long ago the history of the state was cut of which `prune` offers what was before.
    pub fn prune_epochs_after(&self) -> std::time::Duration {
        match self.setting("prune-epochs-after").map(|setting| &setting.value) {
            Some(Value::Duration(age)) => *age,
            _ => std::time::Duration::from_secs(365 * 24 * 3600),
        }
    }

    /// The words of the command that is run when an agent waits, is stuck, failed or is done; none if there is none. Fails if it
    /// needs an approval that is not there.
    pub fn notify_command(&self) -> Result<&[String], Error> {
        self.words("notify.command")
    }

    /// How a terminal tells that: `off`, `bell` or `words`.
    pub fn notify_terminal(&self) -> &str {
        self.text("notify.terminal").unwrap_or("words")
    }

    /// The words of the command that is run in a new worktree; none if there is none. Fails if it needs an approval that
    /// is not there.
    pub fn setup(&self) -> Result<&[String], Error> {
        self.words("worktree.setup")
    }

    /// The same of the command that is run before a worktree is removed.
    pub fn teardown(&self) -> Result<&[String], Error> {
        self.words("worktree.teardown")
    }

    /// The names of variables of the user's environment that those two get. Fails like them.
    pub fn hook_env(&self) -> Result<&[String], Error> {
        self.words("worktree.pass-env")
    }

    /// Fingerprints of what looks like a secret and may be pushed.
    pub fn push_allow(&self) -> Result<&[String], Error> {
        self.words("push.allow")
    }

    fn words(&self, key: &str) -> Result<&[String], Error> {
        match self.value(key)? {
            Some(Value::List(words)) => Ok(words),
            _ => Ok(&[]),
        }
    }

    /// How long setup and teardown may each take.
    pub fn hook_timeout(&self) -> std::time::Duration {
        match self.setting("worktree.timeout").map(|setting| &setting.value) {
            Some(Value::Duration(span)) => *span,
            _ => std::time::Duration::from_secs(600),
        }
    }

    /// How many ports each running agent has.
    pub fn ports(&self) -> u16 {
        match self.setting("worktree.ports").map(|setting| &setting.value) {
            Some(Value::Integer(ports)) => u16::try_from(*ports).unwrap_or(u16::MAX),
            _ => 10,
        }
    }

    /// Whether conflicts that were answered before are asked about again.
    pub fn asks_again(&self) -> bool {
        self.text("merge.remembered") == Some("ask")
    }

    /// Whether lock files are merged by what they list where their lines conflict.
    pub fn merges_lock_files(&self) -> bool {
        self.text("merge.lock-files") != Some("ask")
    }

    /// The programs that may write lock files again. Fails if the repository names them and that is not approved.
    pub fn lock_tools(&self) -> Result<&[String], Error> {
        self.words("merge.lock-tools")
    }

    /// The programs that the repository would let write lock files, if that was approved.
    pub fn wanted_lock_tools(&self) -> &[String] {
        match self
            .setting("merge.lock-tools")
            .filter(|setting| !self.counts(setting))
            .map(|setting| &setting.value)
        {
            Some(Value::List(words)) => words,
            _ => &[],
        }
    }

    /// How long such a program may take.
    pub fn lock_timeout(&self) -> std::time::Duration {
        match self.setting("merge.lock-timeout").map(|setting| &setting.value) {
            Some(Value::Duration(span)) => *span,
            _ => std::time::Duration::from_secs(300),
        }
    }

    /// The names of variables of the user's environment that it gets. Fails like the programs themselves.
    pub fn lock_env(&self) -> Result<&[String], Error> {
        self.words("merge.lock-pass-env")
    }

    /// Whether work that changes what is run by itself lands without a question: only if somebody says so who may.
    pub fn lands_executables(&self) -> bool {
        let mut said = self.said("merge.executables").iter().filter(|setting| self.counts(setting));
        said.next_back().is_some_and(|setting| setting.value == Value::Text("land".to_owned()))
    }

    /// Whether agents take every answer that comes from another clone, verified or not: only if somebody says so who may.
    pub fn believes_any_answer(&self) -> bool {
        let mut said = self.said("answers").iter().filter(|setting| self.counts(setting));
        said.next_back().is_some_and(|setting| setting.value == Value::Text("any".to_owned()))
    }

    /// Globs of the files of which every conflict keeps both sides.
    pub fn union_globs(&self) -> &[String] {
        match self.setting("merge.union").map(|setting| &setting.value) {
            Some(Value::List(globs)) => globs,
            _ => &[],
        }
    }

    /// Whether agents share build directories.
    pub fn shares_builds(&self) -> bool {
        self.text("worktree.builds") == Some("shared")
    }

    /// The directories of zones that have some.
    pub fn zones(&self) -> BTreeMap<String, Vec<String>> {
        let of = |setting: &Setting| match (&setting.value, setting.key.strip_prefix("zone.")) {
            (Value::List(paths), Some(key)) if !paths.is_empty() => {
                Some((key.strip_suffix(".paths")?.to_owned(), paths.clone()))
            }
            _ => None,
        };
        self.iter().filter_map(of).collect()
    }

    /// The bytes that must be free where worktrees are made before an agent starts.
    pub fn space_floor(&self) -> u64 {
        self.size("space-floor").unwrap_or(512 << 20)
    }

    /// Whether what builds left in the worktrees of agents at rest goes where less is free.
    pub fn frees_builds(&self) -> bool {
        self.text("prune-builds") != Some("never")
    }

    /// The bytes of memory that must be left for an agent to start beside others.
    pub fn memory_floor(&self) -> u64 {
        self.size("memory-floor").unwrap_or(512 << 20)
    }

    fn size(&self, key: &str) -> Option<u64> {
        match self.setting(key).map(|setting| &setting.value) {
            Some(Value::Size(bytes)) => Some(*bytes),
            _ => None,
        }
    }

    /// What keeps programs of a profile from what is not theirs: what the user says of the profile, or else of all.
    ///
    /// What the repository says of either counts only if it is stricter, approved or not; a variable or an option counts
    /// whatever the repository says.
    pub fn sandbox(&self, profile: &str) -> Sandbox {
        let own = format!("profile.{profile}.{SANDBOX}");
        let of_user = |key: &str| self.said(key).iter().rev().find(|setting| !setting.origin.from_repository);
        let of_user = of_user(&own).or_else(|| of_user(SANDBOX));
        let wanted = of_user.and_then(level).unwrap_or_default();
        if of_user.is_some_and(|setting| setting.origin.layer >= Layer::Environment) {
            return wanted;
        }
        let of_repository = [own.as_str(), SANDBOX]
            .into_iter()
            .flat_map(|key| self.said(key))
            .filter(|setting| setting.origin.from_repository);
        of_repository.filter_map(level).fold(wanted, Sandbox::max)
    }

    /// Paths that confined programs may read beside what every one of them may. Fails if that needs an approval that is
    /// not there.
    pub fn sandbox_read(&self) -> Result<&[String], Error> {
        self.words("sandbox-read")
    }

    /// The same of what they may change.
    pub fn sandbox_write(&self) -> Result<&[String], Error> {
        self.words("sandbox-write")
    }

    /// The name of the profile that is used where none is named.
    pub fn default_profile(&self) -> Result<&str, Error> {
        match self.value("default-profile")? {
            Some(Value::Text(name)) => Ok(name),
            _ => Ok(profile::DEFAULT),
        }
    }

    /// The names of all profiles.
    pub fn profile_names(&self) -> BTreeSet<&str> {
        self.values.keys().filter_map(|key| Some(key.strip_prefix("profile.")?.split_once('.')?.0)).collect()
    }

    /// The names of all teams.
    pub fn team_names(&self) -> BTreeSet<String> {
        team::names(self)
    }

    /// A team by its name. Fails if any part of it needs an approval that is not there.
    pub fn team(&self, name: &str) -> Result<Team, Error> {
        team::settle(self, name)
    }

    /// The gates that merges must pass, in order; `only` these, if any are named. Fails if any part of them needs an
    /// approval that is not there.
    pub fn gates(&self, only: &[String]) -> Result<Vec<Gate>, Error> {
        gate::settle(self, only)
    }

    /// The names of all gates, approved or not.
    pub fn gate_names(&self) -> BTreeSet<String> {
        gate::names(self)
    }

    /// Whether a branch with which a gate fails is left out without asking.
    pub fn puts_aside(&self) -> bool {
        self.text("gate-failure") == Some("put-aside")
    }

    /// Whether tasks begin later that will probably change the same files as one that is worked on.
    pub fn holds_back(&self) -> bool {
        self.text("hold") != Some("off")
    }

    /// Whether what comes before a branch that somebody is asked about lands at once.
    pub fn lands_prefixes(&self) -> bool {
        self.text("merge.landing") == Some("prefixes")
    }

    /// How many agents are asked to mend a branch with which a gate fails, before anything else becomes of it.
    pub fn gate_mends(&self) -> u32 {
        match self.setting("gate-mends").map(|setting| &setting.value) {
            Some(Value::Integer(mends)) => u32::try_from(*mends).unwrap_or(0),
            _ => 0,
        }
    }

    /// A pipeline by its name. Fails if any part of it needs an approval that is not there.
    pub fn pipeline(&self, name: &str) -> Result<Pipeline, Error> {
        pipeline::settle(self, name)
    }

    /// The names of all pipelines.
    pub fn pipeline_names(&self) -> BTreeSet<String> {
        pipeline::names(self)
    }

    /// A profile as it would be if all of it were approved: to look at, never to run.
    pub fn preview(&self, name: &str) -> Result<Profile, Error> {
        profile::preview(self, name)
    }

    /// The settings of a profile that win, those of a profile that it builds on left out.
    pub fn profile_settings<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Setting> {
        profile::mine(self, name)
    }

    /// Whether it is a role that the program brings.
    pub fn is_role(name: &str) -> bool {
        profile::roles().iter().any(|role| role == name)
    }

    /// A profile by its name. Fails if any part of it needs an approval that is not there.
    pub fn profile(&self, name: &str) -> Result<Profile, Error> {
        profile::settle(self, name)
    }
}

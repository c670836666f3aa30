//! Which remote is meant, and what our refs are called there.

use super::super::Error;
use crate::git::Repository;
use crate::model::Agent;
use crate::store::{FINDINGS_NOTES, STATE_REF, Store};
use std::time::Duration;

/// A remote, and how our refs are called there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Its name in the configuration.
    pub name: String,
    /// What takes the place of `refs/orchestra/` and `refs/notes/orchestra/` there, for hosts that take only
    /// branches; ends with a slash.
    pub prefix: Option<String>,
    /// How long any one step may take.
    pub deadline: Duration,
}

/// The remote to use: the one that is named, the one of the settings, the one that the current branch follows,
/// `origin`, or the only one there is.
pub fn pick_remote(
    repo: &Repository,
    named: Option<&str>,
    configured: Option<&str>,
) -> Result<String, Error> {
    let remotes = repo.remotes()?;
    if let Some(name) = named.or(configured) {
        return remotes.into_iter().find(|remote| remote == name).ok_or_else(|| {
            let hint = "`git remote -v` lists the remotes, `git remote add NAME URL` adds one".to_owned();
            Error::refused(format!("find the remote `{}`", name.escape_default()), Some(hint))
        });
    }
    let branch = repo.head()?.branch;
    let upstream = branch
        .as_deref()
        .and_then(|branch| repo.config(&format!("branch.{}.remote", branch.strip_prefix("refs/heads/")?)));
    for preferred in [upstream.as_deref(), Some("origin")].into_iter().flatten() {
        if remotes.iter().any(|remote| remote == preferred) {
            return Ok(preferred.to_owned());
        }
    }
    match remotes.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Error::refused(
            "find a remote: this repository has none",
            Some("`git remote add origin URL` adds one".to_owned()),
        )),
        _ => Err(Error::refused(
            format!("choose a remote among {}", remotes.join(", ")),
            Some("name one, or set `git config orchestra.remote NAME`".to_owned()),
        )),
    }
}

impl Remote {
    /// A remote of the configuration, with the prefix of its settings.
    ///
    /// # Errors
    /// If the prefix would make refs that are not ours alone, or none at all.
    pub fn new(name: String, prefix: Option<String>, deadline: Duration) -> Result<Self, Error> {
        let plain = |text: &str| {
            text.split('/').all(|part| {
                !part.is_empty()
                    && !part.starts_with(['.', '-'])
                    && !part.to_ascii_lowercase().ends_with(".lock")
                    && !part.contains("..")
                    && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            })
        };
        // It becomes a part of tracking refs.
        if !plain(&name) {
            let hint = "names of letters, digits, `-`, `_`, `.` and `/` will do".to_owned();
            return Err(Error::refused(
                format!("use the remote `{}`: its name cannot be a part of a ref", name.escape_default()),
                Some(hint),
            ));
        }
        // Such as `origin/state`: what is seen of it would lie below the state of `origin`.
        if name.split('/').skip(1).any(|part| matches!(part, "state" | "notes")) {
            let hint = format!("`git remote rename {name} {}` will do", name.replace('/', "-"));
            let what = format!(
                "use the remote `{name}`: what is seen of it cannot be kept beside that of another one"
            );
            return Err(Error::refused(what, hint));
        }
        if let Some(prefix) = &prefix {
            let inner = prefix.strip_prefix("refs/").and_then(|rest| rest.strip_suffix('/'));
            let own = inner.is_some_and(|inner| plain(inner) && inner.contains('/'));
            if !own || Agent::BRANCHES.starts_with(prefix.as_str()) || prefix.starts_with(Agent::BRANCHES) {
                let hint = "such as refs/heads/orchestra-state/".to_owned();
                return Err(Error::refused(
                    format!("use the remote prefix `{}`", prefix.escape_default()),
                    Some(hint),
                ));
            }
        }
        Ok(Self { name, prefix, deadline })
    }

    /// What a ref of ours (`refs/orchestra/…`, `refs/notes/orchestra/…`, or one of their directories) is called there.
    /// The one place that knows: whatever is listed, fetched or pushed goes through it. Branches keep their names.
    pub fn there(&self, ours: &str) -> String {
        match &self.prefix {
            Some(prefix) if is_ours(ours) => format!("{prefix}{}", part(ours)),
            _ => ours.to_owned(),
        }
    }

    /// Where we keep what we saw of a ref of ours there.
    pub fn tracking(&self, ours: &str) -> String {
        format!("refs/orchestra/remotes/{}/{}", self.name, part(ours))
    }
}

fn is_ours(name: &str) -> bool {
    name.starts_with("refs/orchestra/") || name.starts_with("refs/notes/orchestra/")
}

/// `state`, `notes/findings`.
fn part(ours: &str) -> String {
    match ours.strip_prefix("refs/notes/orchestra/") {
        Some(notes) => format!("notes/{notes}"),
        None => ours.strip_prefix("refs/orchestra/").unwrap_or(ours).to_owned(),
    }
}

/// Refuses a remote that keeps its state under other names than this clone looks for, and of which nothing was seen. Returns
/// whether a state was seen there; where none was, this asks the remote.
///
/// # Errors
/// [`Error::Refused`] with the setting that finds it: two states side by side would be two queues.
pub fn require_same_place(store: &Store, remote: &Remote) -> Result<bool, Error> {
    const STATE: &str = "state";
    if store.repo().find_ref(&remote.tracking(STATE_REF))?.is_some() {
        return Ok(true);
    }
    let there = store.repo().list_remote(&remote.name, "refs/", remote.deadline)?;
    let own = remote.there(STATE_REF);
    // It is there and was not taken in.
    if there.contains_key(&own) {
        return Ok(true);
    }
    let refused = |what: &str, hint: String| {
        let what =
            format!("find the state on {}: it is under {what}, and this clone looks for {own}", remote.name);
        Err(Error::refused(what, hint))
    };
    if there.contains_key(STATE_REF) && there.contains_key(FINDINGS_NOTES) {
        let hint =
            "`git config --unset orchestra.remotePrefix` looks there, where this clone's settings have it";
        return refused("refs/orchestra/", hint.to_owned());
    }
    for prefix in there.keys().filter_map(|name| name.strip_suffix(STATE)) {
        // Whoever made the state made the notes beside it.
        let is_prefix = Remote::new(remote.name.clone(), Some(prefix.to_owned()), remote.deadline).is_ok();
        if is_prefix && there.contains_key(&format!("{prefix}{}", part(FINDINGS_NOTES))) {
            return refused(prefix, format!("`git config orchestra.remotePrefix {prefix}` looks there"));
        }
    }
    Ok(false)
}

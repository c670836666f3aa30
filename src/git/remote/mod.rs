//! Talking to remotes: explicit refspecs, a deadline on every step, no prompt, nothing of the user's configuration
//! edited or obeyed beyond where the remote is and how to sign in.

mod fetch;
mod intake;
mod leased;
mod place;
mod push;
mod quarantine;
mod trouble;

pub use fetch::{FetchAnswer, FetchSpec};
pub use leased::{Lease, LeasedSpec, SwapOptions};
pub use push::{PushAnswer, PushSpec};
pub use trouble::Trouble;

use super::run::with_settings;
use super::{Error, Repository};
use crate::model::ObjectId;
use crate::process::Command;
use bstr::ByteSlice;
use place::{Address, Side};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::time::Duration;

/// The user's own environment says how to get out of the house; a repository's configuration does not.
const PASSED: &[&str] = &[
    "GIT_SSH_COMMAND",
    "GIT_SSH",
    "GIT_SSH_VARIANT",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
];

/// How many commits are looked at here before git is asked: what follows what is nearly always near.
const NEAR: usize = 256;

impl Repository {
    /// Whether `ancestor` is `descendant` or lies behind it.
    pub fn is_ancestor(&self, ancestor: &ObjectId, descendant: &ObjectId) -> Result<bool, Error> {
        if self.is_near_ancestor(ancestor, descendant) {
            return Ok(true);
        }
        let command = self.git(["merge-base", "--is-ancestor", ancestor.as_str(), descendant.as_str()]);
        let output = command.output()?;
        match output.status.code() {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(command.failed(&output).into()),
        }
    }

    /// The same, without a process and only a little way back: `false` may mean that it is not known.
    fn is_near_ancestor(&self, ancestor: &ObjectId, descendant: &ObjectId) -> bool {
        let mut seen = BTreeSet::from([descendant.clone()]);
        let mut queue = VecDeque::from([descendant.clone()]);
        while let Some(commit) = queue.pop_front() {
            if commit == *ancestor {
                return true;
            }
            if seen.len() > NEAR {
                return false;
            }
            // What cannot be read, as behind the end of a shallow clone, is git's to judge.
            let Ok(commit) = self.read_commit(&commit) else { continue };
            for parent in commit.parents {
                if seen.insert(parent.clone()) {
                    queue.push_back(parent);
                }
            }
        }
        false
    }

    /// The names of the remotes that are configured.
    pub fn remotes(&self) -> Result<Vec<String>, Error> {
        let names = self.gix.remote_names();
        Ok(names.into_iter().filter_map(|name| name.to_str().ok().map(str::to_owned)).collect())
    }

    /// Where refs are on a remote, where that is pushed to. One round trip; only the named refs are asked for.
    pub fn remote_refs(
        &self,
        remote: &str,
        names: &[&str],
        deadline: Duration,
    ) -> Result<BTreeMap<String, ObjectId>, Error> {
        self.refs_of(remote, Side::Pushed, names, deadline)
    }

    /// The same, where it is fetched from.
    pub fn upstream_refs(
        &self,
        remote: &str,
        names: &[&str],
        deadline: Duration,
    ) -> Result<BTreeMap<String, ObjectId>, Error> {
        self.refs_of(remote, Side::Fetched, names, deadline)
    }

    fn refs_of(
        &self,
        remote: &str,
        side: Side,
        names: &[&str],
        deadline: Duration,
    ) -> Result<BTreeMap<String, ObjectId>, Error> {
        let command = self.listing(&self.address(remote, side)?).args(names);
        let output =
            command.output_within(deadline).map_err(|error| trouble::of_command(remote, error, deadline))?;
        if !output.status.success() {
            return Err(trouble::of_words(remote, &command, &output));
        }
        let mut refs = BTreeMap::new();
        for line in output.stdout.lines() {
            let found = line.split_once_str("\t").and_then(|(id, name)| {
                Some((name.to_str().ok()?.to_owned(), id.to_str().ok()?.parse().ok()?))
            });
            let (name, id) = found.ok_or_else(|| Error::unexpected("ls-remote", line))?;
            // A pattern of `ls-remote` matches the ends of names too.
            if names.contains(&name.as_str()) {
                refs.insert(name, id);
            }
        }
        Ok(refs)
    }

    /// `git ls-remote` of what follows.
    fn listing(&self, address: &Address) -> Command {
        let args = ["ls-remote", "--upload-pack=git-upload-pack", "--", address.name.as_str()];
        self.network_at(address, args, &[])
    }

    /// Sets one key of this repository's own configuration.
    pub fn set_config(&self, key: &str, value: &str) -> Result<(), Error> {
        self.read(["config", "--local", "--", key, value]).map(drop)
    }

    /// A git command that talks to a remote and can neither ask nor be told to run something by the repository:
    /// helpers for signing in and the ssh command are those of the user's own configuration or environment. `settings` come behind ours.
    fn network_with<A: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = A>,
        settings: &[(&str, &str)],
    ) -> Command {
        let own =
            |section: &str| self.config_entries(section).into_iter().filter(|entry| !entry.from_repository);
        // An empty helper forgets those that were named before it.
        let mut all = vec![
            ("core.alternateRefsCommand".to_owned(), "true".to_owned()),
            ("credential.helper".to_owned(), String::new()),
            // In this protocol a server sends the refs that were asked for and no others.
            ("protocol.version".to_owned(), "2".to_owned()),
        ];
        let is_helper = |key: &str| key.split('.').next_back() == Some("helper");
        all.extend(
            own("credential")
                .filter(|entry| is_helper(&entry.key))
                .map(|entry| (format!("credential.{}", entry.key), entry.value)),
        );
        all.extend(
            own("core")
                .filter(|entry| entry.key == "sshcommand")
                .map(|entry| ("core.sshCommand".to_owned(), entry.value)),
        );
        all.extend(settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));

        let passed = PASSED.iter().filter_map(|key| Some((*key, self.env(key)?.clone())));
        let proxy = self.env("GIT_PROXY_COMMAND").cloned().unwrap_or_default();
        // Ours come last, so that no variable of the user's brings a window or a question back.
        let command = self
            .git(args)
            .envs(passed)
            // Even empty it outranks `core.gitProxy`.
            .env("GIT_PROXY_COMMAND", proxy)
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "")
            .env("SSH_ASKPASS", "")
            .env("SSH_ASKPASS_REQUIRE", "never")
            .env("GCM_INTERACTIVE", "never");
        with_settings(command, all)
    }

    /// The same to an address.
    fn network_at<A: AsRef<OsStr>>(
        &self,
        address: &Address,
        args: impl IntoIterator<Item = A>,
        settings: &[(&str, &str)],
    ) -> Command {
        let rule = address.rule();
        let rule = rule.as_ref().map(|(key, value)| (key.as_str(), value.as_str()));
        let settings: Vec<_> = settings.iter().copied().chain(rule).collect();
        self.network_with(args, &settings)
    }
}

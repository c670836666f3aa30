//! Talking to remotes: explicit refspecs, a deadline on every step, no prompt, nothing of the user's configuration
//! edited or obeyed beyond where the remote is and how to sign in.

use super::{Error, Repository};
use crate::model::ObjectId;
use crate::process::{Command, Output};
use bstr::ByteSlice;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::time::Duration;

/// The user's own environment says how to get out of the house; a repository's configuration does not.
const PASSED: &[&str] = &[
    "GIT_SSH_COMMAND",
    "GIT_SSH",
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

/// One ref that is fetched: where it is there, and the tracking ref here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchSpec {
    /// The full name on the remote.
    pub remote: String,
    /// The full name of the tracking ref.
    pub tracking: String,
}

/// What a fetch found of one ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchAnswer {
    /// The remote has what we had seen.
    Same(ObjectId),
    /// The tracking ref moved forward.
    Moved {
        /// Where it was; `None` if it is new.
        old: Option<ObjectId>,
        /// Where it is.
        new: ObjectId,
    },
    /// The remote has no such ref.
    Absent,
    /// The remote has something that does not follow what we had seen; the tracking ref stays.
    Rewritten {
        /// What we had seen.
        old: ObjectId,
        /// What the remote has.
        new: ObjectId,
    },
}

/// One ref that is pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushSpec {
    /// The object.
    pub new: ObjectId,
    /// The full name on the remote.
    pub remote: String,
}

/// What a remote answered to the push of one ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushAnswer {
    /// It has it now.
    Landed,
    /// It had it before.
    Same,
    /// Somebody else was faster: fetch, merge, and push again.
    Behind,
    /// It will not take it.
    Refused(String),
    /// The answer did not arrive: it may have taken it.
    Unknown(String),
}

impl Repository {
    /// Whether `ancestor` is `descendant` or lies behind it.
    pub fn is_ancestor(&self, ancestor: &ObjectId, descendant: &ObjectId) -> Result<bool, Error> {
        if ancestor == descendant {
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

    /// The names of the remotes that are configured.
    pub fn remotes(&self) -> Result<Vec<String>, Error> {
        Ok(self.read(["remote"])?.lines().map(str::to_owned).collect())
    }

    /// Where refs are on a remote. One round trip; only the named refs are asked for.
    pub fn remote_refs(
        &self,
        remote: &str,
        names: &[&str],
        deadline: Duration,
    ) -> Result<BTreeMap<String, ObjectId>, Error> {
        let command = self.network(["ls-remote", "--upload-pack=git-upload-pack", "--", remote]).args(names);
        let output = command.output_within(deadline)?;
        if !output.status.success() {
            return Err(command.failed(&output).into());
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

    /// Fetches refs into their tracking refs and nothing else: no tags, no `FETCH_HEAD`, none of the remote's
    /// configured refspecs. One answer for each of `specs`, in their order.
    ///
    /// A tracking ref only ever moves forward. Where all of them are there already it is one connection, otherwise
    /// the remote is asked first what it has.
    pub fn fetch(
        &self,
        remote: &str,
        specs: &[FetchSpec],
        deadline: Duration,
    ) -> Result<Vec<FetchAnswer>, Error> {
        let old: Vec<Option<ObjectId>> =
            specs.iter().map(|spec| self.find_ref(&spec.tracking)).collect::<Result<_, _>>()?;
        if old.iter().all(Option::is_some)
            && let Some(answers) = self.fetch_present(remote, &specs.iter().collect::<Vec<_>>(), deadline)?
        {
            return Ok(answers);
        }
        let names: Vec<&str> = specs.iter().map(|spec| spec.remote.as_str()).collect();
        let there = self.remote_refs(remote, &names, deadline)?;
        let wanted: Vec<&FetchSpec> = specs
            .iter()
            .zip(&old)
            .filter(|(spec, old)| there.get(&spec.remote) != old.as_ref())
            .map(|(s, _)| s)
            .filter(|spec| there.contains_key(&spec.remote))
            .collect();
        let mut fetched = match wanted.as_slice() {
            [] => Vec::new(),
            wanted => self.fetch_present(remote, wanted, deadline)?.ok_or_else(|| Error::Output {
                command: "fetch",
                detail: "the remote named a ref that it then did not have".to_owned(),
            })?,
        }
        .into_iter();
        let answers = specs.iter().zip(old).map(|(spec, old)| match (there.get(&spec.remote), old) {
            (None, _) => FetchAnswer::Absent,
            (Some(new), Some(old)) if *new == old => FetchAnswer::Same(old),
            (Some(_), _) => fetched.next().expect("one answer for each that was wanted"),
        });
        Ok(answers.collect())
    }

    /// Fetches refs that are all there; `None` if one is not.
    fn fetch_present(
        &self,
        remote: &str,
        specs: &[&FetchSpec],
        deadline: Duration,
    ) -> Result<Option<Vec<FetchAnswer>>, Error> {
        let command = self.network([
            "-c",
            "transfer.fsckObjects=true",
            "-c",
            "fetch.fsckObjects=true",
            "-c",
            "core.fsync=committed,loose-object",
            "-c",
            "fetch.writeCommitGraph=false",
            "fetch",
            "--porcelain",
            "--verbose",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-auto-maintenance",
            "--no-recurse-submodules",
            "--no-prune",
            "--no-force",
            "--refmap=",
            "--upload-pack=git-upload-pack",
            "--",
            remote,
        ]);
        let command = command.args(specs.iter().map(|spec| format!("{}:{}", spec.remote, spec.tracking)));
        let output = command.output_within(deadline)?;
        let mut found = BTreeMap::new();
        for line in output.stdout.lines() {
            let (name, answer) = fetched_line(line).ok_or_else(|| Error::unexpected("fetch", line))?;
            found.insert(name, answer);
        }
        if output.stderr.contains_str("couldn't find remote ref") {
            return Ok(None);
        }
        let rewritten = |answer: &FetchAnswer| matches!(answer, FetchAnswer::Rewritten { .. });
        if !output.status.success() && !found.values().any(rewritten) {
            return Err(command.failed(&output).into());
        }
        let mut answers = Vec::new();
        for spec in specs {
            let answer = found.remove(&spec.tracking).ok_or_else(|| command.failed(&output))?;
            answers.push(self.only_commits(spec, answer)?);
        }
        Ok(Some(answers))
    }

    /// git lets a ref of ours move to what is no commit without asking whether that follows: it is put back.
    fn only_commits(&self, spec: &FetchSpec, answer: FetchAnswer) -> Result<FetchAnswer, Error> {
        let FetchAnswer::Moved { old, new } = &answer else { return Ok(answer) };
        if self.read_commit(new).is_ok() {
            return Ok(answer);
        }
        let expected = super::Expected::At(new.clone());
        let edit = super::RefEdit { name: spec.tracking.clone(), new: old.clone(), expected };
        self.update_refs(&[edit], "git orchestra: no commit")?;
        match old.clone() {
            Some(old) => Ok(FetchAnswer::Rewritten { old, new: new.clone() }),
            None => Err(Error::Output { command: "fetch", detail: format!("{} is no commit", spec.remote) }),
        }
    }

    /// Pushes refs, each only forward and each on its own. One answer for each of `specs`, in their order.
    ///
    /// # Errors
    /// Only if the remote said nothing about any ref for a reason that is known: it cannot be reached or does not
    /// let us in. A connection that broke later makes [`PushAnswer::Unknown`].
    pub fn push(
        &self,
        remote: &str,
        specs: &[PushSpec],
        deadline: Duration,
    ) -> Result<Vec<PushAnswer>, Error> {
        // `mirror` would add refs of its own; the name cannot hold a `=` that would end the key.
        let mirror = format!("remote.{remote}.mirror=false");
        let mut args = vec!["-c", "push.followTags=false", "-c", "push.gpgSign=false"];
        if !remote.contains('=') {
            args.extend(["-c", mirror.as_str()]);
        }
        args.extend([
            "push",
            "--porcelain",
            "--no-verify",
            "--no-force",
            "--no-follow-tags",
            "--recurse-submodules=no",
            "--receive-pack=git-receive-pack",
            "--",
            remote,
        ]);
        let command =
            self.network(args).args(specs.iter().map(|spec| format!("{}:{}", spec.new, spec.remote)));
        let output = match command.output_within(deadline) {
            Ok(output) => output,
            Err(error @ crate::process::CommandError::TimedOut { .. }) => {
                return Ok(vec![PushAnswer::Unknown(error.to_string()); specs.len()]);
            }
            Err(error) => return Err(error.into()),
        };
        let found = pushed_lines(&output);
        if found.is_empty() && !output.status.success() && never_began(&output) {
            return Err(command.failed(&output).into());
        }
        let words = || output.stderr.trim().to_str_lossy().into_owned();
        let answer = |spec: &PushSpec| {
            found.get(&spec.remote).cloned().unwrap_or_else(|| PushAnswer::Unknown(words()))
        };
        Ok(specs.iter().map(answer).collect())
    }

    /// A git command that talks to a remote and can neither ask nor be told to run something by the repository:
    /// helpers for signing in are those of the user's own configuration.
    fn network<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        // An empty helper forgets those that were named before it.
        let mut settings = vec!["core.alternateRefsCommand=true".to_owned(), "credential.helper=".to_owned()];
        let trusted = self.config_entries("credential").into_iter().filter(|entry| !entry.from_repository);
        settings.extend(
            trusted
                .filter(|entry| {
                    entry.key.split('.').next_back() == Some("helper") && !entry.key.contains('=')
                })
                .map(|entry| format!("credential.{}={}", entry.key, entry.value)),
        );
        let settings = settings.into_iter().flat_map(|setting| [OsString::from("-c"), setting.into()]);
        let args: Vec<OsString> =
            settings.chain(args.into_iter().map(|arg| arg.as_ref().to_owned())).collect();
        let passed = PASSED.iter().filter_map(|key| Some((*key, self.env(key)?.clone())));
        let proxy = self.env("GIT_PROXY_COMMAND").cloned().unwrap_or_default();
        // Ours come last, so that no variable of the user's brings a window or a question back.
        self.git(args)
            .envs(passed)
            // Even empty it outranks `core.gitProxy`.
            .env("GIT_PROXY_COMMAND", proxy)
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "")
            .env("SSH_ASKPASS", "")
            .env("SSH_ASKPASS_REQUIRE", "never")
            .env("GCM_INTERACTIVE", "never")
    }
}

/// `* <old> <new> <tracking ref>`.
fn fetched_line(line: &[u8]) -> Option<(String, FetchAnswer)> {
    let line = line.to_str().ok()?;
    let (flag, rest) = (line.chars().next()?, line.get(2..)?);
    let mut parts = rest.splitn(3, ' ');
    let (old, new, name) = (parts.next()?, parts.next()?, parts.next()?);
    let old = Some(old).filter(|old| old.bytes().any(|b| b != b'0')).map(str::parse).transpose().ok()?;
    let new: ObjectId = new.parse().ok()?;
    let answer = match (flag, old) {
        ('=', _) => FetchAnswer::Same(new),
        (' ' | '*' | 't', old) => FetchAnswer::Moved { old, new },
        ('!', Some(old)) => FetchAnswer::Rewritten { old, new },
        _ => return None,
    };
    Some((name.to_owned(), answer))
}

/// `<flag> TAB <from>:<to> TAB <summary>`, among other lines.
fn pushed_lines(output: &Output) -> BTreeMap<String, PushAnswer> {
    let mut found = BTreeMap::new();
    for line in output.stdout.lines() {
        let Ok(line) = line.to_str() else { continue };
        let mut parts = line.splitn(3, '\t');
        let (Some(flag), Some(refs), Some(summary)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let Some((_, name)) = refs.split_once(':') else { continue };
        let answer = match flag {
            " " | "*" | "+" => PushAnswer::Landed,
            "=" => PushAnswer::Same,
            "!" => rejected(summary),
            _ => continue,
        };
        found.insert(name.to_owned(), answer);
    }
    found
}

fn rejected(summary: &str) -> PushAnswer {
    // What git and its servers say when two pushed at once.
    const RACES: &[&str] = &[
        "fetch first",
        "non-fast-forward",
        "stale info",
        "needs force",
        "failed to update ref",
        "failed to lock",
        "cannot lock ref",
        "incorrect old value",
        "reference already exists",
        "already exists",
        "atomic push failed",
        "atomic transaction failed",
        "fetch updated",
    ];
    let summary = summary.trim();
    let reason = summary.rsplit_once('(').map_or(summary, |(_, reason)| reason.trim_end_matches(')'));
    if RACES.iter().any(|race| reason.contains(race)) {
        return PushAnswer::Behind;
    }
    if summary.contains("remote failure") || reason.contains("remote failed to report status") {
        return PushAnswer::Unknown(reason.to_owned());
    }
    PushAnswer::Refused(reason.to_owned())
}

/// Whether a push failed before the remote was told anything.
fn never_began(output: &Output) -> bool {
    const BEFORE: &[&str] = &[
        "does not appear to be a git repository",
        "Could not read from remote repository",
        "Could not resolve host",
        "unable to access",
        "unable to connect",
        "Authentication failed",
        "could not read Username",
        "could not read Password",
        "Repository not found",
        "access denied",
        "service not enabled",
        "No such remote",
        "unable to find remote helper",
    ];
    BEFORE.iter().any(|words| output.stderr.contains_str(words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::testing::Sandbox;
    use crate::model::Timestamp;

    #[test]
    fn answers_to_a_push_are_told_apart() {
        for (words, answer) in [
            ("[rejected] (fetch first)", PushAnswer::Behind),
            ("[rejected] (non-fast-forward)", PushAnswer::Behind),
            ("[remote rejected] (failed to update ref)", PushAnswer::Behind),
            ("[remote rejected] (cannot lock ref 'refs/x': is at a but expected b)", PushAnswer::Behind),
            ("[remote failure] (remote failed to report status)", {
                PushAnswer::Unknown("remote failed to report status".to_owned())
            }),
            ("[remote rejected] (pre-receive hook declined)", {
                PushAnswer::Refused("pre-receive hook declined".to_owned())
            }),
        ] {
            assert_eq!(rejected(words), answer, "{words}");
        }
    }

    #[test]
    fn notes_are_united_whatever_their_fan_out() {
        let sandbox = Sandbox::new(&[]);
        let head = sandbox.git(&["rev-parse", "HEAD"]);
        sandbox.git(&["notes", "--ref=a", "add", "-m", "one", "HEAD"]);
        sandbox.git(&["notes", "--ref=b", "add", "-m", "two", "HEAD"]);
        let (repo, mut written) = (sandbox.open(), Vec::new());
        let tip = |name: &str| repo.find_ref(name).unwrap().unwrap();
        let commit = head.parse().unwrap();
        let lines = BTreeMap::from([(commit, vec!["three".to_owned(), "two".to_owned()])]);
        let ada = crate::git::Identity::new("Ada", "ada@example.org");
        let (ours, _) = repo.write_notes(None, &lines, &ada, &ada, Timestamp(0)).unwrap();

        let (tree, changed) = repo.union_notes(Some(&tip("refs/notes/a")), &ours, &mut written).unwrap();
        assert_eq!(changed, 1);
        let other = repo.union_notes(Some(&ours), &tip("refs/notes/a"), &mut written).unwrap().0;
        assert_eq!(tree, other, "whichever side is ours");
        let path = format!("{tree}:{}/{}", &head[..2], &head[2..]);
        assert_eq!(sandbox.git(&["show", &path]), "one\nthree\ntwo");
        assert_eq!(sandbox.git(&["ls-tree", "-r", "--name-only", tree.as_str()]).lines().count(), 1);
        let (same, changed) = repo.union_notes(Some(&ours), &tip("refs/notes/b"), &mut written).unwrap();
        assert_eq!((same, changed), (repo.read_commit(&ours).unwrap().tree, 0), "all of it is there");
    }
}

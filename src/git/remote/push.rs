//! Pushing: one connection, each ref only forward, and an answer for each.

use super::super::mend::MovingMark;
use super::super::{Error, Expected, RefEdit, Repository};
use super::trouble::{self, Trouble};
use crate::model::ObjectId;
use crate::process::{Command, CommandError, Output};
use bstr::ByteSlice;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

/// One ref that is pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushSpec {
    /// The object.
    pub new: ObjectId,
    /// The full name on the remote.
    pub remote: String,
    /// Where we had seen it there, which it must follow: it moves only from exactly there. Without, from anything that it
    /// follows, or from nothing.
    pub seen: Option<ObjectId>,
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
    /// Pushes refs, each only forward and each on its own. One answer for each of `specs`, in their order: of a remote that
    /// is several repositories, that of the one that took it least.
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
        let refspecs = specs.iter().map(|spec| format!("{}:{}", spec.new, spec.remote));
        // A lease takes the place of the question what follows what: whoever names one has asked that.
        let leases = specs
            .iter()
            .filter_map(|spec| Some(format!("--force-with-lease={}:{}", spec.remote, spec.seen.as_ref()?)));
        let leases: Vec<String> = leases.collect();
        let leases: Vec<&str> = leases.iter().map(String::as_str).collect();
        let command = self.push_command(remote, &leases).args(refspecs);
        let moved = specs.iter().map(|spec| (spec.remote.as_str(), Some(&spec.new)));
        let output = match self.run_push(&command, remote, moved, deadline) {
            Ok(output) => output,
            Err(CommandError::TimedOut { .. }) => {
                let words = format!("no end after {} s", deadline.as_secs_f32());
                return Ok(vec![PushAnswer::Unknown(words); specs.len()]);
            }
            Err(error) => return Err(error.into()),
        };
        let found = pushed_lines(&output);
        if found.is_empty() && !output.status.success() && never_began(&output) {
            return Err(trouble::of_words(remote, &command, &output));
        }
        let words = || output.stderr.trim().to_str_lossy().into_owned();
        // Each of several repositories answers for itself; what one of them did not do is not done.
        let is_done = !output.status.success() && found.values().all(is_there);
        if is_done && self.pushed_to(remote).is_ok_and(|places| places.len() > 1) {
            return Ok(vec![PushAnswer::Unknown(words()); specs.len()]);
        }
        let answer = |spec: &PushSpec| {
            found.get(&spec.remote).cloned().unwrap_or_else(|| PushAnswer::Unknown(words()))
        };
        Ok(specs.iter().map(answer).collect())
    }

    /// Runs a push. With the remote's branches git moves what the user's git last saw of them, one after the other: what
    /// is locked when it dies is let go of, by us or by whoever comes next.
    pub(super) fn run_push<'a>(
        &self,
        command: &Command,
        remote: &str,
        moved: impl Iterator<Item = (&'a str, Option<&'a ObjectId>)>,
        deadline: Duration,
    ) -> Result<Output, CommandError> {
        let is_name = remote.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'))
            && !remote.starts_with(['/', '.']);
        let seen: Vec<RefEdit> = moved
            .filter(|_| is_name)
            .filter_map(|(name, new)| Some((name.strip_prefix("refs/heads/")?, new)))
            .map(|(short, new)| RefEdit {
                name: format!("refs/remotes/{remote}/{short}"),
                new: new.cloned(),
                // So nobody moves it but git.
                expected: Expected::Anything,
            })
            .collect();
        if seen.is_empty() {
            return command.output_within(deadline);
        }
        let mark = MovingMark::new();
        let (key, value) = mark.variable(self);
        let note = self.note_moving(&mark, &seen);
        let output = command.clone().env(key, value).output_within(deadline);
        let died = output.as_ref().map_or(true, |output| output.status.signal().is_some());
        if let Some(note) = note.filter(|_| died) {
            self.mend_after(&seen, note);
        }
        output
    }

    /// `git push` of what follows, with more options before the remote's name.
    pub(super) fn push_command(&self, remote: &str, options: &[&str]) -> Command {
        // `mirror` would add refs of its own.
        let mirror = format!("remote.{remote}.mirror");
        let settings = [
            ("push.followTags", "false"),
            ("push.gpgSign", "false"),
            ("push.pushOption", ""),
            (mirror.as_str(), "false"),
        ];
        let args = [
            "push",
            "--porcelain",
            "--no-verify",
            "--no-force",
            "--no-follow-tags",
            "--recurse-submodules=no",
            "--receive-pack=git-receive-pack",
        ];
        self.network_with(args, &settings).args(options).args(["--", remote])
    }
}

/// `<flag> TAB <from>:<to> TAB <summary>`, among other lines.
pub(super) fn pushed_lines(output: &Output) -> BTreeMap<String, PushAnswer> {
    // A remote whose system fails says of a ref what it says when two push at once.
    let broken = trouble::of_system(&output.stderr);
    let mut found = BTreeMap::new();
    for line in output.stdout.lines() {
        let Ok(line) = line.to_str() else { continue };
        let mut parts = line.splitn(3, '\t');
        let (Some(flag), Some(refs), Some(summary)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let Some((_, name)) = refs.split_once(':') else { continue };
        let answer = match flag {
            " " | "*" | "+" | "-" => PushAnswer::Landed,
            "=" => PushAnswer::Same,
            "!" => match (rejected(summary), &broken) {
                (PushAnswer::Behind, Some(words)) if is_vague(summary) => PushAnswer::Refused(words.clone()),
                (answer, _) => answer,
            },
            _ => continue,
        };
        // Of several repositories the one that did not take it counts.
        match found.entry(name.to_owned()) {
            Entry::Vacant(first) => drop(first.insert(answer)),
            Entry::Occupied(mut known) if is_there(known.get()) && answer != PushAnswer::Same => {
                known.insert(answer);
            }
            Entry::Occupied(_) => {}
        }
    }
    found
}

const fn is_there(answer: &PushAnswer) -> bool {
    matches!(answer, PushAnswer::Landed | PushAnswer::Same)
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

/// Whether a remote only says that it did not work.
fn is_vague(summary: &str) -> bool {
    ["failed to update ref", "failed to lock", "cannot lock ref"].iter().any(|words| summary.contains(words))
}

/// Whether a push failed before the remote was told anything.
pub(super) fn never_began(output: &Output) -> bool {
    // Then there is no program to tell it anything.
    output.stderr.contains_str("fatal: unable to fork")
        || matches!(trouble::kind(&output.stderr), Some(Trouble::Reach | Trouble::SignIn))
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
    fn of_several_repositories_the_one_that_refuses_counts() {
        let sandbox = Sandbox::new(&[]);
        let [one, two] = ["one.git", "two.git"].map(|name| sandbox.path().join(name));
        for place in [&one, &two] {
            let place = place.to_str().unwrap();
            sandbox.git(&["init", "-q", "--bare", place]);
            sandbox.git(&["config", "--add", "remote.origin.url", place]);
        }
        sandbox.git(&["commit", "-q", "--allow-empty", "-m", "one"]);
        let new: ObjectId = sandbox.git(&["rev-parse", "HEAD"]).parse().unwrap();
        let push = || {
            let specs = ["a", "b"].map(|name| PushSpec {
                new: new.clone(),
                remote: format!("refs/heads/{name}"),
                seen: None,
            });
            sandbox.open().push("origin", &specs, Duration::from_secs(60)).unwrap()
        };
        let refuse = |place: &std::path::Path, which: &str| {
            let hook = place.join("hooks/update");
            std::fs::create_dir_all(place.join("hooks")).unwrap();
            std::fs::write(&hook, format!("#!/bin/sh\ntest $1 != refs/heads/{which}\n")).unwrap();
            std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        };
        refuse(&one, "a");
        refuse(&two, "b");
        assert!(push().iter().all(|answer| matches!(answer, PushAnswer::Refused(_))), "{:?}", push());
        std::fs::remove_file(one.join("hooks/update")).unwrap();
        let answers = push();
        assert!(
            matches!(&answers[..], [PushAnswer::Landed | PushAnswer::Same, PushAnswer::Refused(_)]),
            "{answers:?}"
        );
        std::fs::remove_dir_all(&two).unwrap();
        assert!(push().iter().all(|answer| matches!(answer, PushAnswer::Unknown(_))), "{:?}", push());
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
        let lines = BTreeMap::from([(
            commit,
            crate::git::NoteLines { added: vec!["three".to_owned(), "two".to_owned()], removed: Vec::new() },
        )]);
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

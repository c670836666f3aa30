//! What merged work makes run by itself later, on machines that nobody thought of: asked about before it lands.
//!
//! A line in a workflow, a hook, an attribute with a filter or an editor's setting runs as whoever pushes, commits or
//! opens the directory next. What every build runs anyway (tests, Makefiles, manifests) is not in the list: gates run
//! that, and it would be asked about each time.

use super::advance::{Progress, Run};
use super::digest::Digest;
use super::gate::Gated;
use super::{Error, abort, abort_label, short_branch};
use crate::git::{FileChange, Repository};
use crate::model::{Choice, Decision, DecisionKind, DecisionStatus, MergeStatus, ObjectId, Step};
use bstr::ByteSlice;
use globset::{GlobBuilder, GlobSet};
use std::fmt::Write as _;

/// The paths that are asked about: CI, hooks and attributes of git, our own settings, agents and editors, and what
/// package managers and shells read before anything is built.
pub const EXECUTABLES: &[&str] = &[
    ".github/workflows/**",
    ".github/actions/**",
    ".gitlab-ci.yml",
    ".gitlab/ci/**",
    ".circleci/**",
    ".buildkite/**",
    ".travis.yml",
    "azure-pipelines.yml",
    "bitbucket-pipelines.yml",
    "Jenkinsfile",
    "**/.gitattributes",
    ".gitmodules",
    ".githooks/**",
    ".husky/**",
    ".pre-commit-config.yaml",
    "lefthook.yml",
    "orchestra.toml",
    ".worktreeinclude",
    "**/.claude/**",
    "**/.codex/**",
    "**/.gemini/**",
    "**/.mcp.json",
    "**/.cursor/**",
    "**/.vscode/**",
    "**/.idea/**",
    ".devcontainer/**",
    "**/.envrc",
    "**/.cargo/config.toml",
    "**/.cargo/config",
    "**/.npmrc",
    "**/.yarnrc.yml",
];

/// Let it land.
const APPROVE: &str = "approve";
const PUT_ASIDE: &str = "put-aside";
const ABORT: &str = "abort";

impl Run<'_> {
    /// Asks about each merged branch that changes what is run by itself. `None` if nothing has to be asked.
    pub(super) fn approve_executables(&mut self) -> Result<Option<Gated>, Error> {
        if self.rules.lands_unseen || self.merge.head == self.merge.target_tip {
            return Ok(None);
        }
        let (repo, globs) = (self.store.repo(), globs());
        let all = repo.changes(&self.merge.target_tip, &self.merge.head)?;
        if !all.iter().any(|change| is_executable(&globs, change)) {
            return Ok(None);
        }
        let mut before = self.merge.target_tip.clone();
        for at in 0..self.merge.steps.len() {
            let step = self.merge.steps[at].clone();
            let Some(commit) = step.commit.clone() else { continue };
            let mut changes = repo.changes(&before, &commit)?;
            changes.retain(|change| is_executable(&globs, change));
            before.clone_from(&commit);
            if changes.is_empty() {
                continue;
            }
            let subject = subject(repo, &step, &commit, &changes)?;
            let asked = self.store.state()?.all::<Decision>()?.into_iter();
            let known = asked
                .filter(|one| one.merge == Some(self.merge.id) && one.subject == subject)
                .find(|one| one.status != DecisionStatus::Withdrawn);
            match known.as_ref().and_then(|one| one.answer.as_ref()).map(|answer| answer.key.as_str()) {
                Some(APPROVE) => {}
                Some(PUT_ASIDE) => {
                    let step = &mut self.merge.steps[at];
                    step.commit = None;
                    step.resolutions.clear();
                    self.skip(at, Some("what it makes run by itself was not approved".to_owned()));
                    self.redo_from(at);
                    return Ok(Some(Gated::Again));
                }
                Some(ABORT) => {
                    let merge = abort(self.store, &self.merge.id)?;
                    return Ok(Some(Gated::Stopped(Box::new(Progress::Aborted(merge)))));
                }
                _ => {
                    let decision = match known {
                        Some(open) => open,
                        None => self.ask_about(&step, &changes, subject)?,
                    };
                    self.merge.status = MergeStatus::Waiting;
                    self.record(Some(&decision))?;
                    let merge = self.merge.clone();
                    return Ok(Some(Gated::Stopped(Box::new(Progress::Asks { merge, decision }))));
                }
            }
        }
        Ok(None)
    }

    fn ask_about(&self, step: &Step, changes: &[FileChange], subject: String) -> Result<Decision, Error> {
        let paths: Vec<String> =
            changes.iter().map(|change| change.path.to_str_lossy().into_owned()).collect();
        let more = if paths.len() > 1 { format!(" and {} more", paths.len() - 1) } else { String::new() };
        let mut detail = format!(
            "Merging into `{}`: `{}` changes what is run by itself later, by CI, git, an agent or an editor.\n\n",
            short_branch(&self.merge.target),
            step.name
        );
        for change in changes {
            let count = |of: fn(&crate::git::Hunk) -> u32| change.hunks.iter().map(of).sum::<u32>();
            let (added, removed) = (count(|hunk| hunk.new.len), count(|hunk| hunk.old.len));
            let _ = writeln!(detail, "- {}: +{added} -{removed}", change.path);
        }
        let _ = write!(
            detail,
            "\n    git diff {}...{} -- {}",
            self.merge.target_tip.short(),
            step.tip.short(),
            paths.join(" ")
        );
        let choice = |key: &str, label: String| Choice { key: key.to_owned(), label };
        Ok(Decision {
            detail,
            choices: vec![
                choice(APPROVE, "let it land; you have looked at it".to_owned()),
                choice(PUT_ASIDE, format!("leave {} out of this merge, and go on with the rest", step.name)),
                choice(ABORT, abort_label(&self.merge).to_owned()),
            ],
            merge: Some(self.merge.id),
            agent: Some(step.agent),
            subject,
            ..Decision::open(
                self.store.new_id()?,
                DecisionKind::Executable,
                format!("{} changes what is run by itself: {}{more}", step.name, paths[0]),
                self.store.clock().now(),
            )
        })
    }
}

fn globs() -> GlobSet {
    let mut set = GlobSet::builder();
    for glob in EXECUTABLES {
        set.add(GlobBuilder::new(glob).literal_separator(true).build().expect("a test builds them"));
    }
    set.build().expect("a test builds them")
}

fn is_executable(globs: &GlobSet, change: &FileChange) -> bool {
    change.paths().any(|path| globs.is_match(path.to_path_lossy()))
}

/// The same content on the same paths asks nothing new, whatever it is merged onto.
fn subject(
    repo: &Repository,
    step: &Step,
    commit: &ObjectId,
    changes: &[FileChange],
) -> Result<String, Error> {
    let tree = repo.read_commit(commit)?.tree;
    let mut digest = Digest::default();
    for change in changes {
        let entry = repo.find_in_tree(&tree, &change.path)?;
        let content = entry.map(|entry| entry.id.to_string()).unwrap_or_default();
        digest.add(&change.path);
        digest.add(format!("{} {content}", change.new_mode));
    }
    Ok(format!("executable/{}/{}", step.agent, digest.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_by_itself_is_matched_and_what_builds_run_is_not() {
        let globs = globs();
        for path in [
            ".github/workflows/ci.yml",
            "deep/.gitattributes",
            ".gitattributes",
            "orchestra.toml",
            ".husky/pre-commit",
            "web/.vscode/tasks.json",
            ".claude/settings.json",
            ".cargo/config.toml",
        ] {
            assert!(globs.is_match(path), "{path}");
        }
        for path in ["Makefile", "package.json", "src/github/workflows/x", "docs/orchestra.toml", "build.rs"]
        {
            assert!(!globs.is_match(path), "{path}");
        }
    }
}

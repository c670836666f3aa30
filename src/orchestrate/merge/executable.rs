//! What merged work makes run by itself later, on machines that nobody thought of: asked about before it lands.
//!
//! A line in a workflow, a hook, an attribute with a filter or an editor's setting runs as whoever pushes, commits or
//! opens the directory next; a build script, as whoever fetches what it belongs to. What a build is told to run anyway
//! (tests, Makefiles, most of a manifest) is not in the list: gates run that, and it would be asked about each time.

use super::advance::Run;
use super::digest::Digest;
use super::gate::Gated;
use super::progress::{Progress, Remark};
use super::step::{Attempt, attempt};
use super::{Error, abort, abort_label, short_branch};
use crate::git::{FileChange, Repository};
use crate::model::{
    Choice, Decision, DecisionKind, DecisionStatus, Id, MergeStatus, ObjectId, Step, StepStatus,
};
use bstr::{BStr, ByteSlice};
use globset::{GlobBuilder, GlobSet};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The paths that are asked about, whatever their case: CI, hooks and attributes of git, our own settings, agents and
/// editors, what package managers and shells read before anything is built, and what these run by themselves. Each
/// directory here is asked about as something else, too: a link leads anywhere.
pub const EXECUTABLES: &[&str] = &[
    ".github/workflows/**",
    ".github/actions/**",
    ".gitlab-ci.yml",
    ".gitlab/ci/**",
    ".circleci/**",
    ".buildkite/**",
    ".forgejo/workflows/**",
    ".gitea/workflows/**",
    ".woodpecker/**",
    ".woodpecker.{yml,yaml}",
    ".drone.yml",
    ".cirrus.yml",
    ".semaphore/**",
    ".teamcity/**",
    "appveyor.yml",
    ".appveyor.yml",
    "cloudbuild.{yml,yaml}",
    ".travis.yml",
    "azure-pipelines.yml",
    "bitbucket-pipelines.yml",
    "Jenkinsfile",
    "**/.gitattributes",
    ".gitmodules",
    ".githooks/**",
    ".husky/**",
    ".pre-commit-config.yaml",
    "lefthook.{yml,yaml,toml,json}",
    ".lefthook.{yml,yaml,toml,json}",
    "orchestra.toml",
    ".worktreeinclude",
    "**/.claude/**",
    "**/.codex/**",
    "**/.gemini/**",
    "**/.mcp.json",
    "**/.cursor/**",
    "**/.vscode/**",
    "**/.idea/**",
    "**/.zed/**",
    ".devcontainer/**",
    ".devcontainer.json",
    "**/.envrc",
    "**/.cargo/config.toml",
    "**/.cargo/config",
    "**/.npmrc",
    "**/.yarnrc.yml",
    "**/.yarn/{plugins,releases}/**",
    "**/.pnpmfile.{cjs,mjs}",
    "**/build.rs",
    "**/setup.py",
    "**/binding.gyp",
    "**/{gradlew,gradlew.bat,mvnw,mvnw.cmd}",
    "**/gradle/wrapper/**",
    "**/.mvn/**",
];

/// Scripts of a `package.json` that its package managers run when somebody installs.
const ON_INSTALL: [&str; 7] =
    ["preinstall", "install", "postinstall", "prepare", "preprepare", "postprepare", "prepublish"];

/// Let it land.
const APPROVE: &str = "approve";
const PUT_ASIDE: &str = "put-aside";
const ABORT: &str = "abort";

/// How much of what was merged nobody has to be asked about.
#[derive(Debug)]
pub(super) enum Approved {
    /// All of it.
    All,
    /// What was merged up to this commit; it may land before anybody is asked about the rest.
    Upto(ObjectId),
    /// The merge does not go on so.
    Not(Gated),
}

/// A merged branch that changes what is run by itself, and that nobody has looked at.
struct Unseen {
    at: usize,
    changes: Vec<FileChange>,
    subject: String,
    asked: Option<Decision>,
}

impl Run<'_> {
    /// Asks about each merged branch that changes what is run by itself. Where prefixes land, such branches come after all
    /// others that git takes before them, and nobody is asked before those have landed.
    pub(super) fn approve_executables(&mut self) -> Result<Approved, Error> {
        if self.rules.lands_unseen || self.merge.head == self.merge.target_tip {
            return Ok(Approved::All);
        }
        let (repo, watch) = (self.store.repo(), Watch::new(self.store.repo()));
        let all = repo.changes(&self.merge.target_tip, &self.merge.head)?;
        if watch.executable(repo, &self.merge.target_tip, &self.merge.head, all)?.is_empty() {
            return Ok(Approved::All);
        }
        let mut unseen = Vec::new();
        let mut before = self.merge.target_tip.clone();
        for at in 0..self.merge.steps.len() {
            let step = self.merge.steps[at].clone();
            let Some(commit) = step.commit.clone() else { continue };
            let changes = watch.executable(repo, &before, &commit, repo.changes(&before, &commit)?)?;
            before.clone_from(&commit);
            if changes.is_empty() {
                continue;
            }
            let subject = subject(repo, &step, &commit, &changes)?;
            let asked = self.store.state()?.all::<Decision>()?.into_iter();
            let asked = asked
                .filter(|one| one.merge == Some(self.merge.id) && one.subject == subject)
                .find(|one| one.status != DecisionStatus::Withdrawn);
            match asked.as_ref().and_then(|one| one.answer.as_ref()).map(|answer| answer.key.as_str()) {
                Some(APPROVE) => {}
                Some(PUT_ASIDE) => {
                    let step = &mut self.merge.steps[at];
                    step.commit = None;
                    step.resolutions.clear();
                    self.skip(at, Some("what it makes run by itself was not approved".to_owned()));
                    self.redo_from(at);
                    return Ok(Approved::Not(Gated::Again));
                }
                Some(ABORT) => {
                    let merge = abort(self.store, &self.merge.id)?;
                    return Ok(Approved::Not(Gated::Stopped(Box::new(Progress::Aborted(merge)))));
                }
                _ => {
                    unseen.push(Unseen { at, changes, subject, asked });
                    if !self.rules.lands_prefixes {
                        break;
                    }
                }
            }
        }
        if self.rules.lands_prefixes && !unseen.is_empty() {
            let at: Vec<usize> = unseen.iter().map(|one| one.at).collect();
            if self.put_last(&at)? {
                return Ok(Approved::Not(Gated::Again));
            }
            if let Some(commit) = self.commit_before(at[0]) {
                return Ok(Approved::Upto(commit));
            }
        }
        let Some(Unseen { at, changes, subject, asked }) = unseen.into_iter().next() else {
            return Ok(Approved::All);
        };
        let decision = match asked {
            Some(open) => open,
            None => self.ask_about(&self.merge.steps[at], &changes, subject)?,
        };
        self.merge.status = MergeStatus::Waiting;
        self.record(Some(&decision))?;
        let merge = self.merge.clone();
        Ok(Approved::Not(Gated::Stopped(Box::new(Progress::Asks { merge, decision }))))
    }

    /// The accumulated commit before a step, and before what it mends; `None` if nothing is merged there.
    fn commit_before(&self, at: usize) -> Option<ObjectId> {
        let steps = &self.merge.steps;
        let mended = steps[at].mends.and_then(|of| steps[..at].iter().rposition(|step| step.agent == of));
        steps[..mended.unwrap_or(at)].iter().rev().find_map(|step| step.commit.clone())
    }

    /// Merges the branches of the steps `last`, and those that build on them, after all others that are merged, if git
    /// takes each of them in that order without a conflict. Whether the order is another one now.
    fn put_last(&mut self, last: &[usize]) -> Result<bool, Error> {
        let before = self.merge.clone();
        let first = last[0];
        let end = before.steps.iter().rposition(|step| step.commit.is_some()).map_or(first, |at| at + 1);
        let movable = |step: &Step| {
            step.mends.is_none()
                && matches!(step.status, StepStatus::Clean | StepStatus::Empty | StepStatus::Skipped)
        };
        // What somebody answered or mended there belongs to the order that it was done in.
        if !before.steps[first..end].iter().all(movable) {
            return Ok(false);
        }
        let mut late: BTreeSet<Id> = last.iter().map(|&at| before.steps[at].agent).collect();
        for step in &before.steps[first..end] {
            if step.after.iter().any(|other| late.contains(other)) {
                late.insert(step.agent);
            }
        }
        let (later, now): (Vec<Step>, Vec<Step>) =
            before.steps[first..end].iter().cloned().partition(|step| late.contains(&step.agent));
        if now.iter().all(|step| step.commit.is_none()) {
            return Ok(false);
        }
        let names = later.iter().map(|step| step.name.clone()).collect();
        self.merge.steps.splice(first..end, now.into_iter().chain(later));
        self.redo_from(first);
        for at in first..end {
            let step = self.merge.steps[at].clone();
            if step.status == StepStatus::Skipped {
                continue;
            }
            let (status, commit) = match attempt(self.store.repo(), &self.merge.head, &step.tip)? {
                Some(Attempt::Clean(tree)) => (StepStatus::Clean, Some(self.commit(&step, &tree, &[])?)),
                Some(Attempt::Empty) => (StepStatus::Empty, None),
                Some(Attempt::Conflict(_)) | None => {
                    self.merge = before;
                    return Ok(false);
                }
            };
            self.merge.head = commit.clone().unwrap_or_else(|| self.merge.head.clone());
            self.merge.steps[at].status = status;
            self.merge.steps[at].commit = commit;
        }
        (self.say)(Remark::PutLast(names));
        Ok(true)
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

/// What is looked for.
struct Watch {
    globs: GlobSet,
}

impl Watch {
    /// With the hooks that this repository's own configuration looks for among its files.
    fn new(repo: &Repository) -> Self {
        let mut all: Vec<String> = EXECUTABLES.iter().map(|glob| (*glob).to_owned()).collect();
        if let (Some(hooks), Some(work)) = (repo.config("core.hooksPath"), repo.work_dir()) {
            let hooks = work.join(hooks);
            let below = hooks.strip_prefix(work).ok().and_then(|below| below.to_str());
            all.extend(below.map(|below| format!("{}/**", globset::escape(below.trim_matches('/')))));
        }
        Self { globs: set(&all) }
    }

    /// Those of `changes`, from one commit to another, that change what is run by itself.
    fn executable(
        &self,
        repo: &Repository,
        before: &ObjectId,
        after: &ObjectId,
        changes: Vec<FileChange>,
    ) -> Result<Vec<FileChange>, Error> {
        let mut found = Vec::new();
        for change in changes {
            let listed = change.paths().any(|path| self.globs.is_match(path.to_path_lossy()));
            if listed || changes_install_scripts(repo, before, after, &change)? {
                found.push(change);
            }
        }
        Ok(found)
    }
}

fn set(globs: &[String]) -> GlobSet {
    let mut set = GlobSet::builder();
    let mut add = |glob: &str| {
        let glob = GlobBuilder::new(glob).literal_separator(true).case_insensitive(true).build();
        set.add(glob.expect("a test builds them"));
    };
    for glob in globs {
        add(glob);
        // A link in the place of a directory, or of one that it is in.
        let mut directory = glob.strip_suffix("/**");
        while let Some(glob) = directory.filter(|glob| !glob.is_empty() && *glob != "**") {
            add(glob);
            directory = glob.rsplit_once('/').map(|(parent, _)| parent);
        }
    }
    set.build().expect("a test builds them")
}

/// Whether a manifest of npm's has another script afterwards that runs when somebody installs.
fn changes_install_scripts(
    repo: &Repository,
    before: &ObjectId,
    after: &ObjectId,
    change: &FileChange,
) -> Result<bool, Error> {
    if change.path.rsplit(|&b| b == b'/').next() != Some(b"package.json") {
        return Ok(false);
    }
    let scripts = |commit: &ObjectId, path: &BStr| -> Result<Option<Vec<Option<String>>>, Error> {
        let tree = repo.read_commit(commit)?.tree;
        let Some(entry) = repo.find_in_tree(&tree, path)? else {
            return Ok(Some(vec![None; ON_INSTALL.len()]));
        };
        let manifest = serde_json::from_slice::<serde_json::Value>(&repo.read_blob(&entry.id)?).ok();
        let script = |manifest: &serde_json::Value, name: &&str| {
            manifest["scripts"].get(*name).map(ToString::to_string)
        };
        Ok(manifest.map(|manifest| ON_INSTALL.iter().map(|name| script(&manifest, name)).collect()))
    };
    let old = scripts(before, change.old_path.as_ref().unwrap_or(&change.path).as_bstr())?;
    let new = scripts(after, change.path.as_bstr())?;
    // What cannot be read may say anything.
    Ok(new.is_none() || old != new)
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
    use crate::git::testing::Sandbox;

    #[test]
    fn what_runs_by_itself_is_matched_and_what_builds_run_is_not() {
        let globs = set(&EXECUTABLES.iter().map(|glob| (*glob).to_owned()).collect::<Vec<_>>());
        for path in [
            ".github/workflows/ci.yml",
            ".github",
            ".github/workflows",
            ".forgejo/workflows/a.yml",
            "deep/.gitattributes",
            ".gitattributes",
            "orchestra.toml",
            ".husky/pre-commit",
            ".lefthook.yml",
            "web/.vscode/tasks.json",
            ".claude/settings.json",
            ".Claude/settings.json",
            "web/.claude",
            ".devcontainer.json",
            ".cargo/config.toml",
            "crates/one/build.rs",
            "setup.py",
        ] {
            assert!(globs.is_match(path), "{path}");
        }
        for path in [
            "Makefile",
            "package.json",
            "src/github/workflows/x",
            "docs/orchestra.toml",
            "src/build.rs.md",
            "a",
        ] {
            assert!(!globs.is_match(path), "{path}");
        }
    }

    #[test]
    fn hooks_that_the_user_keeps_among_the_files_and_scripts_of_an_installation_are_found() {
        let sandbox = Sandbox::new(&[]);
        sandbox.git(&["config", "core.hooksPath", ".myhooks"]);
        let repo = sandbox.open();
        let commit = |files: &[(&str, &str)]| {
            for (path, text) in files {
                let path = sandbox.path().join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            sandbox.git(&["add", "-A"]);
            sandbox.git(&["commit", "-q", "-m", "more"]);
            repo.resolve_commit("HEAD").unwrap()
        };
        let manifest = |scripts: &str| format!("{{\"name\": \"x\", \"scripts\": {{{scripts}}}}}");
        let one = commit(&[("package.json", &manifest("\"test\": \"a\"")), ("web/package.json", "{}")]);
        let two = commit(&[(".myhooks/pre-commit", "x"), ("web/package.json", "{\"version\": 2}")]);
        let three = commit(&[("package.json", &manifest("\"test\": \"b\""))]);
        let four = commit(&[("package.json", &manifest("\"test\": \"b\", \"postinstall\": \"evil\""))]);
        let five = commit(&[("package.json", "no JSON")]);
        let found = |before: &ObjectId, after: &ObjectId| -> Vec<String> {
            let changes = repo.changes(before, after).unwrap();
            let found = Watch::new(&repo).executable(&repo, before, after, changes).unwrap();
            found.iter().map(|change| change.path.to_string()).collect()
        };
        assert_eq!(found(&one, &two), [".myhooks/pre-commit"]);
        assert!(found(&two, &three).is_empty());
        assert_eq!(found(&three, &four), ["package.json"]);
        assert_eq!(found(&four, &five), ["package.json"]);
    }
}

//! Teams at work: the agents of one task, each going on from what those before it did.
//!
//! What is done is in the state alone: every agent says which step of which team it is. So whoever comes next, after a
//! failure or a kill, goes on where it stopped. Which profiles the steps run with comes from the settings and never
//! from the state, and only agents of this machine count: what others send is a claim.

use super::lease;
use super::session::{Claim, Outfit};
use super::spawn::{Base, SpawnRequest, StepRequest, spawn};
use super::{Error, resume, trust};
use crate::agent::prompt::{self, StepResult};
use crate::config::{Team, TeamStep};
use crate::git::{NewCommit, Repository};
use crate::model::{
    Agent, Budget, Decision, DecisionStatus, Event, EventKind, Finding, FindingStatus, Id, ObjectId, Outcome,
    Sandbox, Severity, StepOf, Task,
};
use crate::process::FileLock;
use crate::store::journal::{self, Entry};
use crate::store::{State, Store};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Where a step stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// Nobody began it.
    Wanted,
    /// An agent runs for it now.
    Running(Agent),
    /// Its agent's last run succeeded.
    Done(Agent),
    /// Its agent asked what nobody has answered yet.
    Waiting(Agent),
    /// Its agent did not end well, or was answered since.
    Halted(Agent),
}

impl Stage {
    /// Its agent, if it has one.
    pub const fn agent(&self) -> Option<&Agent> {
        match self {
            Self::Wanted => None,
            Self::Running(agent) | Self::Done(agent) | Self::Waiting(agent) | Self::Halted(agent) => {
                Some(agent)
            }
        }
    }
}

/// How far a team has come with a task.
#[derive(Debug, Clone)]
pub struct Course {
    /// The team.
    pub team: Team,
    /// The task.
    pub task: Task,
    /// Each step, in the team's order.
    pub stages: Vec<(TeamStep, Stage)>,
}

impl Course {
    /// Reads how far it has come.
    pub fn read(store: &Store, team: &Team, task: &Id) -> Result<Self, Error> {
        let state = store.state()?;
        let task: Task = state.require(task)?;
        let agents = agents_of(store, &state, &task.id)?;
        let decisions: Vec<Decision> = state.all()?;
        let mut stages = Vec::new();
        for step in &team.steps {
            let of = StepOf { team: team.name.clone(), step: step.name.clone() };
            let agent = agents.iter().find(|agent| agent.step.as_ref() == Some(&of));
            let found = agent.map_or(Stage::Wanted, |agent| stage(store.repo(), agent, &decisions));
            stages.push((step.clone(), found));
        }
        Ok(Self { team: team.clone(), task, stages })
    }

    /// Whether any step has begun.
    pub fn has_begun(&self) -> bool {
        self.stages.iter().any(|(_, stage)| *stage != Stage::Wanted)
    }

    /// Whether every step is done.
    pub fn is_over(&self) -> bool {
        self.stages.iter().all(|(_, stage)| matches!(stage, Stage::Done(_)))
    }

    /// The steps that can go on now: not done, not running, and everything before them is done.
    pub fn ready(&self) -> Vec<&TeamStep> {
        let done = |name: &String| matches!(self.stage(name), Some(Stage::Done(_)));
        let able = |stage: &Stage| matches!(stage, Stage::Wanted | Stage::Halted(_));
        let ready = self.stages.iter().filter(|(step, stage)| able(stage) && step.after.iter().all(done));
        ready.map(|(step, _)| step).collect()
    }

    /// The step that is about to begin: nobody has begun it, and everything before it is done.
    pub fn due(&self) -> Option<&TeamStep> {
        self.ready().into_iter().find(|step| self.stage(&step.name) == Some(&Stage::Wanted))
    }

    /// Where a step stands.
    pub fn stage(&self, name: &str) -> Option<&Stage> {
        self.stages.iter().find(|(step, _)| step.name == name).map(|(_, stage)| stage)
    }

    /// The steps that `step` goes on from, and those that they went on from, in the team's order.
    fn before(&self, step: &TeamStep) -> Vec<(&TeamStep, &Agent)> {
        let mut names: BTreeSet<&str> = step.after.iter().map(String::as_str).collect();
        for (earlier, _) in self.stages.iter().rev() {
            if names.contains(earlier.name.as_str()) {
                names.extend(earlier.after.iter().map(String::as_str));
            }
        }
        let stages = self.stages.iter().filter(|(earlier, _)| names.contains(earlier.name.as_str()));
        stages.filter_map(|(earlier, stage)| Some((earlier, stage.agent()?))).collect()
    }
}

/// Where an agent at rest or at work stands.
pub(super) fn stage(repo: &Repository, agent: &Agent, decisions: &[Decision]) -> Stage {
    if lease::find_live(repo, &agent.id).is_some() {
        return Stage::Running(agent.clone());
    }
    let Some((_, run)) = agent.last_run() else { return Stage::Halted(agent.clone()) };
    let mine = || {
        let mine = decisions.iter().filter(|one| one.agent == Some(agent.id) && one.merge.is_none());
        mine.filter(|one| one.created >= run.started)
    };
    let open = mine().any(|one| one.status == DecisionStatus::Open);
    let answered = mine().any(|one| one.status == DecisionStatus::Answered && one.told.is_none());
    if open {
        Stage::Waiting(agent.clone())
    } else if run.outcome != Some(Outcome::Succeeded) || answered {
        Stage::Halted(agent.clone())
    } else {
        Stage::Done(agent.clone())
    }
}

/// The agents of teams that work on a task here, the youngest first: of two for one step that one counts. One without
/// its own branch never worked here, whatever its record says.
fn agents_of(store: &Store, state: &State, task: &Id) -> Result<Vec<Agent>, Error> {
    let machine = store.machine()?;
    let mut agents: Vec<Agent> = state.all()?;
    agents.retain(|agent| {
        let mine = agent.step.is_some() && agent.task.as_ref() == Some(task) && agent.machine == machine;
        mine && agent.removed.is_none() && agent.has_own_branch()
    });
    let mut here = Vec::new();
    for agent in agents {
        if store.repo().find_ref(&agent.branch)?.is_some()
            || lease::find_live(store.repo(), &agent.id).is_some()
        {
            here.push(agent);
        }
    }
    here.sort_by_key(|agent| std::cmp::Reverse((agent.created, agent.id)));
    Ok(here)
}

/// The team that a task is worked on by already, if one of `known` is.
pub fn find_begun(store: &Store, task: &Id, known: &BTreeSet<String>) -> Result<Option<String>, Error> {
    let agents = agents_of(store, &store.state()?, task)?;
    let mut teams = agents.into_iter().filter_map(|agent| Some(agent.step?.team));
    Ok(teams.find(|team| known.contains(team)))
}

/// Words that tell the kind of a task, with the team for it; the first that is found counts.
const SIGNS: [(&str, &[&str]); 3] = [
    ("code-review", &["review", "audit", "assess", "judge"]),
    (
        "bug-fix",
        &[
            "bug",
            "fix",
            "mend",
            "crash",
            "crashes",
            "fails",
            "broken",
            "regression",
            "error",
            "wrong",
            "panic",
        ],
    ),
    ("docs", &["docs", "doc", "document", "documentation", "readme", "changelog", "manual", "tutorial"]),
];

/// The team that fits a task, and why: a label that is a team's name, or a kind's; a word of its title; else `feature`.
pub fn choose(task: &Task, known: &BTreeSet<String>) -> (String, String) {
    if let Some(label) = task.labels.iter().find(|label| known.contains(*label)) {
        return (label.clone(), format!("its label is `{label}`"));
    }
    let has = |team: &str| known.contains(team);
    let lower = |text: &str| text.to_lowercase();
    for (team, signs) in SIGNS.iter().filter(|(team, _)| has(team)) {
        if let Some(label) = task.labels.iter().find(|label| signs.contains(&lower(label).as_str())) {
            return ((*team).to_owned(), format!("its label is `{label}`"));
        }
    }
    let title = lower(&task.title);
    let words: Vec<&str> =
        title.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    // The word that comes first says what is to be done; later ones, to what.
    for word in words {
        if let Some((team, _)) = SIGNS.iter().find(|(team, signs)| has(team) && signs.contains(&word)) {
            return ((*team).to_owned(), format!("its title says `{word}`"));
        }
    }
    ("feature".to_owned(), "nothing says that it is anything else".to_owned())
}

/// What a step is begun with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StepOptions {
    /// What every agent is told beside its task and what its step says.
    pub extra: Option<String>,
    /// The commit that the first steps start from; `None` for the tip of the branch that is checked out.
    pub base: Option<String>,
    /// The zone that worktrees are limited to.
    pub zone: Option<String>,
    /// Whether to take a task that others hold or that waits for others.
    pub force: bool,
}

/// How a team without a terminal goes on: each step's process begins those that come after it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Onward {
    /// What each step is begun with.
    pub options: StepOptions,
    /// What confines them, where that was said and not left to their profiles.
    pub sandbox: Option<Sandbox>,
    /// What each of them may use.
    pub budget: Budget,
}

/// The right to begin steps where nobody looks: two that end at once both see that the next is ready. Blocks.
pub fn take_turn(repo: &Repository) -> Result<FileLock, Error> {
    let path = repo.local_dir().join("teams.lock");
    FileLock::wait(&path).map_err(|e| Error::file("lock", path, e))
}

/// Writes down for people, as a finding, `why` a team does not go on where nobody looks, and what they could do.
pub fn note_stuck(
    store: &Store,
    task: &Id,
    team: &str,
    step: &str,
    (why, hint): (&str, Option<&str>),
) -> Result<(), Error> {
    let short = &task.as_str()[..6];
    let usual = format!("`git orchestra spawn --team {team} --detach {short}` goes on there");
    let hint = hint.unwrap_or(&usual);
    let message = format!("the team {team} stopped before {step}: {why}\n\n{hint}");
    let (id, author, now) = (store.new_id()?, store.author().to_string(), store.clock().now());
    let finding = Finding { task: Some(*task), ..Finding::open(id, Severity::High, message, author, now) };
    store.transact(|tx| {
        tx.describe(format!("finding {}: {team} stopped before {step}", &finding.id.as_str()[..6]));
        tx.put(&finding)
    })?;
    Ok(())
}

/// Claims the agent of a step: a new one on top of what those before it did, or the one that halted. Says where a new
/// one starts from.
///
/// # Errors
/// If those before it cannot be merged by git alone: nothing was claimed then.
pub fn claim_step(
    store: &Store,
    course: &Course,
    step: &TeamStep,
    options: &StepOptions,
    outfit: &Outfit,
) -> Result<(Claim, Option<Base>), Error> {
    if let Some(Stage::Halted(agent)) = course.stage(&step.name) {
        return Ok((resume(store, &agent.id, None, outfit)?, None));
    }
    let state = store.state()?;
    let before = course.before(step);
    let direct: Vec<&Agent> = before
        .iter()
        .filter(|(earlier, _)| step.after.contains(&earlier.name))
        .map(|(_, agent)| *agent)
        .collect();
    let base = if direct.is_empty() {
        options.base.clone()
    } else {
        Some(join(store, course, step, &direct)?.to_string())
    };
    let parts = [step.prompt.clone(), options.extra.clone(), told(store, &state, &before)?];
    let prompt = parts.into_iter().flatten().collect::<Vec<_>>().join("\n\n");
    let target = before.iter().find_map(|(_, agent)| agent.target.clone());
    let request = SpawnRequest {
        tasks: vec![course.task.id],
        prompt: Some(prompt).filter(|prompt| !prompt.is_empty()),
        name: None,
        base,
        zone: options.zone.clone(),
        force: options.force,
        step: Some(StepRequest {
            of: StepOf { team: course.team.name.clone(), step: step.name.clone() },
            target,
        }),
        outfit: outfit.clone(),
    };
    let mut spawned = spawn(store, &request)?;
    Ok((spawned.claims.pop().expect("one task, one agent"), Some(spawned.base)))
}

/// What the agent is told of those before it; `None` if there are none.
fn told(store: &Store, state: &State, before: &[(&TeamStep, &Agent)]) -> Result<Option<String>, Error> {
    let Some((_, first)) = before.first() else { return Ok(None) };
    let findings: Vec<Finding> = state.all()?;
    let mut results = Vec::new();
    for (step, agent) in before {
        let tip = store.repo().find_ref(&agent.branch)?;
        let changes = match &tip {
            Some(tip) if *tip != agent.base => store.repo().read([
                "diff",
                "--stat=100",
                "--no-ext-diff",
                "--no-textconv",
                agent.base.as_str(),
                tip.as_str(),
            ])?,
            _ => String::new(),
        };
        let mut noticed = String::new();
        let of_it =
            |finding: &&Finding| finding.agent == Some(agent.id) && finding.status == FindingStatus::Open;
        for finding in findings.iter().filter(of_it) {
            let at = finding.anchor.as_ref().map(|anchor| format!(" at {anchor}")).unwrap_or_default();
            let _ = writeln!(noticed, "[{}]{at}: {}", finding.severity.word(), finding.message);
        }
        results.push(StepResult {
            step: &step.name,
            agent: agent.name.as_str(),
            text: result_of(store, state, agent)?,
            changes,
            findings: noticed,
        });
    }
    let fence = store.new_id()?.to_string();
    Ok(Some(prompt::results(&results, first.base.as_str(), &fence)))
}

/// The last words of an agent: the result that its program names, otherwise what it said after its last tool.
pub fn result_of(store: &Store, state: &State, agent: &Agent) -> Result<String, Error> {
    let Some((number, run)) = agent.last_run() else { return Ok(String::new()) };
    let bytes = match (&run.transcript, std::fs::read(journal::path(store.repo(), &agent.id, number))) {
        (_, Ok(bytes)) => bytes,
        (Some(tree), Err(_)) => state.transcript(store.repo(), tree)?,
        (None, Err(_)) => Vec::new(),
    };
    let events = journal::parse(&bytes).filter_map(|entry| match entry {
        Entry::Event(Event { parent: None, kind, .. }) => Some(kind),
        _ => None,
    });
    let (mut said, mut result) = (Vec::new(), None);
    for kind in events {
        match kind {
            EventKind::Text { text, partial: false } => said.push(text),
            EventKind::ToolCall { .. } | EventKind::ToolResult { .. } => said.clear(),
            EventKind::Result { text, .. } => result = Some(text).filter(|text| !text.trim().is_empty()),
            _ => {}
        }
    }
    Ok(result.unwrap_or_else(|| said.join("\n")))
}

/// One commit that has all that these did: the tip that contains the others, or a merge of them by git alone.
fn join(store: &Store, course: &Course, step: &TeamStep, agents: &[&Agent]) -> Result<ObjectId, Error> {
    let repo = store.repo();
    let mut tips: BTreeMap<ObjectId, &Agent> = BTreeMap::new();
    for agent in agents {
        let tip = repo.find_ref(&agent.branch)?.ok_or_else(|| {
            let hint = format!("`git orchestra resume {}` makes it again", agent.name);
            Error::refused(format!("begin {}: the branch of {} is gone", step.name, agent.name), hint)
        })?;
        tips.insert(tip, agent);
    }
    let mut rest = agents.iter();
    let first = rest.next().expect("a step comes after one");
    let tip_of =
        |agent: &Agent| tips.iter().find(|(_, other)| other.id == agent.id).map(|(tip, _)| tip.clone());
    let Some(mut head) = tip_of(first).or_else(|| tips.keys().next().cloned()) else {
        return Err(Error::refused(format!("begin {}: nothing is before it", step.name), None));
    };
    let mut names = vec![first.name.as_str()];
    for agent in rest {
        let Some(tip) = tip_of(agent) else { continue };
        if repo.is_ancestor(&tip, &head)? {
            continue;
        }
        if repo.is_ancestor(&head, &tip)? {
            head = tip;
            names = vec![agent.name.as_str()];
            continue;
        }
        // A merge driver that an agent chose is run by git here.
        trust::require_unchanged(repo)?;
        let merged = repo.merge_tree(&head, &tip)?;
        if !merged.clean {
            let mut paths: Vec<String> = merged.conflicts.into_iter().map(|conflict| conflict.path).collect();
            paths.dedup();
            let what = format!(
                "begin {}: what {} and {} did conflicts in {}",
                step.name,
                names.join(", "),
                agent.name,
                paths.join(", ")
            );
            let hint = format!(
                "merge `orchestra/{}` in the worktree of {}, then `git orchestra spawn --team {} {}` goes on",
                agent.name,
                first.name,
                course.team.name,
                &course.task.id.as_str()[..6]
            );
            return Err(Error::refused(what, hint));
        }
        let known = [&head, &tip];
        let commit = repo.write_commit(&NewCommit {
            tree: &merged.tree,
            parents: &[head.clone(), tip.clone()],
            author: store.author(),
            committer: store.author(),
            at: store.clock().now(),
            message: &format!(
                "Join {} and {} for {}\n\nOrchestra-Task: {}\n",
                names.join(", "),
                agent.name,
                step.name,
                course.task.id
            ),
        })?;
        let new = repo.new_objects(&commit, &known)?;
        repo.sync_objects(&new)?;
        names.push(agent.name.as_str());
        head = commit;
    }
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{TaskStatus, Timestamp};

    fn task(title: &str, labels: &[&str]) -> Task {
        serde_json::from_value(serde_json::json!({
            "id": Id::from_random(1), "title": title, "labels": labels, "status": TaskStatus::Open,
            "created": Timestamp(0),
        }))
        .unwrap()
    }

    #[test]
    fn the_team_follows_from_labels_and_words() {
        let known = ["feature", "bug-fix", "code-review", "docs", "mine"].map(str::to_owned).into();
        let chosen = |title: &str, labels: &[&str]| choose(&task(title, labels), &known);
        let pair = |team: &str, why: &str| (team.to_owned(), why.to_owned());
        assert_eq!(chosen("Fix the docs", &["mine"]), pair("mine", "its label is `mine`"));
        assert_eq!(chosen("Whatever", &["Bug"]), pair("bug-fix", "its label is `Bug`"));
        assert_eq!(chosen("Fix the docs", &[]), pair("bug-fix", "its title says `fix`"));
        assert_eq!(chosen("Document how to fix it", &[]), pair("docs", "its title says `document`"));
        assert_eq!(chosen("Review the parser", &[]), pair("code-review", "its title says `review`"));
        assert_eq!(chosen("Prefix names", &[]), pair("feature", "nothing says that it is anything else"));
        let few = ["feature"].map(str::to_owned).into();
        assert_eq!(choose(&task("Fix it", &[]), &few).0, "feature");
    }
}

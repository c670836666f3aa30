//! Which tasks will probably change the same files, before anybody works on them; and, once somebody has, whether that
//! came true. Reads only.
//!
//! A task is expected to change the files that its `touches` match, those that its words name, and those that the history
//! changed together with them. Each has a likelihood: a rule of thumb, which [`score`] holds against what happened.

use super::overlap::{Branch, overlap};
use super::spawn::glob_set;
use super::{Error, branch};
use crate::git::Repository;
use crate::model::{Agent, Id, ObjectId, Task};
use crate::store::Store;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Two tasks are expected to meet from here on.
pub const LIKELY: f64 = 0.25;
/// A file that is less likely to be changed is not spoken of.
const WORTH_A_WORD: f64 = 0.05;
/// How many of the files that a glob matches one task changes.
const TYPICAL: f64 = 3.0;
/// How likely a file is changed that the task's words name.
const NAMED: f64 = 0.8;
/// How many commits are looked at.
const HISTORY: usize = 2_000;
/// A commit of more files says nothing about which belong together.
const WIDE: usize = 30;
/// How often two files must have been changed together to count.
const TWICE: usize = 2;

/// What is expected of some tasks.
#[derive(Debug, Clone, PartialEq)]
pub struct Foresight {
    /// What each will probably change, in the order given.
    pub tasks: Vec<Expected>,
    /// Which of them will probably meet, likeliest first.
    pub clashes: Vec<Clash>,
}

/// What a task will probably change.
#[derive(Debug, Clone, PartialEq)]
pub struct Expected {
    /// The task.
    pub task: Id,
    /// Likeliest first.
    pub files: Vec<ExpectedFile>,
    /// Which tasks can be worked on at once: those of one wave, from 1, do not meet, and come after what they need.
    pub wave: usize,
}

/// A file that a task will probably change.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpectedFile {
    /// Relative to the root.
    pub path: String,
    /// From 0 to 1.
    pub likelihood: f64,
    /// Why it is expected.
    pub why: Why,
}

/// Why a file is expected to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// The task's words name it.
    Named,
    /// The task's globs match it.
    Touches,
    /// It was changed together with such a file.
    History,
}

impl Why {
    /// The word that JSON shows.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Named => "named",
            Self::Touches => "touches",
            Self::History => "history",
        }
    }
}

/// Two tasks that will probably change the same files.
#[derive(Debug, Clone, PartialEq)]
pub struct Clash {
    /// One.
    pub a: Id,
    /// The other.
    pub b: Id,
    /// How likely they change one file together, from 0 to 1.
    pub likelihood: f64,
    /// Those files, likeliest first.
    pub files: Vec<String>,
}

/// How well that foretold what happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Score {
    /// Pairs of agents that worked on tasks.
    pub pairs: usize,
    /// Those whose tasks were expected to meet.
    pub expected: usize,
    /// Of these, those that changed a file together.
    pub met: usize,
    /// Of these, those that conflict.
    pub came_true: usize,
    /// All pairs that conflict.
    pub conflicts: usize,
}

/// What is to be expected of `tasks`, if they begin at the commit `tip`.
pub fn foresee(repo: &Repository, tip: &ObjectId, tasks: &[Task]) -> Result<Foresight, Error> {
    let files = repo.files(tip)?;
    let history = repo.changed_together(tip, HISTORY)?;
    let together = Together::of(&history);
    let expected: Vec<_> = tasks.iter().map(|task| (task.id, expect(task, &files, &together))).collect();
    let mut clashes = Vec::new();
    for (at, (a, ours)) in expected.iter().enumerate() {
        clashes.extend(expected[at + 1..].iter().filter_map(|(b, theirs)| clash(*a, ours, *b, theirs)));
    }
    clashes.sort_by(|one, other| other.likelihood.total_cmp(&one.likelihood).then(one.a.cmp(&other.a)));
    let waves = waves(tasks, &clashes);
    let tasks =
        expected.into_iter().map(|(task, files)| Expected { task, files, wave: waves[&task] }).collect();
    Ok(Foresight { tasks, clashes })
}

/// Holds what was to be expected of tasks against what the agents made that worked on them: of all whose branch is there.
pub fn score(store: &Store) -> Result<Score, Error> {
    let (repo, state) = (store.repo(), store.state()?);
    let mut agents: Vec<Agent> = state.all()?;
    agents.sort_by_key(|agent| (agent.created, agent.id));
    let (mut branches, mut tasks, mut of) = (Vec::new(), Vec::<Task>::new(), Vec::new());
    let mut first = None;
    for agent in agents {
        let task = agent.task.map(|task| state.get::<Task>(&task)).transpose()?.flatten();
        let (Some(task), Some(tip)) = (task, branch::work_here(store, &agent)?) else { continue };
        if tip == agent.base || of.contains(&task.id) {
            continue;
        }
        first.get_or_insert_with(|| agent.base.clone());
        of.push(task.id);
        tasks.push(task);
        branches.push(Branch { agent: agent.id, name: agent.name, work: tip, uncommitted: false });
    }
    let Some(first) = first else { return Ok(Score::default()) };
    let task_of: HashMap<Id, Id> =
        branches.iter().zip(&of).map(|(branch, task)| (branch.agent, *task)).collect();
    // What they met is what was not known when the first of them began.
    let foresight = foresee(repo, &first, &tasks)?;
    let likely: HashSet<(Id, Id)> = foresight
        .clashes
        .iter()
        .filter(|clash| clash.likelihood >= LIKELY)
        .map(|clash| (clash.a, clash.b))
        .collect();
    let mut found = Score::default();
    for pair in overlap(repo, &branches, &first)?.pairs {
        let Some(b) = pair.b else { continue };
        let (a, b) = (task_of[&pair.a], task_of[&b]);
        let expected = likely.contains(&(a, b)) || likely.contains(&(b, a));
        let conflict = pair.forecast.is_conflict();
        found.pairs += 1;
        found.conflicts += usize::from(conflict);
        found.expected += usize::from(expected);
        found.met += usize::from(expected && !pair.files.is_empty());
        found.came_true += usize::from(expected && conflict);
    }
    Ok(found)
}

/// How often files were changed, and with which others.
struct Together<'h> {
    commits: Vec<&'h [String]>,
    of: HashMap<&'h str, Vec<usize>>,
}

impl<'h> Together<'h> {
    fn of(history: &'h [Vec<String>]) -> Self {
        let narrow = history.iter().filter(|paths| paths.len() <= WIDE).map(Vec::as_slice);
        let commits: Vec<&[String]> = narrow.collect();
        let mut of = HashMap::<&str, Vec<usize>>::new();
        for (at, paths) in commits.iter().enumerate() {
            for path in *paths {
                of.entry(path).or_default().push(at);
            }
        }
        Self { commits, of }
    }

    /// The files that were changed with `path`, each with in how many of the commits that changed it.
    fn with(&self, path: &str) -> Vec<(&'h str, f64)> {
        let Some(at) = self.of.get(path).filter(|at| at.len() >= TWICE) else { return Vec::new() };
        let mut counts = HashMap::<&str, usize>::new();
        for other in at.iter().flat_map(|&at| self.commits[at]).filter(|other| *other != path) {
            *counts.entry(other).or_default() += 1;
        }
        let share = |count: usize| ratio(count) / ratio(at.len());
        counts
            .into_iter()
            .filter(|(_, count)| *count >= TWICE)
            .map(|(other, count)| (other, share(count)))
            .collect()
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of commits and files are far below 2^52")]
const fn ratio(count: usize) -> f64 {
    count as f64
}

fn expect(task: &Task, files: &[String], together: &Together<'_>) -> Vec<ExpectedFile> {
    let mut found = BTreeMap::<&str, (f64, Why)>::new();
    let mut learn = |path, likelihood: f64, why| {
        let known = found.entry(path).or_insert((0.0, why));
        if likelihood > known.0 {
            *known = (likelihood, why);
        }
    };
    if !task.touches.is_empty() {
        let globs = glob_set(&task.touches);
        let matched: Vec<&str> =
            files.iter().map(String::as_str).filter(|file| globs.is_match(file)).collect();
        let each = (TYPICAL / ratio(matched.len().max(1))).min(1.0);
        for path in matched {
            learn(path, each, Why::Touches);
        }
    }
    let words: HashSet<&str> = words(&task.title).chain(words(&task.body)).collect();
    // A whole path, or a file's name that only one file has.
    let mut names = HashMap::<&str, Vec<&str>>::new();
    for file in files {
        let name = file.rsplit('/').next().unwrap_or(file);
        if words.contains(name) {
            names.entry(name).or_default().push(file);
        }
        if words.contains(file.as_str()) {
            learn(file, NAMED, Why::Named);
        }
    }
    for (name, of) in names {
        // Without an extension it is a word like any other.
        if let ([only], true) = (&of[..], name.contains('.')) {
            learn(only, NAMED, Why::Named);
        }
    }
    let direct: Vec<(&str, f64)> = found.iter().map(|(path, (likelihood, _))| (*path, *likelihood)).collect();
    let known: HashSet<&str> = files.iter().map(String::as_str).collect();
    for (path, likelihood) in direct {
        for (other, share) in together.with(path) {
            if let Some(other) = known.get(other) {
                let entry = found.entry(other).or_insert((0.0, Why::History));
                entry.0 = entry.0.max(likelihood * share);
            }
        }
    }
    let mut expected: Vec<ExpectedFile> = found
        .into_iter()
        .filter(|(_, (likelihood, _))| *likelihood >= WORTH_A_WORD)
        .map(|(path, (likelihood, why))| ExpectedFile { path: path.to_owned(), likelihood, why })
        .collect();
    expected
        .sort_by(|one, other| other.likelihood.total_cmp(&one.likelihood).then(one.path.cmp(&other.path)));
    expected
}

/// The words of a text as paths would stand in it.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let part = |c: char| c.is_alphanumeric() || "/._-+@".contains(c);
    text.split(move |c| !part(c)).map(|word| word.trim_matches(['.', '-'])).filter(|word| !word.is_empty())
}

fn clash(a: Id, ours: &[ExpectedFile], b: Id, theirs: &[ExpectedFile]) -> Option<Clash> {
    let theirs: HashMap<&str, f64> =
        theirs.iter().map(|file| (file.path.as_str(), file.likelihood)).collect();
    let mut common: Vec<(f64, &str)> = ours
        .iter()
        .filter_map(|file| Some((file.likelihood * theirs.get(file.path.as_str())?, file.path.as_str())))
        .collect();
    let likelihood = 1.0 - common.iter().map(|(both, _)| 1.0 - both).product::<f64>();
    common.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(other.1)));
    let files = common.into_iter().map(|(_, path)| path.to_owned()).collect();
    (likelihood >= WORTH_A_WORD).then_some(Clash { a, b, likelihood, files })
}

/// In which wave each task is worked on: the first one with nobody whom it will probably meet, after all that it comes
/// after. Sooner those of higher priority, then the older ones.
fn waves(tasks: &[Task], clashes: &[Clash]) -> HashMap<Id, usize> {
    let likely = clashes.iter().filter(|clash| clash.likelihood >= LIKELY);
    let meets: HashSet<(Id, Id)> =
        likely.flat_map(|clash| [(clash.a, clash.b), (clash.b, clash.a)]).collect();
    let mut order: Vec<&Task> = tasks.iter().collect();
    order.sort_by_key(|task| task.rank());
    let asked: BTreeSet<Id> = tasks.iter().map(|task| task.id).collect();
    let mut waves = HashMap::new();
    while waves.len() < order.len() {
        let ready = |task: &&&Task| {
            !waves.contains_key(&task.id)
                && task.after.iter().all(|id| waves.contains_key(id) || !asked.contains(id))
        };
        // Tasks that wait for each other come last, in their order.
        let next =
            order.iter().find(ready).or_else(|| order.iter().find(|task| !waves.contains_key(&task.id)));
        let Some(task) = next else { break };
        let first = task.after.iter().filter_map(|id| waves.get(id)).max().map_or(1, |wave| wave + 1);
        let taken: BTreeSet<usize> =
            waves.iter().filter(|(id, _)| meets.contains(&(task.id, **id))).map(|(_, wave)| *wave).collect();
        let mut wave = first;
        while taken.contains(&wave) {
            wave += 1;
        }
        waves.insert(task.id, wave);
    }
    waves
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    fn task(number: u128, touches: &[&str], body: &str) -> Task {
        let id = Id::from_random(number << 5);
        let json =
            serde_json::json!({"id": id, "title": "t", "body": body, "touches": touches, "created": number});
        serde_json::from_value(json).unwrap()
    }

    fn history(commits: &[&[&str]]) -> Vec<Vec<String>> {
        commits.iter().map(|paths| paths.iter().map(|path| (*path).to_owned()).collect()).collect()
    }

    fn expected(task: &Task, files: &[&str], commits: &[&[&str]]) -> Vec<(String, u32, Why)> {
        let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
        let history = history(commits);
        let found = expect(task, &files, &Together::of(&history));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a percentage")]
        let percent = |likelihood: f64| (likelihood * 100.0).round() as u32;
        found.into_iter().map(|file| (file.path, percent(file.likelihood), file.why)).collect()
    }

    #[test]
    fn files_are_expected_by_globs_by_words_and_by_what_changed_with_them() {
        let files =
            ["src/a.rs", "src/b.rs", "src/c.rs", "src/d.rs", "docs/a.md", "Makefile", "x/mod.rs", "y/mod.rs"];
        let of = |touches: &[&str], body: &str| expected(&task(1, touches, body), &files, &[]);
        assert_eq!(of(&["docs"], ""), [("docs/a.md".to_owned(), 100, Why::Touches)]);
        assert_eq!(of(&["src/*.rs"], "").iter().map(|file| file.1).collect::<Vec<_>>(), [75; 4]);
        assert_eq!(of(&[], "Look at `src/b.rs:12`."), [("src/b.rs".to_owned(), 80, Why::Named)]);
        assert_eq!(of(&[], "a.md is wrong, and so is mod.rs"), [("docs/a.md".to_owned(), 80, Why::Named)]);
        assert_eq!(
            of(&[], "Tidy the Makefile"),
            [("Makefile".to_owned(), 80, Why::Named)],
            "it is a whole path"
        );
        assert_eq!(of(&["gone/**"], "nothing known"), []);

        let commits: &[&[&str]] = &[
            &["src/a.rs", "docs/a.md"],
            &["src/a.rs", "docs/a.md"],
            &["src/a.rs", "src/b.rs"],
            &["src/a.rs", "gone"],
            &["src/a.rs", "gone"],
        ];
        let found = expected(&task(1, &["src/a.rs"], ""), &files, commits);
        assert_eq!(
            found,
            [("src/a.rs".to_owned(), 100, Why::Touches), ("docs/a.md".to_owned(), 40, Why::History)]
        );
    }

    #[test]
    fn tasks_that_meet_are_not_in_one_wave_and_come_after_what_they_need() {
        let (a, b) = (task(1, &[], ""), task(2, &[], ""));
        let mut c = task(3, &[], "");
        c.after.insert(b.id);
        let urgent = Task { priority: 5, created: Timestamp(9), ..task(4, &[], "") };
        let clash =
            |a: &Task, b: &Task, likelihood| Clash { a: a.id, b: b.id, likelihood, files: Vec::new() };
        let clashes = [clash(&a, &b, 0.9), clash(&a, &urgent, 0.5), clash(&b, &urgent, 0.2)];
        let tasks = [a.clone(), b.clone(), c.clone(), urgent.clone()];
        let waves = waves(&tasks, &clashes);
        assert_eq!((waves[&urgent.id], waves[&a.id], waves[&b.id], waves[&c.id]), (1, 2, 1, 2));
        // Two that wait for each other are there all the same.
        let mut d = task(5, &[], "");
        d.after.insert(c.id);
        c.after.insert(d.id);
        assert_eq!(super::waves(&[c, d], &[]).len(), 2);
    }

    #[test]
    fn the_likelihood_of_two_is_that_of_any_common_file() {
        let file = |path: &str, likelihood| ExpectedFile { path: path.into(), likelihood, why: Why::Touches };
        let (a, b) = (Id::from_random(32), Id::from_random(64));
        let ours = [file("x", 0.5), file("y", 1.0)];
        let found = clash(a, &ours, b, &[file("x", 1.0), file("y", 0.8), file("z", 1.0)]).unwrap();
        assert!((found.likelihood - 0.9).abs() < 1e-9, "{found:?}");
        assert_eq!(found.files, ["y", "x"]);
        assert_eq!(clash(a, &ours, b, &[file("z", 1.0)]), None);
    }
}

//! Overlaps and merge plans of raw commits, for `benches/merge`: the product's own code without agents to spawn.
//!
//! `forecast pairs|plan [ROUNDS]` reads a set a line, `TARGET TIP TIP …`, works each out that many times in the
//! repository of the current directory, and prints a line of JSON for each: `seconds` (the median), and the
//! verdicts (`c` clean, `x` conflict; every two tips in their order, then each tip with the target) or the plan's steps.
//!
//! `forecast order` says what other orders come to (`orders`): branches that land before somebody is needed and conflicts,
//! each as two numbers. `forecast land [GLOB…]` merges each set by the whole engine, with its rules and both sides of the
//! files that the globs name, leaves out whatever it asks about, and says what landed (`head`), who was asked about
//! (`asked`, by position) and who had conflicts that were settled by a rule (`ruled`).
//!
//! `forecast sets LEAST MOST AHEAD` makes such lines of what `git rev-list` says of a repository, and `forecast generate
//! FILES BRANCHES SEED` a repository for `git fast-import` (`sets`).

use git_orchestra::git::{Identity, Repository};
use git_orchestra::model::{Agent, Budget, Forecast, Id, ObjectId, Pair, Step, StepStatus};
use git_orchestra::orchestrate::merge::{
    Candidate, Gating, On, Plan, Progress, Request, Rules, Selection, advance, answer, plan, select, start,
};
use git_orchestra::orchestrate::overlap::{Branch, Overlap, overlap};
use git_orchestra::process::{Clock, SystemClock};
use git_orchestra::store::Store;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

mod orders;
mod sets;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut words = std::env::args().skip(1);
    let what = words.next().ok_or("pairs, plan, sets or generate?")?;
    let rest: Vec<String> = words.collect();
    if what == "land" {
        return each_set(|store, target, tips| land(store, target, tips, &rest));
    }
    let numbers: Vec<usize> = rest.iter().map(|word| word.parse()).collect::<Result<_, _>>()?;
    match (what.as_str(), &numbers[..]) {
        ("sets", &[least, most, ahead]) => {
            let history = std::io::read_to_string(std::io::stdin())?;
            for set in sets::sets(&history, sets::Wanted { least, most, ahead }) {
                writeln!(std::io::stdout(), "{} {}", set.target, set.tips.join(" "))?;
            }
            Ok(())
        }
        ("generate", &[files, branches, seed]) => {
            Ok(std::io::stdout().write_all(&sets::generated(files, branches, seed.try_into()?))?)
        }
        ("order", []) => each_set(order),
        ("pairs" | "plan", _) if numbers.len() < 2 => {
            let rounds = numbers.first().copied().unwrap_or(1);
            each_set(|store, target, tips| forecast(store, target, tips, &what, rounds))
        }
        _ => Err("pairs or plan [ROUNDS], order, land [GLOB…], sets LEAST MOST AHEAD, \
                  or generate FILES BRANCHES SEED"
            .into()),
    }
}

/// Prints what `work` says of each set.
fn each_set(
    mut work: impl FnMut(&Store, &ObjectId, &[ObjectId]) -> Result<Value, Failure>,
) -> Result<(), Failure> {
    #[expect(clippy::disallowed_methods, reason = "a program of its own, with the environment it was given")]
    let env = Arc::new(std::env::vars_os().collect());
    let repo = Repository::discover(Path::new("."), env)?;
    let store = Store::open(repo, Arc::new(SystemClock), Identity::new("Bench", "bench@example.org"));
    for line in std::io::stdin().lock().lines() {
        let ids: Vec<ObjectId> = line?.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let (target, tips) = ids.split_first().ok_or("a line without a target")?;
        writeln!(std::io::stdout(), "{}", work(&store, target, tips)?)?;
    }
    Ok(())
}

fn forecast(
    store: &Store,
    target: &ObjectId,
    tips: &[ObjectId],
    what: &str,
    rounds: usize,
) -> Result<Value, Failure> {
    let selection = selection(store, target, tips)?;
    let (seconds, told) = if what == "pairs" {
        let branches = selection.branches();
        timed(rounds, || Ok(verdicts(&overlap(store.repo(), &branches, target)?, &branches)))?
    } else {
        timed(rounds, || Ok(steps(&plan(store, &selection)?)))?
    };
    Ok(json!({"seconds": seconds, what: told}))
}

fn order(store: &Store, target: &ObjectId, tips: &[ObjectId]) -> Result<Value, Failure> {
    let selection = selection(store, target, tips)?;
    let plan = plan(store, &selection)?;
    let id = |at: usize| &selection.candidates[at].agent.id;
    let conflict = |a: usize, b: Option<usize>| {
        plan.overlap.between(id(a), b.map(id)).is_some_and(|pair| pair.forecast.is_conflict())
    };
    let all: Vec<usize> = (0..tips.len()).collect();
    if !all.iter().any(|&a| conflict(a, None) || (0..a).any(|b| conflict(a, Some(b)))) {
        return Ok(json!({"conflicts": false}));
    }
    let mut walk = orders::Walk::new(store.repo(), target, tips);
    let by_files = walk.by_files()?;
    let mut by_hash = all.clone();
    by_hash.sort_by_key(|&at| &tips[at]);
    let empty = plan.steps.iter().filter(|step| step.status == StepStatus::Empty).count();
    let worth = plan.score;
    let best = walk.best(worth.before_person as usize + empty, conflict)?;
    Ok(json!({
        "conflicts": true,
        "plan": [worth.before_person as usize + empty, worth.conflict_steps as usize],
        "order given": [worth.naive_before_person as usize + empty, worth.naive_conflict_steps as usize],
        "order given, put off": walk.put_off(&all)?,
        "fewest files": walk.stop(&by_files)?,
        "random": walk.stop(&by_hash)?,
        "best": best,
    }))
}

/// The branch that sets land on.
const TARGET: &str = "refs/heads/bench-target";

fn land(store: &Store, target: &ObjectId, tips: &[ObjectId], union: &[String]) -> Result<Value, Failure> {
    let chosen = selection(store, target, tips)?;
    let refs = chosen.candidates.iter().map(|one| format!("update {} {}\n", one.agent.branch, one.tip));
    let refs: String = refs.chain([format!("update {TARGET} {target}\n")]).collect();
    store.repo().git(["update-ref", "--stdin"]).stdin(refs.into_bytes()).read()?;
    let agents: Vec<Agent> = chosen.candidates.into_iter().map(|one| one.agent).collect();
    store.transact(|change| agents.iter().try_for_each(|agent| change.put(agent)))?;
    let ids: Vec<Id> = agents.iter().map(|agent| agent.id).collect();
    let request =
        Request { agents: ids.clone(), target: Some("bench-target".to_owned()), ..Request::default() };
    let plan = plan(store, &select(store, &request)?)?;
    let merge = start(store, &plan)?;
    let rules = Rules { lands_unseen: true, ..Rules::default() }.with_union(union)?;
    let mut asked = Vec::new();
    let landed = loop {
        match advance(store, &merge.id, &rules, &Gating::LeftOut(&[]), &mut |_| {})? {
            Progress::Waiting { decision, conflict, .. } => {
                asked.push(conflict.step.agent);
                answer(store, &decision.id, On::Everything, "skip", None)?;
            }
            Progress::Landed(merge) => break merge,
            other => return Err(format!("{other:?}").into()),
        }
    };
    let settled: Vec<&Step> = landed.steps.iter().filter(|step| !step.resolutions.is_empty()).collect();
    // Had a person resolved what was left out, this conflict would have come up too.
    let after_all = |step: &&&Step| {
        let by_rule = |path: &String| step.resolutions.iter().any(|resolution| resolution.path == *path);
        asked.iter().any(|other| match plan.overlap.between(&step.agent, Some(other)) {
            Some(Pair { forecast: Forecast::Conflict { paths, .. }, .. }) => !paths.iter().all(by_rule),
            _ => false,
        })
    };
    let after_all = settled.iter().filter(after_all).count();
    let at = |agent: &Id| ids.iter().position(|id| id == agent);
    Ok(json!({
        "head": landed.head.as_str(),
        "asked": asked.iter().map(at).collect::<Vec<_>>(),
        "ruled": settled.iter().map(|step| at(&step.agent)).collect::<Vec<_>>(),
        "stops": asked.len() + after_all,
        "order given": plan.score.naive_conflict_steps,
    }))
}

/// The answer, and the median of how long it took.
fn timed(rounds: usize, mut work: impl FnMut() -> Result<Value, Failure>) -> Result<(f64, Value), Failure> {
    let (mut times, mut last) = (Vec::new(), Value::Null);
    for _ in 0..rounds.max(1) {
        let start = Instant::now();
        last = work()?;
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok((times[times.len() / 2], last))
}

fn selection(store: &Store, target: &ObjectId, tips: &[ObjectId]) -> Result<Selection, Failure> {
    let candidate = |tip: &ObjectId| -> Result<Candidate, Failure> {
        let id = store.new_id()?;
        let agent = Agent {
            id,
            name: format!("branch-{id}").parse()?,
            profile: "command".to_owned(),
            program: "command".to_owned(),
            task: None,
            step: None,
            prompt: String::new(),
            branch: format!("{}branch-{id}", Agent::BRANCHES),
            base: target.clone(),
            target: Some(TARGET.to_owned()),
            machine: String::new(),
            taken: None,
            session: None,
            budget: Budget::default(),
            runs: BTreeMap::new(),
            removed: None,
            merged: None,
            created: SystemClock.now(),
        };
        Ok(Candidate { agent, task: None, tip: tip.clone(), uncommitted: 0 })
    };
    let candidates = tips.iter().map(candidate).collect::<Result<_, _>>()?;
    let (target, target_tip) = (TARGET.to_owned(), target.clone());
    Ok(Selection { target, target_tip, candidates, left_out: Vec::new() })
}

fn verdicts(overlap: &Overlap, branches: &[Branch]) -> Value {
    let told = |a: &Id, b: Option<&Id>| match overlap.between(a, b) {
        Some(pair) if pair.forecast.is_conflict() => 'x',
        Some(_) => 'c',
        None => '?',
    };
    let mut verdicts = String::new();
    for (at, a) in branches.iter().enumerate() {
        verdicts.extend(branches[at + 1..].iter().map(|b| told(&a.agent, Some(&b.agent))));
    }
    verdicts.extend(branches.iter().map(|a| told(&a.agent, None)));
    Value::String(verdicts)
}

fn steps(plan: &Plan) -> Value {
    let steps: Vec<_> = plan
        .steps
        .iter()
        .map(|step| json!({"tip": step.tip.as_str(), "clean": step.status != StepStatus::Pending}))
        .collect();
    json!({
        "head": plan.head.as_str(),
        "steps": steps,
        "before_person": plan.score.before_person,
        "conflict_steps": plan.score.conflict_steps,
        "naive_before_person": plan.score.naive_before_person,
        "naive_conflict_steps": plan.score.naive_conflict_steps,
    })
}

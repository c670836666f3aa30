//! Overlaps and merge plans of raw commits, for `benches/merge`: the product's own code without agents to spawn.
//!
//! `forecast pairs|plan [ROUNDS]` reads a set a line, `TARGET TIP TIP …`, works each out that many times in the
//! repository of the current directory, and prints a line of JSON for each: `seconds` (the median), and the
//! verdicts (`c` clean, `x` conflict; every two tips in their order, then each tip with the target) or the plan's steps.

use git_orchestra::git::{Identity, Repository};
use git_orchestra::model::{Agent, Budget, Id, ObjectId, StepStatus};
use git_orchestra::orchestrate::merge::{Candidate, Plan, Selection, plan};
use git_orchestra::orchestrate::overlap::{Branch, Overlap, overlap};
use git_orchestra::process::{Clock, SystemClock};
use git_orchestra::store::Store;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut words = std::env::args().skip(1);
    let what = words.next().ok_or("pairs or plan?")?;
    let rounds: usize = words.next().as_deref().unwrap_or("1").parse()?;
    #[expect(clippy::disallowed_methods, reason = "a program of its own, with the environment it was given")]
    let env = Arc::new(std::env::vars_os().collect());
    let repo = Repository::discover(Path::new("."), env)?;
    let store = Store::open(repo, Arc::new(SystemClock), Identity::new("Bench", "bench@example.org"));
    for line in std::io::stdin().lock().lines() {
        let ids: Vec<ObjectId> = line?.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let (target, tips) = ids.split_first().ok_or("a line without a target")?;
        let selection = selection(&store, target, tips)?;
        let (seconds, told) = match what.as_str() {
            "pairs" => timed(rounds, || {
                Ok(verdicts(&overlap(store.repo(), &selection.branches(), target)?, &selection.branches()))
            })?,
            "plan" => timed(rounds, || Ok(steps(&plan(&store, &selection)?)))?,
            other => return Err(format!("pairs or plan, not {other}").into()),
        };
        writeln!(std::io::stdout(), "{}", json!({"seconds": seconds, what.as_str(): told}))?;
    }
    Ok(())
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
    let candidate = |(number, tip): (usize, &ObjectId)| -> Result<Candidate, Failure> {
        let agent = Agent {
            id: store.new_id()?,
            name: format!("branch-{number}").parse()?,
            profile: "command".to_owned(),
            program: "command".to_owned(),
            task: None,
            step: None,
            prompt: String::new(),
            branch: format!("{}branch-{number}", Agent::BRANCHES),
            base: target.clone(),
            target: Some("refs/heads/main".to_owned()),
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
    let candidates = tips.iter().enumerate().map(candidate).collect::<Result<_, _>>()?;
    let (target, target_tip) = ("refs/heads/main".to_owned(), target.clone());
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

//! Resuming: an agent's conversation goes on in another run.

use super::recover::find_missing;
use super::remove::is_name_of_another;
use super::session::{Claim, Outfit};
use super::spawn::claim;
use super::supervise::{Ruling, not_counted, weigh};
use super::{Error, lease, title, trust};
use crate::model::{Agent, Decision, Id, Run, Task, TaskStatus};
use crate::store::Store;
use std::collections::BTreeMap;

/// Claims an agent for another run. What a person answered to its permission questions meanwhile holds in it.
///
/// An agent that was never started begins with what it was to be told; otherwise `text` is said to it, or that it
/// should go on.
///
/// # Errors
/// If it was removed, or runs.
pub fn resume(store: &Store, id: &Id, text: Option<&str>, outfit: &Outfit) -> Result<Claim, Error> {
    trust::require_unchanged(store.repo())?;
    let state = store.state()?;
    let mut agent: Agent = state.require(id)?;
    if agent.removed.is_some() {
        let for_its_task = if agent.task.is_some() { " for its task" } else { "" };
        let hint = format!(
            "`git orchestra undo` brings it back, with the id of what removed it (`git orchestra oplog`); or spawn another \
             one{for_its_task}"
        );
        return Err(Error::refused(format!("resume {}: it was removed", agent.name), hint));
    }
    if !agent.has_own_branch() || is_name_of_another(store, &agent)? {
        let hint = "it was not made by `spawn` here; spawn another one for its task".to_owned();
        let what = format!("resume {}: its branch {:?} is not its own", agent.name, agent.branch);
        return Err(Error::refused(what, hint));
    }
    if !agent.is_of(&store.machine()?) {
        let what = format!("resume {}: it is of machine {}", agent.name, agent.machine);
        return Err(Error::refused(
            what,
            format!("`git orchestra take {}` goes on with it here", agent.name),
        ));
    }
    if lease::find_live(store.repo(), id).is_none()
        && let Some(missing) = find_missing(store, &agent)?
    {
        return Err(Error::refused(format!("resume {}: {}", agent.name, missing.text), missing.way_out));
    }
    let number = agent.last_run().map_or(1, |(last, _)| last + 1);
    // Only a conversation that the program confirmed can be continued.
    let since_taken = agent.runs.range(agent.taken.unwrap_or(0)..);
    let begun = since_taken.map(|(_, run)| run).any(|run| run.session.is_some() || run.model.is_some());
    let ran = !agent.runs.is_empty();
    let answered = Answers::new(store, &state.all::<Decision>()?, id, outfit.any_answer)?;
    let task = agent.task.map(|task| state.get::<Task>(&task)).transpose()?.flatten();
    if let Some(task) = &task {
        require_own(store, &agent, task)?;
    }
    let title = title::title(store, task.as_ref(), &agent.prompt);
    if ran && !begun {
        // Of a conversation that the program never confirmed it may have taken the id all the same.
        agent.session = Some(uuid::Uuid::new_v4().to_string());
    }
    let session = agent.session.clone();
    agent.budget = outfit.budget.or(&agent.budget);
    let budget = agent.budget;
    let prompt = if begun { go_on(text, &answered.news) } else { first_words(&agent.prompt, text) };
    let outfit = &outfit.as_strict_as(&agent);
    let sandbox = Some(outfit.profile.sandbox);
    agent.runs.insert(number, Run { started: store.clock().now(), sandbox, ..Run::default() }.into());
    let mut claim = claim(store, agent, number, outfit, title, &[])?;
    claim.prompt = prompt;
    claim.resume = begun;
    let Answers { decided, untold, .. } = answered;
    claim.decided = decided;
    let started = claim.agent.runs[&number].clone();
    let claimed = store.transact(|transaction| {
        let mut agent: Agent = transaction.require(id)?;
        if agent.removed.is_some() || agent.runs.contains_key(&number) {
            return Err(Error::refused(format!("resume {}: it changed meanwhile", agent.name), None));
        }
        agent.runs.insert(number, started.clone());
        agent.session.clone_from(&session);
        agent.budget = budget;
        transaction.put(&agent)?;
        for decision in untold.iter().filter(|_| begun) {
            if let Some(decision) = transaction.get::<Decision>(decision)? {
                transaction.put(&Decision { told: Some(number), ..decision })?;
            }
        }
        if let Some(task) = &agent.task
            && let Some(mut task) = transaction.get::<Task>(task)?
            && task.assignee.is_none()
            && task.status != TaskStatus::Closed
        {
            task.assignee = Some(*id);
            task.status = TaskStatus::Started;
            task.changed = transaction.now();
            transaction.put(&task)?;
        }
        let word = if ran { "resume" } else { "start" };
        transaction.describe(format!("agent: {word} {}", agent.name));
        Ok(())
    });
    match claimed {
        Ok(_) => Ok(claim),
        Err(error) => {
            claim.lease.give_up(&error)?;
            Err(error)
        }
    }
}

/// Refuses an agent whose task another machine took over.
fn require_own(store: &Store, agent: &Agent, task: &Task) -> Result<(), Error> {
    let Some(holder) = task.holder.as_ref().filter(|_| task.status == TaskStatus::Started) else {
        return Ok(());
    };
    if task.assignee == Some(agent.id) || *holder == store.machine()? {
        return Ok(());
    }
    let short = &task.id.as_str()[..6];
    let what = format!("resume {}: machine {holder} holds its task {short} ({})", agent.name, task.title);
    Err(Error::refused(what, format!("`git orchestra task claim --force {short}` takes it all the same")))
}

/// A person's answers to an agent's questions.
struct Answers {
    /// By what identifies the question: what was asked once is not asked again.
    decided: BTreeMap<String, Ruling>,
    /// By the question in words, what it was not told yet.
    news: BTreeMap<String, Ruling>,
    /// The decisions of these.
    untold: Vec<Id>,
}

impl Answers {
    /// # Errors
    /// If a signature cannot be looked at.
    fn new(store: &Store, decisions: &[Decision], agent: &Id, any: bool) -> Result<Self, Error> {
        let (mut decided, mut news, mut untold) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for decision in decisions.iter().filter(|decision| decision.agent.as_ref() == Some(agent)) {
            let weighed = weigh(store, decision, any)?.filter(|weighed| weighed.counts);
            let Some(ruling) = weighed.map(|weighed| weighed.ruling) else { continue };
            if decision.told.is_none() {
                news.insert(decision.question.clone(), ruling.clone());
                untold.push(decision.id);
            }
            decided.insert(decision.subject.clone(), ruling);
        }
        Ok(Self { decided, news, untold })
    }
}

/// What was answered to an agent's questions elsewhere and does not count here, with what would help.
pub fn doubted_answers(store: &Store, agent: &Id, any: bool) -> Result<Vec<String>, Error> {
    let mut doubted = Vec::new();
    for decision in store.state()?.all::<Decision>()? {
        if decision.agent.as_ref() == Some(agent)
            && let Some(weighed) = weigh(store, &decision, any)?.filter(|weighed| !weighed.counts)
            && let Some(from) = weighed.from
        {
            doubted.push(not_counted(&decision, &from));
        }
    }
    Ok(doubted)
}

fn go_on(text: Option<&str>, answered: &BTreeMap<String, Ruling>) -> String {
    let mut prompt = text.map_or_else(|| "Go on where you stopped.".to_owned(), str::to_owned);
    for (question, ruling) in answered {
        let (word, words) = match ruling {
            Ruling::Allowed(words) => ("allowed: try it again", words.as_deref()),
            Ruling::Refused(words) => ("refused for good", words.as_deref()),
            Ruling::Answered(text) => (text.as_str(), None),
        };
        let said = format!("\n\nA person answered your question ({question}): {word}.");
        prompt.push_str(&said);
        if let Some(words) = words {
            prompt.push_str(" They say: ");
            prompt.push_str(words);
        }
    }
    prompt
}

fn first_words(prompt: &str, text: Option<&str>) -> String {
    match text {
        Some(text) => format!("{prompt}\n\n{text}"),
        None => prompt.to_owned(),
    }
}

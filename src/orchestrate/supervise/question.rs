//! What an agent asks a person: whether it may do something, or what it cannot know. What nobody can answer right now
//! is recorded as a decision.

use crate::agent::PermissionReply;
use crate::model::{Answer, Asked, Choice, Decision, DecisionKind, DecisionStatus, Id, Name, ObjectId};
use crate::orchestrate::Error;
use crate::orchestrate::control::Question;
use crate::orchestrate::merge::{Proof, whole_proof};
use crate::store::{STATE_REF, Store, Transaction};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;
use tokio::time::Instant;

/// What a person said to a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ruling {
    /// It may; with words for it, if there are any.
    Allowed(Option<String>),
    /// It may not; with words for it, if there are any.
    Refused(Option<String>),
    /// The answers, as they were typed.
    Answered(String),
}

/// A question that a person looks at.
#[derive(Debug, Clone)]
pub(super) struct Open {
    /// How the program names it.
    pub(super) request: String,
    pub(super) tool: String,
    /// Without secrets.
    pub(super) summary: String,
    /// What goes back when it is allowed.
    pub(super) input: String,
    /// What it asks, if it is no permission that it wants: as the program said it.
    pub(super) asks: Vec<Asked>,
    /// The same without secrets.
    pub(super) shown: Vec<Asked>,
    pub(super) subject: String,
    /// When it was asked.
    pub(super) asked: Instant,
    /// The decision that it was recorded as, if nobody looked at it or who looks does not answer.
    pub(super) kept: Option<Kept>,
}

/// A question that is a decision, while its program waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    pub(super) decision: Id,
    /// Until when it waits, as long as nobody looks.
    pub(super) until: Instant,
}

/// Looking for answers that were given elsewhere.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// When to look next, while something is kept.
    pub(super) look_at: Option<Instant>,
    /// The state that was looked at last.
    pub(super) seen: Option<ObjectId>,
    /// The decisions of which it was said that their answer does not count.
    pub(super) doubted: BTreeSet<Id>,
}

impl Answers {
    /// How often it is looked whether the state moved. A `decide` of this machine says so at the socket; what comes
    /// with a fetch does not.
    pub(super) const POLL: Duration = Duration::from_secs(2);
}

impl Open {
    /// What others are shown of it.
    pub(super) fn question(&self) -> Question {
        let (request, tool, summary) = (self.request.clone(), self.tool.clone(), self.summary.clone());
        Question { request, tool, summary, asks: self.shown.clone() }
    }

    /// What the program is told.
    pub(super) fn reply(&self, ruling: &Ruling) -> PermissionReply {
        let input = self.input.clone();
        match ruling {
            Ruling::Answered(text) if !self.asks.is_empty() => {
                let questions = self.asks.iter().map(|asked| asked.text.clone());
                PermissionReply::Answer {
                    input,
                    answers: questions.zip(Asked::answers(&self.asks, text)).collect(),
                }
            }
            Ruling::Allowed(_) | Ruling::Answered(_) => PermissionReply::Allow { input },
            Ruling::Refused(words) => PermissionReply::Deny {
                message: match words {
                    Some(words) => format!("A person refused this, and says: {words}"),
                    None => "A person refused this.".to_owned(),
                },
            },
        }
    }

    /// The decision that this is when nobody is there.
    fn decision(&self, agent: &Name) -> Unasked {
        let choice = |key: String, label: &str| Choice { key, label: label.to_owned() };
        if self.shown.is_empty() {
            return Unasked {
                kind: DecisionKind::Permission,
                question: format!("{agent} wants to use {}: {}", self.tool, self.summary),
                detail: String::new(),
                choices: vec![
                    choice(
                        "allow".to_owned(),
                        "let it do this: at once if it still waits, otherwise when it is resumed",
                    ),
                    choice("deny".to_owned(), "refuse it for good"),
                ],
            };
        }
        let mut detail = String::new();
        for asked in &self.shown {
            let _ = writeln!(detail, "{}\n", asked.text);
            for (number, option) in (1..).zip(&asked.options) {
                let _ = writeln!(detail, "{number}. **{}** {}", option.label, option.description);
            }
            if asked.several {
                let _ = writeln!(detail, "\nMore than one may be chosen: `answer -m 1,2`.");
            }
            detail.push('\n');
        }
        let mut choices = Vec::new();
        match &self.shown[..] {
            [only] => {
                let options = (1..)
                    .zip(&only.options)
                    .map(|(n, option): (u32, _)| choice(n.to_string(), &option.label));
                choices.extend(options);
                choices.push(choice(Choice::ANSWER.to_owned(), "answer it in your own words, with `-m`"));
            }
            _ => choices.push(choice(
                Choice::ANSWER.to_owned(),
                "answer them with `-m`, with semicolons in between; a number stands for an option",
            )),
        }
        let question = format!("{agent} asks: {}", self.summary);
        Unasked { kind: DecisionKind::Question, question, detail: detail.trim_end().to_owned(), choices }
    }
}

impl Ruling {
    /// What was answered to an agent's question, if it was one and was answered.
    pub(in crate::orchestrate) fn of(decision: &Decision) -> Option<Self> {
        if decision.status != DecisionStatus::Answered {
            return None;
        }
        let given = decision.answer.as_ref()?;
        match (decision.kind, &given.key, &given.text) {
            (DecisionKind::Question, key, Some(text)) if key == Choice::ANSWER => {
                Some(Self::Answered(text.clone()))
            }
            (DecisionKind::Question, key, text) => {
                // The number of an option: the program is told its words.
                let chosen = decision.choices.iter().find(|choice| choice.key == *key);
                let label = chosen.map_or(key.as_str(), |choice| &choice.label);
                let more = text.as_ref().map(|text| format!(" ({text})")).unwrap_or_default();
                Some(Self::Answered(format!("{label}{more}")))
            }
            (DecisionKind::Permission, key, text) if key == "allow" => Some(Self::Allowed(text.clone())),
            (DecisionKind::Permission, _, text) => Some(Self::Refused(text.clone())),
            _ => None,
        }
    }

    /// The same as an answer in the record: the choice's key, and the words that go with it.
    fn key(&self) -> (&'static str, Option<String>) {
        match self {
            Self::Allowed(words) => ("allow", words.clone()),
            Self::Refused(words) => ("deny", words.clone()),
            Self::Answered(text) => (Choice::ANSWER, Some(text.clone())),
        }
    }
}

/// An answer to an agent's question, and what it counts for here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::orchestrate) struct Weighed {
    /// What was answered.
    pub(in crate::orchestrate) ruling: Ruling,
    /// Whether it counts: it was given in this clone, or with the key of somebody whom the user trusts, or the settings
    /// say that every answer does.
    pub(in crate::orchestrate) counts: bool,
    /// Of one that came from elsewhere: `Bob <bob@example.org> answered allow (unverified, not signed)`.
    pub(in crate::orchestrate) from: Option<String>,
}

/// What was answered to an agent's question, if it was. Whoever can push can write any name: without `any`, what was
/// not said in this clone counts with a signature alone.
pub(in crate::orchestrate) fn weigh(
    store: &Store,
    decision: &Decision,
    any: bool,
) -> Result<Option<Weighed>, Error> {
    let (Some(ruling), Some(answer)) = (Ruling::of(decision), &decision.answer) else { return Ok(None) };
    if store.gave_answer(&decision.id, answer)? {
        return Ok(Some(Weighed { ruling, counts: true, from: None }));
    }
    let proof = whole_proof(store.repo(), decision, answer)?;
    let is_verified = matches!(proof, Proof::Verified { .. });
    let how = match proof {
        Proof::Verified { key, .. } => format!("verified, signed with {key}"),
        Proof::Bad => "unverified, signed for something else".to_owned(),
        Proof::Untrusted { .. } | Proof::Unknown { .. } => {
            "unverified, signed with a key that is not known as theirs".to_owned()
        }
        _ => "unverified, not signed".to_owned(),
    };
    let from = format!("{} answered {} ({how})", answer.by, answer.key);
    Ok(Some(Weighed { ruling, counts: any || is_verified, from: Some(from) }))
}

/// What to do about an answer that does not count, behind [`Weighed::from`].
pub(in crate::orchestrate) fn not_counted(decision: &Decision, from: &str) -> String {
    let short = &decision.id.as_str()[..6];
    let key = decision.answer.as_ref().map_or("", |answer| &answer.key);
    format!(
        "{from}, which does not count here: `git orchestra decide {short} {key}` says so yourself, and `answers = \"any\"` \
         believes everybody"
    )
}

/// A question that waits for somebody to come.
struct Unasked {
    kind: DecisionKind,
    question: String,
    detail: String,
    choices: Vec<Choice>,
}

/// What identifies a permission question, so that it is known when it is asked again.
pub(super) fn permission_subject(tool: &str, input: &str) -> String {
    let digest = Sha256::digest(format!("{tool}\0{input}"));
    let (first, _) = digest.split_first_chunk::<16>().expect("a SHA-256 has 32 bytes");
    format!("permission:{:032x}", u128::from_be_bytes(*first))
}

/// Records a question of an agent, or finds it if it is open already. Returns its decision, and the question in words.
pub(super) fn record_question(
    store: &Store,
    agent: &Id,
    name: &Name,
    open: &Open,
) -> Result<(Id, String), Error> {
    let fresh = store.new_id()?;
    let Unasked { kind, question, detail, choices } = open.decision(name);
    let committed = store.transact(|transaction| {
        // Asked before and not answered: the same question, not another one.
        let known = transaction.all::<Decision>()?.into_iter().find(|decision| {
            decision.agent.as_ref() == Some(agent)
                && decision.subject == open.subject
                && decision.status == DecisionStatus::Open
        });
        if let Some(known) = known {
            return Ok::<_, Error>(known.id);
        }
        transaction.put(&Decision {
            detail: detail.clone(),
            choices: choices.clone(),
            agent: Some(*agent),
            subject: open.subject.clone(),
            ..Decision::open(fresh, kind, question.clone(), transaction.now())
        })?;
        transaction.describe(format!("decision {}: {question}", &fresh.as_str()[..6]));
        Ok(fresh)
    })?;
    Ok((committed.value, question))
}

/// Withdraws what an agent asks and nobody answered: it will not hear of an answer any more.
pub(in crate::orchestrate) fn withdraw_questions(
    transaction: &mut Transaction<'_>,
    agent: &Id,
) -> Result<(), Error> {
    for decision in transaction.all::<Decision>()? {
        let asks = matches!(decision.kind, DecisionKind::Permission | DecisionKind::Question);
        if asks && decision.agent.as_ref() == Some(agent) && decision.status == DecisionStatus::Open {
            transaction.put(&Decision { status: DecisionStatus::Withdrawn, ..decision })?;
        }
    }
    Ok(())
}

/// What became of a question that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// It was answered, and by whom, if that was elsewhere.
    Ruled(Ruling, Option<String>),
    /// Somebody answered it whose answer does not count: what to say of that.
    Unverified(String),
    /// Nobody needs the answer any more.
    Withdrawn,
}

/// What a look for answers found.
pub(super) struct Looked {
    /// Where the state was.
    pub(super) seen: Option<ObjectId>,
    /// The decisions that are not open any more.
    pub(super) found: Vec<(Id, Found)>,
}

/// What was answered to those of `waiting`, unless the state is still at `seen`; and where it is now.
pub(super) fn find_answers(
    store: &Store,
    seen: Option<&ObjectId>,
    waiting: &[Id],
    any: bool,
) -> Result<Looked, Error> {
    let tip = store.repo().find_ref(STATE_REF)?;
    if tip.as_ref() == seen {
        return Ok(Looked { seen: tip, found: Vec::new() });
    }
    let state = store.state()?;
    let mut found = Vec::new();
    for id in waiting {
        let Some(decision) = state.get::<Decision>(id)? else { continue };
        if decision.status == DecisionStatus::Withdrawn {
            found.push((*id, Found::Withdrawn));
        } else if let Some(Weighed { ruling, counts, from }) = weigh(store, &decision, any)? {
            found.push((
                *id,
                match from {
                    Some(from) if !counts => Found::Unverified(not_counted(&decision, &from)),
                    from => Found::Ruled(ruling, from),
                },
            ));
        }
    }
    Ok(Looked { seen: state.commit().cloned(), found })
}

/// Notes that nobody needs an answer any more. One that was given stays.
pub(super) fn withdraw_question(store: &Store, decision: &Id) -> Result<(), Error> {
    store.transact(|transaction| {
        let asked = transaction.get::<Decision>(decision)?;
        if let Some(mut asked) = asked.filter(|asked| asked.status == DecisionStatus::Open) {
            asked.status = DecisionStatus::Withdrawn;
            transaction.put(&asked)?;
            let short = &decision.as_str()[..6];
            transaction.describe(format!("decision {short}: its agent does not ask any more"));
        }
        Ok::<_, Error>(())
    })?;
    Ok(())
}

/// Notes that a run's program is told what was answered; `said` is what somebody who looked at it answered just now.
/// Returns the answer that holds: whoever was first.
pub(super) fn settle_question(
    store: &Store,
    decision: &Id,
    said: Option<&Ruling>,
    run: u32,
    any: bool,
) -> Result<Option<Ruling>, Error> {
    let by = store.author().to_string();
    let settled = store.transact(|transaction| {
        let Some(mut decision) = transaction.get::<Decision>(decision)? else { return Ok(said.cloned()) };
        let held = weigh(store, &decision, any)?.filter(|weighed| weighed.counts);
        let is_open = match decision.status {
            DecisionStatus::Open => true,
            DecisionStatus::Answered => held.is_none(),
            DecisionStatus::Withdrawn => false,
        };
        let mut ruling = held.map(|weighed| weighed.ruling);
        if let Some(said) = said.filter(|_| is_open) {
            ruling = None;
            let (key, text) = said.key();
            if decision.choices.iter().any(|choice| choice.key == key) {
                let at = transaction.now();
                let (key, by) = (key.to_owned(), by.clone());
                let answer = Answer { key, text, by, at, signature: None, like: None };
                store.remember_answer(&decision.id, &answer)?;
                ruling = Some(said.clone());
                decision.answer = Some(answer);
                decision.status = DecisionStatus::Answered;
            } else {
                // Not to answer is none of the answers.
                decision.status = DecisionStatus::Withdrawn;
            }
        }
        let ruling = ruling.or_else(|| said.cloned());
        decision.told = Some(run);
        transaction.put(&decision)?;
        transaction.describe(format!("decision {}: its agent was told", &decision.id.as_str()[..6]));
        Ok::<_, Error>(ruling)
    })?;
    Ok(settled.value)
}

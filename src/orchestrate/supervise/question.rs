//! What an agent asks a person: whether it may do something, or what it cannot know. What nobody can answer right now
//! is recorded as a decision.

use crate::agent::PermissionReply;
use crate::model::{Asked, Choice, Decision, DecisionKind, DecisionStatus, Id, Name};
use crate::orchestrate::Error;
use crate::orchestrate::control::Question;
use crate::store::Store;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// What a person said to a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ruling {
    /// It may.
    Allowed,
    /// It may not.
    Refused,
    /// The answers, as they were typed.
    Answered(String),
}

/// A question that a person looks at.
#[derive(Debug)]
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
            Ruling::Allowed | Ruling::Answered(_) => PermissionReply::Allow { input },
            Ruling::Refused => PermissionReply::Deny { message: "A person refused this.".to_owned() },
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
                    choice("allow".to_owned(), "let it do this when it is resumed"),
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

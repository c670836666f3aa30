//! Permission questions that nobody can answer right now: recorded as decisions.

use crate::model::{Choice, Decision, DecisionKind, DecisionStatus, Id};
use crate::orchestrate::Error;
use crate::orchestrate::control::Question;
use crate::store::Store;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// A permission question that a person looks at.
#[derive(Debug)]
pub(super) struct Open {
    /// How the program names it.
    pub(super) request: String,
    pub(super) tool: String,
    /// Without secrets.
    pub(super) summary: String,
    /// What goes back when it is allowed.
    pub(super) input: String,
    pub(super) subject: String,
}

impl Open {
    /// What others are shown of it.
    pub(super) fn question(&self) -> Question {
        Question { request: self.request.clone(), tool: self.tool.clone(), summary: self.summary.clone() }
    }
}

/// What identifies a permission question, so that it is known when it is asked again.
pub(super) fn permission_subject(tool: &str, input: &str) -> String {
    let digest = Sha256::digest(format!("{tool}\0{input}"));
    let (first, _) = digest.split_first_chunk::<16>().expect("a SHA-256 has 32 bytes");
    format!("permission:{:032x}", u128::from_be_bytes(*first))
}

/// Records a question, or finds it if it is open already. Returns its decision.
pub(super) fn record_question(store: &Store, agent: &Id, question: &str, subject: &str) -> Result<Id, Error> {
    let fresh = store.new_id()?;
    let committed = store.transact(|transaction| {
        // Asked before and not answered: the same question, not another one.
        let open = transaction.all::<Decision>()?.into_iter().find(|decision| {
            decision.agent.as_ref() == Some(agent)
                && decision.subject == subject
                && decision.status == DecisionStatus::Open
        });
        if let Some(open) = open {
            return Ok::<_, Error>(open.id);
        }
        let choice = |key: &str, label: &str| Choice { key: key.to_owned(), label: label.to_owned() };
        transaction.put(&Decision {
            id: fresh,
            kind: DecisionKind::Permission,
            status: DecisionStatus::Open,
            question: question.to_owned(),
            detail: String::new(),
            choices: vec![
                choice("allow", "let it do this when it is resumed"),
                choice("deny", "refuse it for good"),
            ],
            merge: None,
            agent: Some(*agent),
            subject: subject.to_owned(),
            paths: Vec::new(),
            answers: BTreeMap::new(),
            answer: None,
            created: transaction.now(),
        })?;
        transaction.describe(format!("decision {}: {question}", &fresh.as_str()[..6]));
        Ok(fresh)
    })?;
    Ok(committed.value)
}

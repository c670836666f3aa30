//! Decisions.

use super::{Page, when};
use crate::cli::ui::{Label, Painter};
use crate::model::{Decision, DecisionKind, DecisionStatus, Id, Timestamp};
use crate::orchestrate::merge::{On, Proof, Proven};
use crate::store::ShortIds;
use serde::Serialize;
use std::fmt::Write as _;

/// A decision as JSON shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Shown<'a> {
    #[serde(flatten)]
    decision: &'a Decision,
    short: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    proofs: Vec<ShownProof>,
}

/// How sure it is who gave an answer.
#[derive(Debug, Serialize)]
pub(crate) struct ShownProof {
    on: String,
    answer: String,
    by: String,
    is: &'static str,
    /// Whose answer it repeats, and how sure it is who gave that.
    #[serde(skip_serializing_if = "Option::is_none")]
    repeats: Option<Id>,
    #[serde(skip_serializing_if = "Option::is_none")]
    original: Option<&'static str>,
    /// The setting that it cannot be checked without.
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

impl ShownProof {
    pub(crate) fn new(proven: Proven) -> Self {
        let (of, original) = match &proven.proof {
            Proof::Repeats { of, proof } => (Some(*of), proof.as_deref().cloned()),
            _ => (None, None),
        };
        let is = word(&proven.proof);
        let whose = original.as_ref().map(word);
        let (signer, key, missing) = match original.unwrap_or(proven.proof) {
            Proof::Verified { signer, key } | Proof::Untrusted { signer, key } => {
                (Some(signer), Some(key), None)
            }
            Proof::Unknown { missing } => (None, None, missing),
            _ => (None, None, None),
        };
        let signer = signer.filter(|signer| !signer.is_empty());
        Self {
            on: proven.on,
            answer: proven.key,
            by: proven.by,
            is,
            repeats: of,
            original: whose,
            missing,
            signer,
            key,
        }
    }
}

/// What JSON says.
const fn word(proof: &Proof) -> &'static str {
    match proof {
        Proof::Unsigned => "unsigned",
        Proof::Verified { .. } => "verified",
        Proof::Untrusted { .. } => "untrusted",
        Proof::Unknown { .. } => "unknown",
        Proof::Bad => "bad",
        Proof::Repeats { .. } => "repeats",
        Proof::Agent => "agent",
        Proof::Rule => "rule",
    }
}

impl<'a> Shown<'a> {
    /// The record and the shortest unique prefix of its id.
    pub(crate) fn new(decision: &'a Decision, ids: &ShortIds) -> Self {
        Self { decision, short: ids.shorten(&decision.id), proofs: Vec::new() }
    }

    /// With what is known of who answered.
    pub(crate) fn with(self, proofs: Vec<Proven>) -> Self {
        Self { proofs: proofs.into_iter().map(ShownProof::new).collect(), ..self }
    }
}

/// The word for what one is about.
pub(crate) const fn kind_word(kind: DecisionKind) -> &'static str {
    match kind {
        DecisionKind::Conflict => "conflict",
        DecisionKind::Gate => "gate",
        DecisionKind::Executable => "executable",
        DecisionKind::Pipeline => "pipeline",
        DecisionKind::Permission => "permission",
        DecisionKind::Question => "question",
    }
}

/// What an answer leaves out, behind its label: `, leaves out 3 lines of grey-fox`.
pub(crate) fn losses(decision: &Decision, key: &str, on: On<'_>, painter: Painter) -> String {
    let losses = decision.losses(key, on.path(), on.place());
    let words = losses.iter().map(|loss| format!(", {}", painter.paint(Label::Attention, loss.words())));
    words.collect()
}

/// `verified, signed by ada@example.org with SHA256:…`
pub(crate) fn proof(proof: &Proof, ids: &ShortIds) -> (Label, String) {
    match proof {
        Proof::Unsigned => (Label::Dim, "unverified, not signed".to_owned()),
        Proof::Verified { signer, key } => (Label::Good, format!("verified, signed by {signer} with {key}")),
        Proof::Untrusted { signer, key } => {
            let whose = if signer.is_empty() { "a key".to_owned() } else { format!("{signer}'s key") };
            (
                Label::Attention,
                format!("unverified, signed with {whose} {key}, which you do not trust as theirs"),
            )
        }
        Proof::Unknown { missing: Some(setting) } => (
            Label::Attention,
            format!(
                "unverified, signed, and `{setting}` is not set in your own configuration: nothing says whose keys are whose"
            ),
        ),
        Proof::Unknown { missing: None } => {
            (Label::Attention, "unverified, signed with a key that is not known here".to_owned())
        }
        Proof::Bad => {
            (Label::Bad, "unverified, what is there as a signature is none of this answer".to_owned())
        }
        Proof::Repeats { of, proof: None } => {
            (Label::Dim, format!("unverified, repeats decision {}, which is not known here", ids.shorten(of)))
        }
        Proof::Repeats { of, proof: Some(original) } => {
            let (label, words) = self::proof(original, ids);
            (label, format!("repeats decision {}: {words}", ids.shorten(of)))
        }
        Proof::Agent => (Label::Dim, "by an agent, not a person".to_owned()),
        Proof::Rule => (Label::Dim, "by a rule, nobody was asked".to_owned()),
    }
}

/// The path or place that an answer is for; `None` if it is for everything.
fn on(proven: &Proven) -> Option<&str> {
    proven.on.split_once(' ').map(|(_, on)| on)
}

/// A line for an answer of one of many decisions:
/// `k3v8 src/f: theirs by Ada <ada@example.org>, verified, signed by ada@example.org with SHA256:…`
pub(crate) fn answered(decision: &Decision, proven: &Proven, painter: Painter, ids: &ShortIds) -> String {
    let id = painter.paint(Label::Id, ids.shorten(&decision.id));
    let on = on(proven).map(|on| format!("{}: ", painter.paint(Label::Path, on))).unwrap_or_default();
    let given = painter.paint(Label::Plain, format!("{} by {}", proven.key, proven.by));
    let (label, words) = proof(&proven.proof, ids);
    format!("  {id} {on}{given}, {}\n", painter.paint(label, words))
}

/// One for people.
pub(crate) fn page(
    decision: &Decision,
    proofs: &[Proven],
    painter: Painter,
    ids: &ShortIds,
    now: Timestamp,
) -> String {
    let mut page = Page::new(painter, ids, "decision", &decision.id);
    page.field("question", Label::Title, &decision.question);
    let (label, word) = match decision.status {
        DecisionStatus::Open => (Label::Attention, "open"),
        DecisionStatus::Answered => (Label::Good, "answered"),
        DecisionStatus::Withdrawn => (Label::Dim, "withdrawn"),
    };
    page.field("about", Label::Plain, kind_word(decision.kind));
    page.field("state", label, word);
    page.ids("merge", &decision.merge);
    page.ids("agent", &decision.agent);
    page.field("asked", Label::Dim, when(decision.created, now));
    if let Some(answer) = &decision.answer {
        page.field("answer", Label::Plain, &answer.key);
        page.field("by", Label::Plain, &answer.by);
        page.field("answered", Label::Dim, when(answer.at, now));
        page.text(answer.text.as_deref().unwrap_or_default());
    }
    for (path, answer) in &decision.answers {
        page.field("answer", Label::Path, format!("{path}: {} by {}", answer.key, answer.by));
    }
    for (place, answer) in &decision.places {
        page.field("answer", Label::Path, format!("{place}: {} by {}", answer.key, answer.by));
    }
    for proven in proofs {
        let on = on(proven).map(|on| format!("{on}: ")).unwrap_or_default();
        let (label, words) = proof(&proven.proof, ids);
        page.field("signature", label, format!("{on}{words}"));
    }
    page.text(&decision.detail);
    if decision.status == DecisionStatus::Open {
        let short = ids.shorten(&decision.id);
        let mut choices = String::from("\n");
        for choice in &decision.choices {
            let command = painter.paint(Label::Title, format!("git orchestra decide {short} {}", choice.key));
            let losses = losses(decision, &choice.key, On::Everything, painter);
            let _ = writeln!(choices, "{command}  {}{losses}", painter.paint(Label::Plain, &choice.label));
        }
        page.raw(&choices);
    }
    page.into_text()
}

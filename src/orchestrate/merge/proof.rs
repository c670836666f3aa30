//! How sure it is that somebody gave an answer: a record says any name, a signature says whose key it was.

use super::Error;
use super::answer::On;
use super::digest::Digest;
use super::gate::AGENT;
use super::resolve::{PLACES, RULE};
use crate::git::{self, Repository, Signature};
use crate::model::{Answer, Decision, DecisionStatus, Id, Merge};
use crate::store::{State, Store};

/// What is known of who gave an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// Nothing but the name in the record.
    Unsigned,
    /// It is signed with a key that the user's own configuration says belongs to whom the record names.
    Verified {
        /// Whom the key belongs to.
        signer: String,
        /// The key.
        key: String,
    },
    /// It is signed with a key that is not known to belong to whom the record names.
    Untrusted {
        /// Whom the key belongs to, if that is known.
        signer: String,
        /// The key.
        key: String,
    },
    /// It is signed, and that cannot be checked here.
    Unknown {
        /// The setting of the user's that it cannot be checked without.
        missing: Option<&'static str>,
    },
    /// What is there as a signature is none of this answer.
    Bad,
    /// It repeats what was answered before: nobody gave it, and nothing of its own says whose it is.
    Repeats {
        /// The decision whose answer it repeats.
        of: Id,
        /// How sure it is who answered there; none if that is not in the state.
        proof: Option<Box<Proof>>,
    },
    /// An agent gave it. What it left out was looked for, and refused, before it was taken.
    Agent,
    /// A rule gave it.
    Rule,
}

/// An answer, and how sure it is who gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// `everything`, `path src/a.rs` or `place src/a.rs:2`.
    pub on: String,
    /// What was answered: the choice's key.
    pub key: String,
    /// Who, as the record says.
    pub by: String,
    /// How sure.
    pub proof: Proof,
}

/// Looks at every answer of a decision: at its signature, if it was given by a person.
pub fn proofs(repo: &Repository, state: &State, decision: &Decision) -> Result<Vec<Proven>, Error> {
    let mut proven = Vec::new();
    for (on, answer) in given(decision) {
        let proof = match answer.like {
            Some(of) => Proof::Repeats { of, proof: repeated(repo, state, &of, &answer.by)?.map(Box::new) },
            None => proof(repo, decision, &on, answer)?,
        };
        proven.push(Proven { on, key: answer.key.clone(), by: answer.by.clone(), proof });
    }
    Ok(proven)
}

/// How sure it is who gave the answer for everything.
pub(in crate::orchestrate) fn whole_proof(
    repo: &Repository,
    decision: &Decision,
    answer: &Answer,
) -> Result<Proof, git::Error> {
    proof(repo, decision, "everything", answer)
}

/// Everything that was answered for a merge: of each decision, in the order in which they were asked.
pub fn merge_proofs(
    repo: &Repository,
    state: &State,
    merge: &Merge,
) -> Result<Vec<(Decision, Vec<Proven>)>, Error> {
    let named = merge.steps.iter().flat_map(|step| &step.resolutions).filter_map(|one| one.decision);
    let named: Vec<Id> = named.chain(merge.gates.iter().filter_map(|run| run.decision)).collect();
    let mut decisions: Vec<Decision> = state.all()?;
    decisions.retain(|one| {
        one.merge == Some(merge.id) && one.status == DecisionStatus::Answered || named.contains(&one.id)
    });
    decisions.sort_by_key(|one| (one.created, one.id));
    decisions
        .into_iter()
        .map(|one| {
            let proofs = proofs(repo, state, &one)?;
            Ok((one, proofs))
        })
        .collect()
}

/// What was answered, and for what; not what is only put together of other answers.
fn given(decision: &Decision) -> impl Iterator<Item = (String, &Answer)> {
    let whole = decision.answer.iter().map(|answer| ("everything".to_owned(), answer));
    let paths = decision.answers.iter().map(|(path, answer)| (format!("path {path}"), answer));
    let places = decision.places.iter().map(|(place, answer)| (format!("place {place}"), answer));
    whole.chain(paths).chain(places).filter(|(_, answer)| answer.key != PLACES)
}

/// How sure it is that `by` gave the answers of a decision that others repeat: as the least sure of them.
fn repeated(repo: &Repository, state: &State, of: &Id, by: &str) -> Result<Option<Proof>, Error> {
    let Some(decision) = state.get::<Decision>(of)? else { return Ok(None) };
    let mut least = None::<Proof>;
    for (on, answer) in given(&decision).filter(|(_, answer)| answer.by == by && answer.like.is_none()) {
        let proof = proof(repo, &decision, &on, answer)?;
        if least.as_ref().is_none_or(|least| proof.sureness() < least.sureness()) {
            least = Some(proof);
        }
    }
    Ok(least)
}

impl Proof {
    const fn sureness(&self) -> u8 {
        match self {
            Self::Bad => 0,
            Self::Unsigned | Self::Repeats { .. } => 1,
            Self::Unknown { .. } => 2,
            Self::Untrusted { .. } => 3,
            Self::Agent | Self::Rule => 4,
            Self::Verified { .. } => 5,
        }
    }
}

fn proof(repo: &Repository, decision: &Decision, on: &str, answer: &Answer) -> Result<Proof, git::Error> {
    let Some(signature) = &answer.signature else {
        return Ok(match answer.key.as_str() {
            // A person may ask an agent: that is the person's answer.
            _ if answer.by.ends_with('>') => Proof::Unsigned,
            RULE => Proof::Rule,
            AGENT => Proof::Agent,
            _ => Proof::Unsigned,
        });
    };
    let words = words(decision, on, &answer.key, answer.text.as_deref());
    Ok(match repo.check_signature(signature, &words, &answer.by)? {
        Signature::Bad => Proof::Bad,
        Signature::Unknown { missing } => Proof::Unknown { missing },
        Signature::Good { signer, key, trusted } => {
            let email = answer.by.rsplit_once('<').map_or("", |(_, email)| email.trim_end_matches('>'));
            let is_theirs = signer == email || signer.ends_with(&format!("<{email}>"));
            if trusted && is_theirs {
                Proof::Verified { signer, key }
            } else {
                Proof::Untrusted { signer, key }
            }
        }
    })
}

/// Signs an answer, if the user signs commits. Before any lock is taken: a pass phrase may be asked for.
pub(super) fn sign(
    store: &Store,
    decision: &Decision,
    on: On<'_>,
    key: &str,
    text: Option<&str>,
) -> Result<Option<String>, Error> {
    if !store.repo().signs_commits() {
        return Ok(None);
    }
    let on = match on {
        On::Everything => "everything".to_owned(),
        On::Path(path) => format!("path {path}"),
        On::Place(path, place) => format!("place {}", Decision::place_key(path, place)),
    };
    let signature = store.repo().sign(&words(decision, &on, key, text), store.author());
    signature.map(Some).map_err(Error::Sign)
}

/// What is signed: which question, what of it, and what was said.
fn words(decision: &Decision, on: &str, key: &str, text: Option<&str>) -> String {
    let text = text.map_or_else(String::new, |text| {
        let mut digest = Digest::default();
        digest.add(text);
        format!("text {}\n", digest.finish())
    });
    let (id, subject) = (&decision.id, &decision.subject);
    format!("git-orchestra answer\n\ndecision {id}\nsubject {subject}\non {on}\nanswer {key}\n{text}")
}

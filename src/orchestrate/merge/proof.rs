//! How sure it is that somebody gave an answer: a record says any name, a signature says whose key it was.

use super::Error;
use super::answer::On;
use super::digest::Digest;
use crate::git::{Repository, Signature};
use crate::model::{Answer, Decision};
use crate::store::Store;

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
    Unknown,
    /// What is there as a signature is none of this answer.
    Bad,
}

/// An answer that a person gave, and how sure that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// `everything`, `path src/a.rs` or `place src/a.rs:2`.
    pub on: String,
    /// Who, as the record says.
    pub by: String,
    /// How sure.
    pub proof: Proof,
}

/// Looks at the signature of every answer of a decision that a person gave.
pub fn proofs(repo: &Repository, decision: &Decision) -> Result<Vec<Proven>, Error> {
    let whole = decision.answer.iter().map(|answer| ("everything".to_owned(), answer));
    let paths = decision.answers.iter().map(|(path, answer)| (format!("path {path}"), answer));
    let places = decision.places.iter().map(|(place, answer)| (format!("place {place}"), answer));
    let mut proven = Vec::new();
    for (on, answer) in whole.chain(paths).chain(places).filter(|(_, answer)| is_a_persons(answer)) {
        let proof = proof(repo, decision, &on, answer)?;
        proven.push(Proven { on, by: answer.by.clone(), proof });
    }
    Ok(proven)
}

/// Whether a person gave it, and not an agent or a rule, or many together.
fn is_a_persons(answer: &Answer) -> bool {
    let names_a_person = answer.by.ends_with('>');
    names_a_person && answer.like.is_none() && answer.key != super::resolve::PLACES
}

fn proof(repo: &Repository, decision: &Decision, on: &str, answer: &Answer) -> Result<Proof, Error> {
    let Some(signature) = &answer.signature else { return Ok(Proof::Unsigned) };
    let words = words(decision, on, &answer.key, answer.text.as_deref());
    Ok(match repo.check_signature(signature, &words, &answer.by)? {
        Signature::Bad => Proof::Bad,
        Signature::Unknown => Proof::Unknown,
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

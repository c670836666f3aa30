//! What the state says of work that would conflict: one finding for each two agents, open while it is so.

use crate::git::few_paths;
use crate::model::{Agent, Anchor, Finding, FindingStatus, Id, Name, Severity, Timestamp};
use crate::orchestrate::Error;
use crate::store::{Operation, State, Store, Transaction};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// Who noticed it.
const AUTHOR: &str = "radar";
/// How it is closed when they would merge cleanly, and how its words end when one of both has landed. What was closed in
/// other words a person closed.
const CLEAN: &str = "they would merge cleanly again";
const LANDED: &str = "has landed";

/// Writes down that two agents would conflict in `paths`, or, if there are none, that they would not any more. Does
/// nothing where `state` says so already: most looks find nothing, and no lock is taken for that.
pub(super) fn record(
    store: &Store,
    state: &State,
    agent: &Agent,
    other: &Id,
    name: &Name,
    paths: &BTreeSet<String>,
) -> Result<(), Error> {
    let id = finding_of(&agent.id, other);
    if is_said(state.get(&id)?.as_ref(), paths) {
        return Ok(());
    }
    let mut names = [&agent.name, name];
    names.sort();
    let [first, second] = names;
    let store = store.with_operation(Operation::new("radar")?);
    let written = store.transact(|tx| -> Result<(), Error> {
        let known: Option<Finding> = tx.get(&id)?;
        if is_said(known.as_ref(), paths) {
            return Ok(());
        }
        let would = if paths.is_empty() { "merge cleanly" } else { "conflict" };
        tx.describe(format!("finding {}: {first} and {second} would {would}", &id.as_str()[..6]));
        match known {
            Some(known) if paths.is_empty() => close(tx, known, CLEAN)?,
            known => {
                let created = known.map_or(tx.now(), |known| known.created);
                let message = words([first, second], paths);
                tx.put(&finding(id, created, [&agent.id, other], &message, paths))?;
            }
        }
        Ok(())
    });
    written.map(|_| ())
}

/// Whether what is known says it already; where nothing is known, that there is no conflict.
fn is_said(known: Option<&Finding>, paths: &BTreeSet<String>) -> bool {
    known.map_or(paths.is_empty(), |known| says(known, paths))
}

/// Closes what the radar said of agents whose work `what`, a merge, has landed: what is left of it others say.
pub(in crate::orchestrate) fn settle(
    tx: &mut Transaction<'_>,
    agents: &BTreeSet<Id>,
    what: &str,
) -> Result<(), crate::store::Error> {
    for finding in tx.all::<Finding>()? {
        if is_ours(&finding) && finding.status == FindingStatus::Open && !finding.between.is_disjoint(agents)
        {
            close(tx, finding, &format!("{what} {LANDED}"))?;
        }
    }
    Ok(())
}

fn close(tx: &mut Transaction<'_>, finding: Finding, why: &str) -> Result<(), crate::store::Error> {
    tx.put(&Finding { status: FindingStatus::Resolved, resolution: Some(why.to_owned()), ..finding })
}

fn is_ours(finding: &Finding) -> bool {
    finding.author == AUTHOR && finding.between.len() == 2
}

/// Whether a finding says already that there is a conflict in `paths`, as far as it names them, or none. One that a person
/// closed is only opened again for another place.
fn says(known: &Finding, paths: &BTreeSet<String>) -> bool {
    let ours = |why: &String| why == CLEAN || why.ends_with(LANDED);
    let open = known.status == FindingStatus::Open;
    if paths.is_empty() {
        return !open;
    }
    let was_settled = !open && known.resolution.as_ref().is_some_and(ours);
    !was_settled && known.message.ends_with(&few_paths(paths))
}

fn finding(
    id: Id,
    created: Timestamp,
    between: [&Id; 2],
    message: &str,
    paths: &BTreeSet<String>,
) -> Finding {
    Finding {
        anchor: paths.first().map(|path| Anchor { path: path.clone(), line: None }),
        between: between.into_iter().copied().collect(),
        ..Finding::open(id, Severity::Medium, message.to_owned(), AUTHOR, created)
    }
}

fn words([first, second]: [&Name; 2], paths: &BTreeSet<String>) -> String {
    format!("{first} and {second} work on the same lines and would conflict in {}", few_paths(paths))
}

/// The finding of two agents: the same one whoever sees it, and each time.
fn finding_of(one: &Id, other: &Id) -> Id {
    let (first, second) = if one < other { (one, other) } else { (other, one) };
    let digest = Sha256::digest(format!("radar {first} {second}"));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    Id::from_random(u128::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_closed_stays_closed_for_the_same_place() {
        let paths = |of: &[&str]| of.iter().map(|path| (*path).to_owned()).collect::<BTreeSet<_>>();
        let (a, b, none) = (paths(&["a"]), paths(&["a", "b"]), paths(&[]));
        let names: [Name; 2] = ["grey-fox", "red-owl"].map(|name| name.parse().unwrap());
        let ids = [Id::from_random(1), Id::from_random(2)];
        let id = finding_of(&ids[0], &ids[1]);
        assert_eq!(id, finding_of(&ids[1], &ids[0]));
        let open = finding(id, Timestamp(1), [&ids[0], &ids[1]], &words([&names[0], &names[1]], &a), &a);
        assert!(says(&open, &a) && !says(&open, &b) && !says(&open, &none));
        let closed = |why: Option<&str>| Finding {
            status: FindingStatus::Resolved,
            resolution: why.map(str::to_owned),
            ..open.clone()
        };
        for why in [None, Some("we know")] {
            assert!(
                says(&closed(why), &a) && says(&closed(why), &none) && !says(&closed(why), &b),
                "{why:?}"
            );
        }
        for why in [CLEAN, "merge abc has landed"] {
            assert!(!says(&closed(Some(why)), &a) && says(&closed(Some(why)), &none), "{why}");
        }
    }
}

//! What the state says of work that would conflict: one finding for each two agents, open while it is so.

use crate::model::{Agent, Anchor, Finding, FindingStatus, Id, Name, Severity, Timestamp};
use crate::orchestrate::Error;
use crate::store::{Operation, Store, Transaction};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// Who noticed it.
const AUTHOR: &str = "radar";
/// The paths that are named; of the others it is said how many.
const FEW: usize = 3;

/// Writes down that two agents would conflict in `paths`, or, if there are none, that they would not any more. Does
/// nothing where the state says so already.
pub(super) fn record(
    store: &Store,
    agent: &Agent,
    other: &Id,
    name: &Name,
    paths: &BTreeSet<String>,
) -> Result<(), Error> {
    let id = finding_of(&agent.id, other);
    // Most looks find nothing, and nothing was there: no lock is taken for that.
    let known = store.state()?.get::<Finding>(&id)?;
    if known.as_ref().map_or(paths.is_empty(), |known| says(known, paths)) {
        return Ok(());
    }
    let mut names = [&agent.name, name];
    names.sort();
    let [first, second] = names;
    let store = store.with_operation(Operation::new("radar")?);
    let written = store.transact(|tx| -> Result<(), Error> {
        let Some(known) = tx.get::<Finding>(&id)? else {
            if !paths.is_empty() {
                let finding =
                    finding(id, tx.now(), [&agent.id, other], &words([first, second], paths), paths);
                tx.describe(format!("finding {}: {first} and {second} would conflict", &id.as_str()[..6]));
                tx.put(&finding)?;
            }
            return Ok(());
        };
        if says(&known, paths) {
            return Ok(());
        }
        if paths.is_empty() {
            tx.describe(format!("finding {}: {first} and {second} would merge cleanly", &id.as_str()[..6]));
            close(tx, known, "they would merge cleanly again")?;
        } else {
            tx.describe(format!("finding {}: {first} and {second} would conflict", &id.as_str()[..6]));
            let finding = Finding {
                created: known.created,
                ..finding(id, tx.now(), [&agent.id, other], &words([first, second], paths), paths)
            };
            tx.put(&finding)?;
        }
        Ok(())
    });
    written.map(|_| ())
}

/// Closes what the radar said of agents whose work has landed or is gone: what is left of it others say.
pub(in crate::orchestrate) fn settle(
    tx: &mut Transaction<'_>,
    agents: &BTreeSet<Id>,
    why: &str,
) -> Result<(), crate::store::Error> {
    for finding in tx.all::<Finding>()? {
        if is_ours(&finding) && finding.status == FindingStatus::Open && !finding.between.is_disjoint(agents)
        {
            close(tx, finding, why)?;
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

/// Whether a finding says already that there is a conflict in `paths`, as far as it names them, or none.
fn says(known: &Finding, paths: &BTreeSet<String>) -> bool {
    let open = known.status == FindingStatus::Open;
    if paths.is_empty() { !open } else { open && known.message.ends_with(&few(paths)) }
}

fn finding(
    id: Id,
    created: Timestamp,
    between: [&Id; 2],
    message: &str,
    paths: &BTreeSet<String>,
) -> Finding {
    Finding {
        id,
        message: message.to_owned(),
        severity: Severity::Medium,
        status: FindingStatus::Open,
        anchor: paths.first().map(|path| Anchor { path: path.clone(), line: None }),
        commit: None,
        agent: None,
        author: AUTHOR.to_owned(),
        task: None,
        between: between.into_iter().copied().collect(),
        resolution: None,
        created,
    }
}

fn words([first, second]: [&Name; 2], paths: &BTreeSet<String>) -> String {
    format!("{first} and {second} work on the same lines and would conflict in {}", few(paths))
}

/// The first few paths.
pub(super) fn few(paths: &BTreeSet<String>) -> String {
    let named: Vec<&str> = paths.iter().take(FEW).map(String::as_str).collect();
    let more = paths.len() - named.len();
    let named = named.join(", ");
    if more == 0 { named } else { format!("{named} and {more} more") }
}

/// The finding of two agents: the same one whoever sees it, and each time.
fn finding_of(one: &Id, other: &Id) -> Id {
    let (first, second) = if one < other { (one, other) } else { (other, one) };
    let digest = Sha256::digest(format!("radar {first} {second}"));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    Id::from_random(u128::from_be_bytes(bytes))
}

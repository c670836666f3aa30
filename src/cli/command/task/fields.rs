//! What `task add` and `task edit` have in common.

use crate::cli::error::{CliError, ErrorKind};
use crate::model::{Id, Kind, Task};
use crate::store::{State, Transaction};
use std::collections::BTreeSet;

/// A title: one line that is not empty.
pub(super) fn title(text: &str) -> Result<String, CliError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(CliError::usage("a task needs a title"));
    }
    if text.contains('\n') {
        return Err(CliError::usage("a title is one line; the rest goes into the description (-m)"));
    }
    Ok(text.to_owned())
}

/// Globs of paths in the repository.
pub(super) fn globs(globs: &[String]) -> Result<BTreeSet<String>, CliError> {
    let mut found = BTreeSet::new();
    for glob in globs {
        let glob = glob.strip_prefix("./").unwrap_or(glob);
        if glob.starts_with('/') || glob.split('/').any(|part| part == "..") {
            return Err(CliError::usage(format!(
                "`{glob}` is no path in the repository: globs start at its root, without `/` and `..`"
            )));
        }
        globset::Glob::new(glob)
            .map_err(|error| CliError::failed(format!("`{glob}` is no glob"), error).kind(ErrorKind::Usage))?;
        found.insert(glob.to_owned());
    }
    Ok(found)
}

/// The tasks that ids or prefixes name.
pub(super) fn tasks(state: &State, texts: &[String]) -> Result<Vec<Id>, CliError> {
    texts.iter().map(|text| Ok(state.resolve(text, Some(Kind::Task))?.id)).collect()
}

/// Refuses `task` if it would come after itself, naming the way round.
pub(super) fn refuse_cycle(tx: &Transaction<'_>, task: &Task) -> Result<(), CliError> {
    // Depth first along `after`, the way so far on the stack; one record is read for each task on it.
    let mut way = vec![(task.id, task.after.iter().copied().collect::<Vec<_>>())];
    let mut seen = BTreeSet::new();
    while let Some((_, next)) = way.last_mut() {
        let Some(id) = next.pop() else {
            way.pop();
            continue;
        };
        if id == task.id {
            let mut round = Vec::new();
            for id in way.iter().map(|(id, _)| id).chain([&task.id]) {
                let title = if *id == task.id { Some(task.title.clone()) } else { title_of(tx, id)? };
                round.push(format!("{} ({})", &id.as_str()[..Id::MIN_PREFIX], title.as_deref().unwrap_or("?")));
            }
            return Err(CliError::new(
                ErrorKind::Failed,
                format!("the task would come after itself: {}", round.join(" after ")),
            ));
        }
        if seen.insert(id) {
            let after = tx.get::<Task>(&id)?.map(|other| other.after.into_iter().collect()).unwrap_or_default();
            way.push((id, after));
        }
    }
    Ok(())
}

fn title_of(tx: &Transaction<'_>, id: &Id) -> Result<Option<String>, CliError> {
    Ok(tx.get::<Task>(id)?.map(|task| task.title))
}

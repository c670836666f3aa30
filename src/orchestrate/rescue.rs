//! Rescue refs: where work goes that would otherwise be lost.

use super::Error;
use crate::git::Repository;
use crate::model::Name;
use crate::store::RESCUE_REFS;

/// The next free rescue ref of an agent: `refs/orchestra/rescue/<agent>/<n>`.
pub fn next_rescue_ref(repo: &Repository, agent: &Name) -> Result<String, Error> {
    let prefix = format!("{RESCUE_REFS}{agent}/");
    let taken = repo.list_refs(&prefix)?;
    let last = taken.iter().filter_map(|(name, _)| name.strip_prefix(&prefix)?.parse::<u64>().ok()).max();
    Ok(format!("{prefix}{}", last.unwrap_or(0) + 1))
}

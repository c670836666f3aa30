//! Where everything is: ref names, and paths in the state's tree.

use crate::model::{Id, Kind, Timestamp};

/// All current state.
pub const STATE_REF: &str = "refs/orchestra/state";
/// Findings as notes on the commits they speak of.
pub const FINDINGS_NOTES: &str = "refs/notes/orchestra/findings";
/// Which agent, task and run made a commit.
pub const PROVENANCE_NOTES: &str = "refs/notes/orchestra/provenance";
/// What would otherwise be lost before a destructive step: `<agent>/<n>` follows.
pub const RESCUE_REFS: &str = "refs/orchestra/rescue/";

/// Transcripts: `<machine>/<year>-W<week>` follows.
pub const LOG_REFS: &str = "refs/orchestra/log/";

/// The format that this build reads and writes.
pub(super) const FORMAT: u64 = 1;
/// The gates of the format.
pub(super) const FORMAT_PATH: &str = "format.json";
/// Old closed tasks, below it as outside of it.
pub(super) const ARCHIVE: &str = "archive";
/// How to read the state with plain git.
pub(super) const README_PATH: &str = "README.md";

/// The text of [`README_PATH`].
pub(super) const README: &str = "\
# The state of this repository's orchestra

Written by `git orchestra`. One JSON file an entity, one commit a change:

    git log refs/orchestra/state                                   what happened
    git ls-tree -r --name-only refs/orchestra/state                what there is
    git show refs/orchestra/state:tasks/k/3/k3….json               one task
    git ls-tree -r --name-only refs/orchestra/state archive/       old closed tasks
    git log --notes='orchestra/*'                                  findings and provenance on commits

`_s` holds the stamp (milliseconds-counter-machine) of each field's last write. Change nothing by hand:
`git orchestra` merges by these stamps.
";

/// The path of an entity in the state's tree: sharded by the first two characters of its id, so that an id or a
/// prefix of one is found by reading one directory.
pub(super) fn entity_path(kind: Kind, id: &Id) -> String {
    let text = id.as_str();
    format!("{}/{}/{}/{text}.json", kind.directory(), &text[..1], &text[1..2])
}

/// The path of an entity that is archived.
pub(super) fn archive_path(kind: Kind, id: &Id) -> String {
    format!("{ARCHIVE}/{}", entity_path(kind, id))
}

/// The ref that holds the transcripts of a machine's runs of one ISO week: `refs/orchestra/log/<machine>/2026-W47`.
pub fn log_ref(machine: &str, at: Timestamp) -> String {
    let millis = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_millisecond(millis).unwrap_or_default();
    let week = time.to_zoned(jiff::tz::TimeZone::UTC).date().iso_week_date();
    format!("{LOG_REFS}{machine}/{}-W{:02}", week.year(), week.week())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weeks_are_those_of_iso_8601() {
        // 2027-01-01 is a Friday of the last week of 2026.
        assert_eq!(log_ref("m1", Timestamp(1_798_761_600_000)), "refs/orchestra/log/m1/2026-W53");
        assert_eq!(log_ref("m1", Timestamp(1_763_596_800_000)), "refs/orchestra/log/m1/2025-W47");
    }

    #[test]
    fn entities_are_sharded_by_their_first_two_characters() {
        let id: Id = "k3v8w0000000000z".parse().unwrap();
        assert_eq!(entity_path(Kind::Task, &id), "tasks/k/3/k3v8w0000000000z.json");
    }
}

//! Lock files. Some are merged by what they list instead of by lines, without running a program: what cannot be put
//! together for certain stays a conflict. The others, and that, their own programs write again from the merged
//! manifests, if the user allows it ([`LockTools`]).
//!
//! Taking one side of `Cargo.lock` and locking again lost 155 of 479 versions that the other side had added
//! (12 real pairs); merging the lists loses none that is still needed. So programs too begin with both sides' entries.

mod again;
mod cargo;
mod go;
mod stage;
mod start;
mod tool;

pub(in super::super) use again::Locked;
pub use again::{LockTools, NotLocked};
pub use stage::{left_behind, mend};

/// Merges base, what has landed, and the branch's version; `None` if somebody has to look.
pub(super) type Merge = fn(&str, &str, &str) -> Option<String>;

/// The rule for a path, by the file's name.
pub(super) fn rule(path: &str) -> Option<(&'static str, Merge)> {
    match path.rsplit('/').next()? {
        "Cargo.lock" => Some(("Cargo.lock by packages", cargo::merge)),
        "go.sum" => Some(("go.sum by lines", go::merge)),
        _ => None,
    }
}

/// One value, or its absence, in three versions: what only one side changed is as that side has it.
#[expect(clippy::option_option, reason = "it is gone after the merge, or nobody can tell")]
fn three_way<T: PartialEq>(base: Option<T>, ours: Option<T>, theirs: Option<T>) -> Option<Option<T>> {
    match (base, ours, theirs) {
        (base, ours, theirs) if ours == theirs || theirs == base => Some(ours),
        (base, ours, theirs) if ours == base => Some(theirs),
        _ => None,
    }
}

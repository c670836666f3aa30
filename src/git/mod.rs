//! Git: the only place that names gix or runs git.
//!
//! gix reads and writes objects; `git` itself moves refs (but for the simplest move, see `ref_lock`), merges, and does
//! whatever touches a working copy. (gix 0.90 must not write refs: on a reftable repository it reports success for a ref that git never sees, and
//! a kill leaves `packed-refs.lock` behind.)

mod ancestry;
mod astray;
mod checkout;
mod commit;
mod detached;
mod diff;
mod driver;
mod error;
mod fingerprint;
mod forward;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod graph;
mod grep;
mod include;
mod inventory;
mod leftover;
mod loose;
mod mend;
mod merge;
mod note;
mod object;
mod outgoing;
mod pack;
mod path;
mod power;
mod ref_files;
mod ref_lock;
mod reference;
mod remote;
mod repository;
mod run;
mod scratch;
mod signature;
mod sparse;
mod sync;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod three_way;
mod together;
mod worktree;

pub use ancestry::Ancestry;
pub use astray::Astray;
pub use commit::{Commit, Identity, NewCommit};
pub use diff::{ChangeStatus, Contents, DiffStat, FileChange, Hunk};
pub use driver::Driver;
pub use error::Error;
pub use fingerprint::Fingerprint;
pub use graph::Touching;
pub use include::INCLUDE_FILE;
pub use inventory::{ObjectCounts, RepositoryKind};
pub use leftover::{Detour, Ignored, Leftover, NewLeftover, WorktreeStatus};
pub use mend::{LockFile, Relinked};
pub use merge::{Favour, FileMerge, MergeMessage, MergeTree};
pub use note::{NoteEdit, NoteLines};
pub use object::{EntryMode, TreeEdit, TreeEntry};
pub use outgoing::{Brought, BroughtFile};
pub use path::{few_paths, path_text, text_path};
pub use ref_lock::RefLock;
pub use reference::{Expected, Mover, RefEdit};
pub use remote::{FetchAnswer, FetchSpec, Lease, LeasedSpec, PushAnswer, PushSpec, SwapOptions, Trouble};
pub use repository::{ConfigEntry, Head, Repository};
pub use signature::Signature;
pub use three_way::{ThreeWay, ThreeWays};
pub use worktree::{Checkout, Mended, NewWorktree, Worktree};

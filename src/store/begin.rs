//! The first commit of a state: its format, and how to read it with plain git.

use super::layout::{FORMAT, FORMAT_PATH, README, README_PATH};
use super::state::Format;
use super::{Error, STATE_REF, Store, local, tip};
use crate::git::{self, EntryMode, Expected, RefEdit};
use crate::model::{ObjectId, Timestamp};

impl Store {
    /// Makes the state if there is none. Returns whether it did.
    pub fn init(&self) -> Result<bool, Error> {
        if self.is_initialised()? {
            return Ok(false);
        }
        let _lock = local::lock(self.repo())?;
        if self.is_initialised()? {
            return Ok(false);
        }
        if let Some(commit) = tip::lost(self.repo()) {
            return Err(Error::StateGone { commit });
        }
        let actor = self.machine()?;
        let mut written = Vec::new();
        let commit = self.first_commit(&actor, self.clock().now(), &mut written)?;
        self.repo().sync_objects(&written)?;
        let edit = RefEdit { name: STATE_REF.to_owned(), new: Some(commit), expected: Expected::Absent };
        match self.move_refs(&[edit]) {
            Ok(()) => Ok(true),
            Err(Error::Git(git::Error::RefMoved { .. })) => Ok(false),
            Err(e) => Err(e),
        }
    }

    pub(super) fn first_commit(
        &self,
        actor: &str,
        now: Timestamp,
        written: &mut Vec<ObjectId>,
    ) -> Result<ObjectId, Error> {
        let format = Format { number: FORMAT, min_read: FORMAT, min_write: FORMAT, epoch: 0, floor: 0 };
        let mut format = serde_json::to_vec_pretty(&format).expect("integers serialise");
        format.push(b'\n');
        let mut edits = Vec::new();
        for (path, content) in [(FORMAT_PATH, format.as_slice()), (README_PATH, README.as_bytes())] {
            let blob = self.repo().write_blob(content)?;
            written.push(blob.clone());
            edits.push((path.to_owned(), Some((EntryMode::Blob, blob))));
        }
        let (tree, trees) = self.repo().edit_tree(None, &edits)?;
        written.extend(trees);
        let message = format!("orchestra: init\n\nOrchestra-Nonce: {:032x}\n", local::random_u128()?);
        self.write_commit(actor, now, &tree, &[], &message, written)
    }
}

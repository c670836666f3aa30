//! The journal of one run as its supervisor writes it: bounded, and never a reason for the run to end.

use super::record::chain;
use crate::model::{Event, EventKind};
use crate::process::Clock;
use crate::store::journal::{EntryRef, Writer};

/// The most bytes of a journal, but for the gist of what follows: it becomes objects of the repository.
const LIMIT: u64 = 64 << 20;

/// The journal, once there is one.
#[derive(Debug, Default)]
pub(super) struct Notebook {
    writer: Option<Writer>,
    /// Whether it has all it may have.
    full: bool,
}

impl Notebook {
    pub(super) fn begin(&mut self, writer: Writer) {
        self.writer = Some(writer);
    }

    /// Whether there is one.
    pub(super) const fn has_begun(&self) -> bool {
        self.writer.is_some()
    }

    /// Adds an entry, and returns its number if it is kept. A journal that cannot be written (the disk is full) does
    /// not end the run; the next flush says so.
    pub(super) fn write(&mut self, clock: &dyn Clock, entry: EntryRef<'_>) -> Option<u64> {
        let journal = self.writer.as_mut()?;
        let full = journal.size() > LIMIT;
        if full && !self.full {
            let text =
                format!("it says too much: of what follows only the gist is kept ({} MiB are)", LIMIT >> 20);
            let notice = Event { at: clock.now(), parent: None, kind: EventKind::Notice { text } };
            let _ = kept(journal.append(EntryRef::Event(&notice)));
        }
        self.full = full;
        if full && !is_gist(entry) {
            return None;
        }
        kept(journal.append(entry))
    }

    /// Hands everything to the system, so that followers see it.
    pub(super) fn flush(&mut self) {
        if let Some(journal) = &mut self.writer {
            kept(journal.flush());
        }
    }

    pub(super) fn take(&mut self) -> Option<Writer> {
        self.writer.take()
    }
}

fn kept<T>(written: Result<T, crate::store::Error>) -> Option<T> {
    written.inspect_err(|error| tracing::warn!("{}", chain(error))).ok()
}

/// What is kept of a run that floods its journal: how it goes, not what it says.
const fn is_gist(entry: EntryRef<'_>) -> bool {
    let EntryRef::Event(event) = entry else { return false };
    matches!(
        event.kind,
        EventKind::Ready { .. }
            | EventKind::Usage { .. }
            | EventKind::Result { .. }
            | EventKind::PermissionAsked { .. }
            | EventKind::PermissionWithdrawn { .. }
            | EventKind::PermissionDenied { .. }
            | EventKind::Parked { .. }
            | EventKind::Interrupted {}
            | EventKind::Exited { .. }
    )
}

//! What a thing is known by when it comes up again: a hash over fields, none of which can run into the next.

use sha2::{Digest as _, Sha256};

/// SHA-256 over fields, each after its length.
#[derive(Debug, Default)]
pub(super) struct Digest(Sha256);

impl Digest {
    /// Adds a field.
    pub(super) fn add(&mut self, field: impl AsRef<[u8]>) {
        let field = field.as_ref();
        self.0.update(u64::try_from(field.len()).expect("lengths fit").to_be_bytes());
        self.0.update(field);
    }

    /// Over all of `fields`, in 40 characters: enough for what one repository is asked.
    pub(super) fn short(fields: &[impl AsRef<[u8]>]) -> String {
        let mut digest = Self::default();
        digest.extend(fields);
        let mut text = digest.finish();
        text.truncate(40);
        text
    }

    /// In lower-case hexadecimal, 64 characters.
    pub(super) fn finish(self) -> String {
        format!("{:x}", self.0.finalize())
    }
}

impl<F: AsRef<[u8]>> Extend<F> for Digest {
    fn extend<T: IntoIterator<Item = F>>(&mut self, fields: T) {
        fields.into_iter().for_each(|field| self.add(field));
    }
}

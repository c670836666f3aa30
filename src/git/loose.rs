//! Small loose objects, written without compressing them.
//!
//! What a change writes are a handful of objects of a few hundred bytes. To compress one of them costs a good part of
//! a short command, most of it for clearing the compressor's quarter of a megabyte; and saves nothing, because a file
//! takes up a whole block anyway. A zlib stream may hold its bytes as they are (RFC 1950 and 1951, "stored"), as git
//! itself writes them with `core.looseCompression=0`. When they are packed, git compresses them.

use super::object::from_gix;
use super::{Error, Repository};
use crate::model::ObjectId;
use gix::objs::{Kind, Write as _, encode::loose_header};
use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// What a file of one block holds, on the file systems in use.
const BLOCK: usize = 4096;

/// The two bytes that begin a zlib stream with a window of 32 KiB whose compressor made no effort.
const ZLIB: [u8; 2] = [0x78, 0x01];

/// The byte that begins the last block of a stream, if its bytes are stored as they are.
const LAST_STORED: u8 = 1;

/// The bytes that a stored stream has beside its content: begin, block with two lengths, checksum.
const OVERHEAD: usize = ZLIB.len() + 1 + 2 * size_of::<u16>() + size_of::<u32>();

/// The whole file of a loose object; `None` if compressing it may save a block.
fn encode(kind: Kind, content: &[u8]) -> Option<Vec<u8>> {
    let header = loose_header(kind, content.len() as u64);
    let total = header.len() + content.len();
    if total + OVERHEAD > BLOCK {
        return None;
    }
    let length = u16::try_from(total).ok()?;
    let mut checksum = adler2::Adler32::new();
    let mut file = Vec::with_capacity(total + OVERHEAD);
    file.extend(ZLIB);
    file.push(LAST_STORED);
    file.extend(length.to_le_bytes());
    file.extend((!length).to_le_bytes());
    for part in [&header, content] {
        checksum.write_slice(part);
        file.extend(part);
    }
    file.extend(checksum.checksum().to_be_bytes());
    Some(file)
}

impl Repository {
    /// Writes an object as a loose file: small ones as they are, also if they are there already, which keeps them from
    /// being pruned. It is not on disk for good until [`Repository::sync_objects`].
    pub(super) fn write_object(&self, kind: Kind, content: &[u8]) -> Result<ObjectId, Error> {
        let what = match kind {
            Kind::Blob => "blob",
            Kind::Tree => "tree",
            Kind::Commit => "commit",
            Kind::Tag => "tag",
        };
        let id = gix::objs::compute_hash(self.gix.object_hash(), kind, content)
            .map_err(|e| Error::write(what, e))?;
        match encode(kind, content) {
            Some(file) => {
                write(&self.object_path(&from_gix(&id)), &file).map_err(|e| Error::write(what, e))?;
            }
            None if self.gix.has_object(id) => {}
            None => {
                let written = self.gix.objects.write_buf_with_known_id(kind, content, id);
                written.map_err(|e| Error::write(what, e))?;
            }
        }
        Ok(from_gix(&id))
    }

    /// Where an object's loose file is, if it has one.
    pub(super) fn object_path(&self, id: &ObjectId) -> PathBuf {
        let (first, rest) = id.as_str().split_at(2);
        self.common_dir().join("objects").join(first).join(rest)
    }
}

/// Puts a file into place whole. What a killed process leaves has the name that git looks for when it cleans up.
fn write(path: &Path, content: &[u8]) -> Result<(), Error> {
    let failed = |e| Error::file("write", path, e);
    let directory = path.parent().unwrap_or(path);
    match std::fs::create_dir(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("tmp_obj_").permissions(Permissions::from_mode(0o444));
    let mut file = builder.tempfile_in(directory).map_err(failed)?;
    file.write_all(content).map_err(failed)?;
    file.persist(path).map_err(|e| failed(e.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::testing::Sandbox;

    #[test]
    fn git_reads_every_size_on_both_sides_of_a_block() {
        for format in ["sha1", "sha256"] {
            let sandbox = Sandbox::new(&["--object-format", format]);
            let repo = sandbox.open();
            for size in [0, 1, 300, 4000, 4075, 4076, 4096, 70_000] {
                // Nothing that compresses well, so that a file's size tells whether it was compressed.
                let content: Vec<u8> =
                    (0..size).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
                let id = repo.write_blob(&content).unwrap();
                let file = std::fs::metadata(repo.object_path(&id)).unwrap();
                let stored = std::fs::read(repo.object_path(&id)).unwrap()[2] == LAST_STORED;
                assert_eq!(stored, size < 4076, "{size}");
                assert!(!stored || file.len() <= BLOCK as u64, "{size}");
                assert_eq!(repo.read_blob(&id).unwrap(), content);
                assert_eq!(sandbox.git(&["cat-file", "-s", id.as_str()]), size.to_string());
                let path = sandbox.dir.path().join("content");
                std::fs::write(&path, &content).unwrap();
                assert_eq!(sandbox.git(&["hash-object", path.to_str().unwrap()]), id.as_str());
                assert_eq!(repo.write_blob(&content).unwrap(), id, "twice is no error");
            }
            assert_eq!(sandbox.git(&["fsck", "--strict", "--no-dangling"]), "");
        }
    }
}

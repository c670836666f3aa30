//! Objects: read by gix, written by gix or as they are (see `loose`), synced to disk by us.

use super::sync::{keeps_names, sync_all};
use super::{Error, Repository};
use crate::model::ObjectId;
use bstr::{BString, ByteSlice};
use gix::objs::{FindExt, Kind, TreeRefIter, WriteTo, tree::EntryKind};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// What it is.
    pub mode: EntryMode,
    /// Its name, without a slash; any bytes but NUL.
    pub name: BString,
    /// The object.
    pub id: ObjectId,
}

/// The mode of a tree entry, as git knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryMode {
    /// A directory, `040000`.
    Tree,
    /// A file, `100644`.
    Blob,
    /// An executable file, `100755`.
    Executable,
    /// A symbolic link, `120000`.
    Link,
    /// A submodule, `160000`.
    Submodule,
}

/// One change to a tree: what the path (with `/`) becomes; `None` removes it.
pub type TreeEdit = (String, Option<(EntryMode, ObjectId)>);

impl EntryMode {
    const fn kind(self) -> EntryKind {
        match self {
            Self::Tree => EntryKind::Tree,
            Self::Blob => EntryKind::Blob,
            Self::Executable => EntryKind::BlobExecutable,
            Self::Link => EntryKind::Link,
            Self::Submodule => EntryKind::Commit,
        }
    }

    pub(super) const fn from_kind(kind: EntryKind) -> Self {
        match kind {
            EntryKind::Tree => Self::Tree,
            EntryKind::Blob => Self::Blob,
            EntryKind::BlobExecutable => Self::Executable,
            EntryKind::Link => Self::Link,
            EntryKind::Commit => Self::Submodule,
        }
    }

    /// Whether it is a file with lines: plain or executable.
    pub const fn is_file(self) -> bool {
        matches!(self, Self::Blob | Self::Executable)
    }

    /// The mode of a number as git prints it in octal; unknown ones are plain files.
    pub const fn from_octal(mode: u32) -> Self {
        match mode {
            0o040_000 => Self::Tree,
            0o100_755 => Self::Executable,
            0o120_000 => Self::Link,
            0o160_000 => Self::Submodule,
            _ => Self::Blob,
        }
    }
}

pub(super) fn to_gix(id: &ObjectId) -> gix::ObjectId {
    gix::ObjectId::from_hex(id.as_str().as_bytes())
        .expect("an ObjectId holds hexadecimal digits of a known length")
}

pub(super) fn from_gix(id: &gix::oid) -> ObjectId {
    id.to_hex().to_string().parse().expect("gix prints object ids in full")
}

impl Repository {
    /// The content of a blob.
    pub fn read_blob(&self, id: &ObjectId) -> Result<Vec<u8>, Error> {
        let mut buffer = Vec::new();
        again(|| self.gix.objects.find_blob(&to_gix(id), &mut buffer).map(|_| ()))
            .map_err(|e| Error::read("blob", id, e))?;
        // `find_blob` leaves exactly the object's bytes in the buffer.
        Ok(buffer)
    }

    /// The size of an object in bytes, without reading it.
    pub fn object_size(&self, id: &ObjectId) -> Result<u64, Error> {
        self.gix.find_header(to_gix(id)).map(|header| header.size()).map_err(|e| Error::read("object", id, e))
    }

    /// The entries of a tree, in git's order.
    pub fn read_tree(&self, id: &ObjectId) -> Result<Vec<TreeEntry>, Error> {
        let bytes = self.read_raw_tree(id)?;
        entries(TreeRefIter::from_bytes(&bytes, self.gix.object_hash()), id)
    }

    fn read_raw_tree(&self, id: &ObjectId) -> Result<Vec<u8>, Error> {
        let mut buffer = Vec::new();
        self.find_raw_tree(to_gix(id), &mut buffer)?;
        Ok(buffer)
    }

    /// The bytes of a tree, also of one that lies in the scratch directory.
    pub(super) fn find_raw_tree(&self, id: gix::ObjectId, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let failed = |e: gix::Error| Error::read("tree", &from_gix(&id), e);
        if self.find_in_scratch(&id, buffer).map_err(failed)? {
            return Ok(());
        }
        again(|| self.gix.objects.find_tree_iter(&id, buffer).map(|_| ())).map_err(failed)
    }

    /// The bytes of a commit, also of one that lies in the scratch directory.
    pub(super) fn find_raw_commit(&self, id: gix::ObjectId, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let failed = |e: gix::Error| Error::read("commit", &from_gix(&id), e);
        if self.find_in_scratch(&id, buffer).map_err(failed)? {
            return Ok(());
        }
        again(|| self.gix.objects.find_commit(&id, buffer).map(|_| ())).map_err(failed)
    }

    fn find_in_scratch(&self, id: &gix::oid, buffer: &mut Vec<u8>) -> Result<bool, gix::Error> {
        let Some(scratch) = &self.scratch else { return Ok(false) };
        let loose = gix::odb::loose::Store::at(&**scratch, id.kind());
        loose.try_find(id, buffer).map(|found| found.is_some())
    }

    /// The object at `path` below a tree; `None` if there is none.
    pub fn find_in_tree(&self, tree: &ObjectId, path: impl AsRef<[u8]>) -> Result<Option<TreeEntry>, Error> {
        let mut at = tree.clone();
        let mut parts = path.as_ref().split_str("/").peekable();
        while let Some(part) = parts.next() {
            let bytes = self.read_raw_tree(&at)?;
            let iter = TreeRefIter::from_bytes(&bytes, self.gix.object_hash());
            let mut found = None;
            for entry in iter {
                let entry = entry.map_err(|e| Error::read("tree", &at, e))?;
                if entry.filename == part {
                    found = Some(TreeEntry {
                        mode: EntryMode::from_kind(entry.mode.kind()),
                        name: entry.filename.to_owned(),
                        id: from_gix(entry.oid),
                    });
                    break;
                }
            }
            match found {
                Some(entry) if parts.peek().is_none() => return Ok(Some(entry)),
                Some(entry) if entry.mode == EntryMode::Tree => at = entry.id,
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Whether an object is in the database.
    pub fn has_object(&self, id: &ObjectId) -> bool {
        self.gix.has_object(to_gix(id))
    }

    /// Whether an object is in the database and a commit.
    ///
    /// # Errors
    /// If that cannot be known: [`Repository::has_object`] says no then.
    pub(super) fn is_commit(&self, id: &ObjectId) -> Result<bool, Error> {
        let header = again(|| self.gix.try_find_header(to_gix(id)));
        let header = header.map_err(|e| Error::read("commit", id, e))?;
        Ok(header.is_some_and(|header| header.kind() == Kind::Commit))
    }

    /// Writes a blob. It is not on disk for good until [`Repository::sync_objects`].
    pub fn write_blob(&self, content: &[u8]) -> Result<ObjectId, Error> {
        persist(|| self.write_object(Kind::Blob, content))
    }

    /// Applies `edits` to `root` (an empty tree if `None`) and writes every tree that changed. Returns the new
    /// root, and all trees that were written, for [`Repository::sync_objects`].
    ///
    /// The paths may be any bytes ([`TreeEdit`] is the usual form).
    pub fn edit_tree<P: AsRef<[u8]>>(
        &self,
        root: Option<&ObjectId>,
        edits: &[(P, Option<(EntryMode, ObjectId)>)],
    ) -> Result<(ObjectId, Vec<ObjectId>), Error> {
        again(|| self.edit_tree_once(root, edits))
    }

    fn edit_tree_once<P: AsRef<[u8]>>(
        &self,
        root: Option<&ObjectId>,
        edits: &[(P, Option<(EntryMode, ObjectId)>)],
    ) -> Result<(ObjectId, Vec<ObjectId>), Error> {
        let failed = |e: gix::Error| Error::write("tree", e);
        let root = match root {
            Some(id) => {
                let mut buffer = Vec::new();
                let tree = self.gix.objects.find_tree(&to_gix(id), &mut buffer);
                tree.map_err(|e| Error::read("tree", id, e))?.into_owned()
            }
            None => gix::objs::Tree::empty(),
        };
        let mut editor = gix::objs::tree::Editor::new(root, &self.gix.objects, self.gix.object_hash());
        for (path, entry) in edits {
            let parts = path.as_ref().split_str("/").map(ByteSlice::as_bstr);
            match entry {
                Some((mode, id)) => editor.upsert(parts, mode.kind(), to_gix(id)).map_err(failed)?,
                None => editor.remove(parts).map_err(failed)?,
            };
        }
        let mut written = Vec::new();
        let root = editor.write(|tree| {
            let mut content = Vec::new();
            tree.write_to(&mut content).map_err(|e| Error::write("tree", e))?;
            let id = persist(|| self.write_object(Kind::Tree, &content))?;
            written.push(id.clone());
            Ok::<_, Error>(to_gix(&id))
        })?;
        Ok((from_gix(&root), written))
    }

    pub(super) fn write_raw_commit(&self, content: &[u8]) -> Result<ObjectId, Error> {
        persist(|| self.write_object(Kind::Commit, content))
    }

    /// The bytes of a commit object.
    pub(super) fn read_raw_commit(&self, id: &ObjectId) -> Result<Vec<u8>, Error> {
        let mut buffer = Vec::new();
        self.find_raw_commit(to_gix(id), &mut buffer)?;
        Ok(buffer)
    }

    /// Waits until `ids` are on disk for good: their contents, and the directories that name them.
    ///
    /// Nothing is ordered among them: whoever calls this names them in a ref only afterwards. An object that has no
    /// loose file was packed before, by git, which syncs its packs.
    ///
    /// # Errors
    /// Also if one of them is not there at all.
    pub fn sync_objects<'a>(&self, ids: impl IntoIterator<Item = &'a ObjectId>) -> Result<(), Error> {
        self.sync_objects_and(None, ids)
    }

    /// The same, together with a file that is no object.
    pub fn sync_objects_and<'a>(
        &self,
        file: Option<&Path>,
        ids: impl IntoIterator<Item = &'a ObjectId>,
    ) -> Result<(), Error> {
        let mut paths: BTreeSet<PathBuf> = file.into_iter().map(Path::to_owned).collect();
        let mut directories = BTreeSet::new();
        for id in ids {
            let path = self.object_path(id);
            if path.exists() {
                directories.extend(path.parent().map(Path::to_owned));
                paths.insert(path);
            } else if !self.has_object(id) {
                return Err(Error::file("sync", path, std::io::ErrorKind::NotFound.into()));
            }
        }
        let objects = self.common_dir().join("objects");
        if keeps_names(&objects) {
            directories.clear();
        } else if !directories.is_empty() {
            directories.insert(objects);
        }
        paths.append(&mut directories);
        sync_all(&paths.into_iter().collect::<Vec<_>>()).map_err(|(path, e)| Error::file("sync", path, e))
    }
}

/// How often an object is written again whose directory went meanwhile.
const ATTEMPTS: u32 = 10;

/// Writes an object, and again when it failed: `git gc` removes empty directories of objects, also the one that gix
/// has just made for this very object. What cannot be written at all fails as often.
fn persist<T, E>(mut write: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let mut written = write();
    for _ in 1..ATTEMPTS {
        if written.is_ok() {
            break;
        }
        written = write();
    }
    written
}

/// Reads again what is not there, for a tenth of a second: a `git gc` that moves objects from one pack to another hides
/// them from whoever knows the first one and does not know the second one yet.
fn again<T, E>(mut read: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let mut pause = Duration::from_millis(3);
    while pause < Duration::from_millis(60) {
        if let Ok(found) = read() {
            return Ok(found);
        }
        std::thread::sleep(pause);
        pause *= 2;
    }
    read()
}

fn entries(tree: TreeRefIter<'_>, id: &ObjectId) -> Result<Vec<TreeEntry>, Error> {
    tree.map(|entry| {
        let entry = entry.map_err(|e| Error::read("tree", id, e))?;
        Ok(TreeEntry {
            mode: EntryMode::from_kind(entry.mode.kind()),
            name: entry.filename.as_bytes().into(),
            id: from_gix(entry.oid),
        })
    })
    .collect()
}

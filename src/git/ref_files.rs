//! Refs where they are files, read so that a file which cannot be read is never taken for a ref that is not there.
//!
//! git takes it for that: with no file descriptor left `rev-parse --verify --quiet` ends as it does for a missing ref,
//! and `for-each-ref` leaves out what it cannot open. Both leave out a file that names no object; of refs that only we
//! write that is an error too. Loose files are read first and `packed-refs` after them: that is
//! the order in which no `git pack-refs` hides a ref. Moves none.

use super::object::from_gix;
use super::{Error, Repository};
use crate::model::ObjectId;
use bstr::ByteSlice;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// How many symbolic refs may lead to one another: as many as git follows.
const MAX_DEPTH: usize = 5;
/// The refs that nobody but us writes.
const OURS: &str = "refs/orchestra/";
/// Below these each worktree has refs of its own.
const PER_WORKTREE: [&str; 3] = ["refs/bisect/", "refs/rewritten/", "refs/worktree/"];

/// What the file of a ref says.
pub(super) enum Loose {
    /// There is none.
    Absent,
    /// Where it points; `None` if it says nothing that git would follow, as after a power cut.
    Says(Option<Target>),
}

pub(super) enum Target {
    Object(ObjectId),
    Ref(String),
}

impl Repository {
    /// Where refs (full names) point, unpeeled, in the order of `names`; `None` for what is not there or broken.
    ///
    /// # Errors
    /// If a file could not be read, for any other reason than that it is not there; or if a ref of ours is broken.
    pub(super) fn read_refs(&self, names: &[&str]) -> Result<Vec<Option<ObjectId>>, Error> {
        self.read_refs_within(names, MAX_DEPTH)
    }

    fn read_refs_within(&self, names: &[&str], depth: usize) -> Result<Vec<Option<ObjectId>>, Error> {
        let mut found = Vec::with_capacity(names.len());
        let (mut packed, mut read) = (None, false);
        for name in names {
            let target = match self.read_loose(&self.ref_path(name))? {
                Loose::Says(None) if name.starts_with(OURS) => return Err(self.broken(name)),
                Loose::Says(target) => target,
                Loose::Absent => {
                    // Opened anew, and only now.
                    if !read {
                        packed = self.packed_refs()?;
                        read = true;
                    }
                    let entry = match &packed {
                        Some(packed) => packed.try_find(*name).map_err(|e| self.unread(e))?,
                        None => None,
                    };
                    entry.map(|entry| Target::Object(from_gix(&entry.target())))
                }
            };
            found.push(match target {
                Some(Target::Object(id)) => Some(id),
                Some(Target::Ref(other)) if depth > 0 => {
                    self.read_refs_within(&[&other], depth - 1)?.pop().flatten()
                }
                Some(Target::Ref(_)) | None => None,
            });
        }
        Ok(found)
    }

    /// All refs whose full names start with `prefix` (which ends with `/`), unpeeled and sorted by name. What is broken
    /// is left out, as git does, but for refs of ours.
    ///
    /// # Errors
    /// If a file or directory could not be read, for any other reason than that it is not there; or if a ref of ours is
    /// broken.
    pub(super) fn read_refs_below(&self, prefix: &str) -> Result<Vec<(String, ObjectId)>, Error> {
        let mut loose = BTreeMap::new();
        let mut queue = vec![(self.ref_path(prefix), prefix.to_owned())];
        while let Some((dir, prefix)) = queue.pop() {
            let entries = match std::fs::read_dir(&dir) {
                Ok(entries) => entries,
                Err(e) if is_absent(&e) => continue,
                Err(e) => return Err(Error::file("read", dir, e)),
            };
            for entry in entries {
                let entry = entry.map_err(|e| Error::file("read", &dir, e))?;
                // Names that are no UTF-8 are none of ours.
                let Ok(name) = entry.file_name().into_string() else { continue };
                let kind = match entry.file_type() {
                    Ok(kind) => kind,
                    Err(e) if is_absent(&e) => continue,
                    Err(e) => return Err(Error::file("read", entry.path(), e)),
                };
                if kind.is_dir() {
                    queue.push((entry.path(), format!("{prefix}{name}/")));
                } else if is_ref_name(&format!("{prefix}{name}"))
                    && let Loose::Says(target) = self.read_loose(&entry.path())?
                {
                    let name = format!("{prefix}{name}");
                    if target.is_none() && name.starts_with(OURS) {
                        return Err(self.broken(&name));
                    }
                    loose.insert(name, target);
                }
            }
        }
        let mut found = BTreeMap::new();
        if let Some(packed) = self.packed_refs()? {
            let entries = packed.iter_prefixed(prefix.into()).map_err(|e| self.unread(e))?;
            for entry in entries {
                let entry = entry.map_err(|e| self.unread(e))?;
                let name = entry.name.as_bstr().to_string();
                if !loose.contains_key(&name) {
                    found.insert(name, from_gix(&entry.target()));
                }
            }
        }
        for (name, target) in loose {
            let id = match target {
                Some(Target::Object(id)) => Some(id),
                Some(Target::Ref(other)) => self.read_refs(&[&other])?.pop().flatten(),
                None => None,
            };
            found.extend(id.map(|id| (name, id)));
        }
        Ok(found.into_iter().collect())
    }

    /// The branch that `HEAD` of this checkout names; `None` when it is detached.
    pub(super) fn read_head(&self) -> Result<Option<String>, Error> {
        let path = self.git_dir().join("HEAD");
        match self.read_loose(&path)? {
            Loose::Says(Some(Target::Ref(branch))) => Ok(Some(branch)),
            Loose::Says(Some(Target::Object(_))) => Ok(None),
            Loose::Says(None) => Err(Error::file("understand", path, io::ErrorKind::InvalidData.into())),
            Loose::Absent => Err(Error::file("read", path, io::ErrorKind::NotFound.into())),
        }
    }

    /// A ref of ours whose file names no object, with where it was last, as far as that is known.
    fn broken(&self, name: &str) -> Error {
        let path = self.ref_path(name);
        let log = std::fs::read_to_string(self.common_dir().join("logs").join(name)).unwrap_or_default();
        let logged = log.lines().rev().find_map(|line| line.split(' ').nth(1)?.parse::<ObjectId>().ok());
        let known = logged.map(|id| ("its reflog".to_owned(), id)).or_else(|| self.seen_of_remotes(name));
        let way_out = match known.filter(|(_, id)| self.has_object(id)) {
            Some((by, id)) => format!(
                "delete that file, then: git update-ref {name} {id}   (where {by} has it; `git fsck --lost-found` names \
                 what came later)"
            ),
            None => "delete that file, then: git update-ref with a commit that `git fsck --lost-found` names"
                .to_owned(),
        };
        Error::BrokenRef { name: name.to_owned(), path, way_out }
    }

    /// Where a remote had a ref of ours when it was last asked, and what says so.
    fn seen_of_remotes(&self, name: &str) -> Option<(String, ObjectId)> {
        let part = format!("/{}", name.strip_prefix(OURS)?);
        // What is broken there too helps nobody.
        let seen = self.read_refs_below(&format!("{OURS}remotes/")).unwrap_or_default();
        seen.into_iter().find(|(seen, _)| seen.ends_with(&part) && seen != name)
    }

    fn packed_refs(&self) -> Result<Option<gix::refs::packed::Buffer>, Error> {
        self.gix.shared_refs().open_packed_buffer().map_err(|e| self.unread(e))
    }

    fn unread(&self, error: gix::Error) -> Error {
        Error::file("read", self.common_dir().join("packed-refs"), io::Error::other(error))
    }

    pub(super) fn read_loose(&self, path: &Path) -> Result<Loose, Error> {
        match std::fs::read(path) {
            Ok(content) => Ok(Loose::Says(self.parse_ref(&content))),
            Err(e) if is_absent(&e) => Ok(Loose::Absent),
            Err(e) => Err(Error::file("read", path, e)),
        }
    }

    fn parse_ref(&self, content: &[u8]) -> Option<Target> {
        if let Some(other) = content.strip_prefix(b"ref:") {
            let other = other.trim().to_str().ok()?;
            return is_ref_name(other).then(|| Target::Ref(other.to_owned()));
        }
        let id = content.get(..self.id_len())?;
        let ends = content.get(self.id_len()).is_none_or(u8::is_ascii_whitespace);
        let id: ObjectId = id.to_str().ok().filter(|_| ends)?.parse().ok()?;
        (!id.is_null()).then_some(Target::Object(id))
    }

    fn ref_path(&self, name: &str) -> PathBuf {
        let shared = name.starts_with("refs/") && !PER_WORKTREE.iter().any(|own| name.starts_with(own));
        if shared { self.common_dir() } else { self.git_dir() }.join(name)
    }
}

impl Repository {
    /// Whether it can be the full name of a ref.
    pub fn is_ref_name(name: &str) -> bool {
        is_ref_name(name)
    }
}

/// Whether it can be the name of a ref, so that no other file is taken for one.
pub(super) fn is_ref_name(name: &str) -> bool {
    name == "HEAD" || name.starts_with("refs/") && gix::refs::FullName::try_from(name).is_ok()
}

/// Whether an error says that there is no such file: another may have taken its place, or its directory's.
fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{IsADirectory, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | IsADirectory)
}

#[cfg(test)]
mod tests {
    use crate::git::testing::Sandbox;

    #[test]
    fn refs_are_what_git_says_they_are() {
        let sandbox = Sandbox::new(&[]);
        sandbox.git(&["commit", "-q", "--allow-empty", "-m", "one"]);
        let one = sandbox.git(&["rev-parse", "HEAD"]);
        for name in ["refs/x/packed", "refs/x/both", "refs/x/dir/packed"] {
            sandbox.git(&["update-ref", name, &one]);
        }
        sandbox.git(&["pack-refs", "--all"]);
        sandbox.git(&["commit", "-q", "--allow-empty", "-m", "two"]);
        let two = sandbox.git(&["rev-parse", "HEAD"]);
        for name in ["refs/x/both", "refs/x/loose", "refs/x/dir/loose"] {
            sandbox.git(&["update-ref", name, &two]);
        }
        sandbox.git(&["symbolic-ref", "refs/x/to", "refs/x/packed"]);
        sandbox.git(&["symbolic-ref", "refs/x/dangling", "refs/x/none"]);
        let repo = sandbox.open();
        let dir = repo.common_dir().join("refs/x");
        std::fs::write(dir.join("empty"), "").unwrap();
        std::fs::write(dir.join("loose.lock"), &two).unwrap();
        let format = ["for-each-ref", "--format=%(refname) %(objectname)", "refs/x/"];
        let list = || repo.list_refs("refs/x/").unwrap();
        let said: Vec<String> = list().into_iter().map(|(name, id)| format!("{name} {id}")).collect();
        assert_eq!(said.join("\n"), sandbox.git(&format), "{said:#?}");
        let names = ["both", "packed", "to", "none", "empty", "dangling", "dir", "packed/x", "dir/loose"];
        let names = names.map(|name| format!("refs/x/{name}"));
        let names: Vec<&str> = names.iter().map(String::as_str).chain(["HEAD"]).collect();
        let found: Vec<Option<String>> =
            names.iter().map(|name| repo.find_ref(name).unwrap().map(|id| id.to_string())).collect();
        let (one, two) = (Some(one), Some(two));
        let wanted = [&two, &one, &one, &None, &None, &None, &None, &None, &two, &two];
        assert_eq!(found.iter().collect::<Vec<_>>(), wanted);
        let together = repo.find_refs(&names).unwrap();
        assert_eq!(together.into_iter().map(|id| id.map(|id| id.to_string())).collect::<Vec<_>>(), found);
    }

    #[test]
    fn what_cannot_be_read_is_no_absence() {
        let sandbox = Sandbox::new(&[]);
        sandbox.git(&["commit", "-q", "--allow-empty", "-m", "one"]);
        sandbox.git(&["update-ref", "refs/x/dir/a", "HEAD"]);
        let repo = sandbox.open();
        // A link to itself cannot be opened by anybody, whoever runs the tests.
        let loops = repo.common_dir().join("refs/x/b");
        std::os::unix::fs::symlink(&loops, &loops).unwrap();
        let words = |error: crate::git::Error| error.to_string();
        assert!(words(repo.find_ref("refs/x/b").unwrap_err()).ends_with("refs/x/b"));
        assert!(words(repo.find_refs(&["refs/x/dir/a", "refs/x/b"]).unwrap_err()).ends_with("refs/x/b"));
        assert!(words(repo.list_refs("refs/x/").unwrap_err()).ends_with("refs/x/b"));
        std::fs::remove_file(&loops).unwrap();
        assert_eq!(repo.list_refs("refs/x/").unwrap().len(), 1);
        let packed = repo.common_dir().join("packed-refs");
        std::os::unix::fs::symlink(&packed, &packed).unwrap();
        for failed in [repo.find_ref("refs/x/none").unwrap_err(), repo.list_refs("refs/x/").unwrap_err()] {
            assert!(words(failed).ends_with("packed-refs"));
        }
        std::fs::remove_file(&packed).unwrap();
        assert_eq!(repo.find_ref("refs/x/none").unwrap(), None);
    }

    #[test]
    fn a_ref_of_ours_that_says_nothing_is_no_absence() {
        let sandbox = Sandbox::new(&[]);
        sandbox.git(&["commit", "-q", "--allow-empty", "-m", "one"]);
        let one = sandbox.git(&["rev-parse", "HEAD"]);
        sandbox.git(&["update-ref", "refs/orchestra/a", "HEAD"]);
        let repo = sandbox.open();
        let file = repo.common_dir().join("refs/orchestra/a");
        for broken in ["", "garbage\n", "\0\0\0\0"] {
            std::fs::write(&file, broken).unwrap();
            for error in [
                repo.find_ref("refs/orchestra/a").unwrap_err(),
                repo.find_refs(&["HEAD", "refs/orchestra/a"]).unwrap_err(),
                repo.list_refs("refs/orchestra/").unwrap_err(),
            ] {
                assert!(error.to_string().ends_with("refs/orchestra/a names no object"), "{error}");
                assert!(error.way_out().unwrap().contains("fsck"), "{error:?}");
            }
        }
        // Where a remote had it is told, of this ref and no other.
        sandbox.git(&["update-ref", "refs/orchestra/remotes/origin/b", "HEAD"]);
        let helps = || repo.find_ref("refs/orchestra/a").unwrap_err().way_out().unwrap().to_owned();
        assert!(!helps().contains(&one));
        sandbox.git(&["update-ref", "refs/orchestra/remotes/origin/a", "HEAD"]);
        assert!(helps().contains(&format!("git update-ref refs/orchestra/a {one}")), "{}", helps());
        std::fs::remove_file(&file).unwrap();
        assert_eq!(repo.find_ref("refs/orchestra/a").unwrap(), None);
    }
}

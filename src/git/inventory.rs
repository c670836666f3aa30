//! What kind of repository this is, which git serves it, and how its objects lie on disk.

use super::repository::RefFormat;
use super::{Error, Repository};
use crate::model::ObjectId;
use bstr::ByteSlice;
use std::path::PathBuf;
use std::time::SystemTime;

/// What kind of repository it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub struct RepositoryKind {
    /// Whether it has no checkout of its own.
    pub bare: bool,
    /// Whether refs are in a reftable.
    pub reftable: bool,
    /// Whether objects are named by SHA-256.
    pub sha256: bool,
    /// Whether its history is cut off somewhere.
    pub shallow: bool,
    /// Whether objects are fetched only when they are needed.
    pub partial: bool,
}

/// How objects lie on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ObjectCounts {
    /// Objects in a file each.
    pub loose: u64,
    /// Bytes of these.
    pub loose_bytes: u64,
    /// Packs.
    pub packs: u64,
    /// Bytes of packs.
    pub pack_bytes: u64,
    /// Files among the objects that are none.
    pub garbage: u64,
}

impl Repository {
    /// What `git version` says, and its numbers; no numbers for what no release is called.
    pub fn git_version(&self) -> Result<(String, Option<(u32, u32)>), Error> {
        let text = self.read(["version"])?;
        let mut numbers = text.split_ascii_whitespace().nth(2).unwrap_or_default().split('.');
        let mut number = || numbers.next()?.parse().ok();
        let version = number().zip(number());
        Ok((text.strip_prefix("git version ").unwrap_or(&text).to_owned(), version))
    }

    /// What kind of repository it is.
    pub fn kind(&self) -> RepositoryKind {
        RepositoryKind {
            bare: self.gix.is_bare(),
            reftable: self.refs == RefFormat::Other,
            sha256: self.id_len() == 64,
            shallow: self.common_dir().join("shallow").exists(),
            partial: self.config("extensions.partialClone").is_some(),
        }
    }

    /// How objects lie on disk, by `git count-objects`.
    pub fn count_objects(&self) -> Result<ObjectCounts, Error> {
        let out = self.git(["count-objects", "-v"]).read()?;
        let mut counts = ObjectCounts::default();
        for line in out.lines() {
            let line = line.to_str_lossy();
            let Some((key, value)) = line.split_once(": ") else { continue };
            let Ok(value) = value.trim().parse::<u64>() else { continue };
            match key {
                "count" => counts.loose = value,
                // Of 1,024 bytes.
                "size" => counts.loose_bytes = value << 10,
                "packs" => counts.packs = value,
                "size-pack" => counts.pack_bytes = value << 10,
                "garbage" => counts.garbage = value,
                _ => {}
            }
        }
        Ok(counts)
    }

    /// Whether everything that `tips` reach is there. The error has git's words for what is not.
    pub fn require_connected(&self, tips: &[ObjectId]) -> Result<(), Error> {
        let input = tips.iter().map(ObjectId::as_str).collect::<Vec<_>>().join("\n");
        let command = self.git(["rev-list", "--objects", "--quiet", "--stdin"]).stdin(input);
        command.read().map(drop).map_err(Into::into)
    }

    /// When somebody's git last packed objects here, by the newest pack.
    pub fn last_packed(&self) -> Option<SystemTime> {
        let packs: Vec<PathBuf> = std::fs::read_dir(self.common_dir().join("objects/pack"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|end| end == "pack"))
            .collect();
        packs.iter().filter_map(|path| path.metadata().ok()?.modified().ok()).max()
    }
}

#[cfg(test)]
mod tests {
    use crate::git::testing::{FORMATS, Sandbox};

    #[test]
    fn the_repository_is_described_as_git_describes_it() {
        for format in FORMATS {
            let sandbox = Sandbox::new(&format);
            let repository = sandbox.open();
            let kind = repository.kind();
            assert_eq!(
                (kind.reftable, kind.sha256),
                (format[0].ends_with("table"), format[1].ends_with("256"))
            );
            assert!(!kind.bare && !kind.shallow && !kind.partial);
            let (text, version) = repository.git_version().unwrap();
            assert!(sandbox.git(&["version"]).ends_with(&text) && version.is_some_and(|v| v >= (2, 39)));
            let counts = repository.count_objects().unwrap();
            assert_eq!((counts.loose, counts.packs), (2, 0));
            let head = repository.resolve_commit("HEAD").unwrap();
            repository.require_connected(std::slice::from_ref(&head)).unwrap();
            std::fs::write(sandbox.path().join("file"), "content").unwrap();
            sandbox.git(&["add", "file"]);
            sandbox.git(&["commit", "-q", "-m", "file"]);
            let head = repository.resolve_commit("HEAD").unwrap();
            repository.require_connected(std::slice::from_ref(&head)).unwrap();
            let blob = sandbox.git(&["rev-parse", "HEAD:file"]);
            let (first, rest) = blob.split_at(2);
            std::fs::remove_file(repository.common_dir().join("objects").join(first).join(rest)).unwrap();
            assert!(sandbox.open().require_connected(&[head]).is_err());
        }
    }
}
